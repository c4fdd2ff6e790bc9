"""Which half a defect belongs to, and what a class holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from made_up_dataset import write_class

from edge_ad.errors import CaptureError
from edge_ad.evaluate.dataset import find_datasets, half, take_split


def test_a_half_is_the_parity_of_the_names_hash_wherever_the_file_lies() -> None:
    for name in ("exp1_num_4727.jpg", "000.png", "ä.png"):
        parity = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2
        assert half(Path("/anywhere") / name) == half(Path(name)) == ("odd" if parity else "even")


def test_only_defects_are_split(tmp_path: Path) -> None:
    [whole] = find_datasets(write_class(tmp_path / "plates", train=3, good=2)).classes
    even, odd = take_split(whole, "even"), take_split(whole, "odd")
    assert take_split(whole, "all") is whole
    assert even.good == odd.good == whole.good and even.train == whole.train
    for kind, paths in whole.defects.items():
        assert sorted(even.defects.get(kind, []) + odd.defects.get(kind, [])) == paths
    assert even.size + odd.size == whole.size + 5


def test_a_half_without_a_defect_is_refused(tmp_path: Path) -> None:
    root = write_class(tmp_path / "plates", train=3, good=2)
    for path in [p for p in root.glob("test/s*/*.png") if half(p) == "odd"]:
        path.unlink()
    [whole] = find_datasets(root).classes
    with pytest.raises(CaptureError, match="no defect's file name falls into the odd half"):
        take_split(whole, "odd")


def test_a_class_is_called_what_its_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_class(tmp_path / "plates", train=3, good=2)
    (tmp_path / "grid").symlink_to(root)
    (tmp_path / "plates/below").mkdir()
    assert [d.name for d in find_datasets(tmp_path).classes] == ["grid", "plates"]
    monkeypatch.chdir(root)
    assert find_datasets(Path()).classes[0].name == "plates"
    monkeypatch.chdir(root / "below")
    assert find_datasets(Path("..")).classes[0].name == "plates"
