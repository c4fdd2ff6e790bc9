"""Which pictures are which kind of defect."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_ad.errors import CaptureError
from edge_ad.qualify.find import empty_folders, find_groups, leave_good_out


def touch(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(b"")
    return directory


def names(directory: Path, cameras: list[str]) -> dict[str, list[str]]:
    groups, _ = find_groups(directory, cameras, "defect")
    return {kind: [part.source for part in parts] for kind, parts in groups.items()}


def test_folders_are_kinds_and_pictures_beside_them_are_defects(tmp_path: Path) -> None:
    touch(tmp_path, "dent/b.png", "dent/day1/a.png", "x.png", "stain/c.bmp", "stain/notes.txt")
    assert names(tmp_path, ["top"]) == {
        "dent": ["dent/b.png", "dent/day1/a.png"], "stain": ["stain/c.bmp"], "defect": ["x.png"],
    }  # fmt: skip
    (tmp_path / "crack").mkdir()
    groups, _ = find_groups(tmp_path, ["top"], "defect")
    assert empty_folders(tmp_path, groups, ["top"]) == ["crack"]


@pytest.mark.parametrize("outer", ["kind", "camera"])
def test_several_cameras(tmp_path: Path, outer: str) -> None:
    for kind, name in (("dent", "1.png"), ("dent", "2.png"), ("stain", "1.png")):
        for camera in ("top", "side"):
            place = f"{kind}/{camera}" if outer == "kind" else f"{camera}/{kind}"
            touch(tmp_path, f"{place}/{name}")
    touch(tmp_path, f"{'dent/top' if outer == 'kind' else 'top/dent'}/3.png")
    groups, left_out = find_groups(tmp_path, ["top", "side"], "defect")
    assert {kind: len(parts) for kind, parts in groups.items()} == {"dent": 2, "stain": 1}
    part = groups["dent"][1]
    assert part.source == "dent/2.png"
    assert {c: Path(os.fsdecode(f)).name for c, f in part.files.items()} == {
        "top": "2.png",
        "side": "2.png",
    }
    assert [(one.source, one.why) for one in left_out] == [("dent/3.png", "incomplete")]
    assert empty_folders(tmp_path, groups, ["top", "side"]) == []


def test_several_cameras_without_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "dent/1.png")
    with pytest.raises(CaptureError, match=r"no folder with one folder per camera.*calibrate --from"):
        find_groups(tmp_path, ["top", "side"], "defect")
    with pytest.raises(CaptureError, match="no such directory"):
        find_groups(tmp_path / "none", ["top", "side"], "defect")


def test_good_parts_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "good/1.png", "good/2.png", "dent/1.png")
    groups, _ = find_groups(tmp_path, ["top"], "defect")
    bad, left_out = leave_good_out(groups, tmp_path)
    assert list(bad) == ["dent"]
    assert [(one.source, one.why) for one in left_out] == [
        ("good/1.png", "good"),
        ("good/2.png", "good"),
    ]
    with pytest.raises(CaptureError, match="give known-bad ones"):
        leave_good_out({"good": groups["good"]}, tmp_path)


@pytest.mark.parametrize("make", [True, False])
def test_nothing_there(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "bad").mkdir()
    with pytest.raises(CaptureError, match="no images in the folder" if make else "no such directory"):
        find_groups(tmp_path / "bad", ["top"], "defect")
