"""What two bundles said of the same parts, on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_ad.errors import ArtifactError
from edge_ad.shadow import log
from edge_ad.shadow.log import Pair, append, compare, log_path, read_pairs


def pair(seq: int, verdict: str = "PASS", shadow: str = "PASS", bundle: str = "b1") -> Pair:
    return Pair(f"P{seq}", "e", seq, 0, bundle, "openvino-f32", verdict, "", 0.5, shadow, "", 1.5)


def test_how_far_both_agree(tmp_path: Path) -> None:
    path = log_path(tmp_path, "disc", "b2")
    assert compare(path, "b1", 5) == log.Comparison(0, 0, {}, [])
    said = [("PASS", "PASS")] * 5 + [("PASS", "REJECT")] * 3 + [("REJECT", "PASS"), ("PASS", "FAULT")]
    for seq, (verdict, shadow) in enumerate(said):
        append(path, pair(seq, verdict, shadow))
    append(path, pair(99, "PASS", "REJECT", bundle="before"))
    found = compare(path, "b1", 2)
    assert (found.parts, found.agree) == (10, 5)
    assert found.changed == {"PASS -> REJECT": 3, "REJECT -> PASS": 1, "PASS -> FAULT": 1}
    assert [one.part for one in found.disagreeing] == ["P8", "P9"]
    assert compare(path, "b1", 0).disagreeing == []
    assert compare(path, "", 0).parts == 11


def test_a_line_that_was_cut_off_is_skipped(tmp_path: Path) -> None:
    path = log_path(tmp_path, "disc", "b2")
    for seq in range(3):
        append(path, pair(seq))
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(data[0] + data[1][:30] + b"\n" + data[2])
    assert [one.seq for one in read_pairs(path)] == [0, 2]
    path.write_bytes(path.read_bytes()[:-30])
    append(path, pair(3))
    assert [one.seq for one in read_pairs(path)] == [0, 3]


def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 2_000)
    path = log_path(tmp_path, "disc", "b2")
    for seq in range(200):
        append(path, pair(seq))
    files = list(path.parent.iterdir())
    assert len(files) == 2
    assert all(file.stat().st_size < 2_400 for file in files)
    seen = [one.seq for one in read_pairs(path)]
    assert seen == list(range(seen[0], 200))
    assert len(seen) > 15


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = log_path(tmp_path, "disc", "b2")
    path.mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"b2\.jsonl: .*; give the right"):
        list(read_pairs(path))
