"""Masks: where they lie, which count, and what is said about the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ad.errors import CaptureError
from edge_ad.evaluate.masks import find_mask, find_masks, read_mask


def write(path: Path, image: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path


def square(value: int, height: int = 20, width: int = 30) -> Any:
    image = np.zeros((height, width), np.uint8)
    image[4:9, 5:11] = value
    return image


@pytest.mark.parametrize("name", ["007_mask.png", "007.png", "007_mask.bmp", "007.PNG"])
def test_a_mask_is_found_by_its_images_stem(tmp_path: Path, name: str) -> None:
    image = write(tmp_path / "test/dent/007.jpg", square(9))
    mask = write(tmp_path / "ground_truth/dent" / name, square(255))
    assert find_mask(tmp_path, image) == mask
    found = find_masks(tmp_path, [image])
    assert found is not None and found.files == {image: mask}


def test_mvtecs_own_name_comes_before_the_images(tmp_path: Path) -> None:
    image = write(tmp_path / "test/dent/deep/007.png", square(9))
    write(tmp_path / "ground_truth/dent/deep/007.png", square(255))
    mask = write(tmp_path / "ground_truth/dent/deep/007_mask.png", square(255))
    assert find_mask(tmp_path, image) == mask


def test_only_what_is_brighter_than_127_is_defect(tmp_path: Path) -> None:
    image = square(128)
    image[0, 0] = 127
    assert read_mask(write(tmp_path / "grey.png", image)).sum() == 30
    coloured = np.dstack([square(0), square(0), square(200)])
    assert read_mask(write(tmp_path / "red.png", coloured)).sum() == 30


def test_what_has_no_usable_mask_is_listed_with_its_reason(tmp_path: Path) -> None:
    images = [write(tmp_path / f"test/dent/{i}.png", square(9)) for i in range(4)]
    write(tmp_path / "ground_truth/dent/0_mask.png", square(255))
    write(tmp_path / "ground_truth/dent/1_mask.png", square(1))
    (tmp_path / "ground_truth/dent/2_mask.png").write_bytes(b"no image")
    found = find_masks(tmp_path, images)
    assert found is not None
    assert list(found.files) == images[:1]
    assert found.empty == ["ground_truth/dent/1_mask.png: no pixel above 127 (highest 1)"]
    assert found.missing == ["test/dent/3.png"]
    [line] = found.unreadable
    assert "2_mask.png: not a PNG" in line


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    image = write(tmp_path / "test/dent/0.png", square(9))
    write(tmp_path / "ground_truth/dent/0_mask.png", square(255, 20, 31))
    with pytest.raises(CaptureError) as error:
        find_masks(tmp_path, [image])
    for word in ("dent/0_mask.png", "31 x 20 px", "test/dent/0.png", "30 x 20 px", "image's size"):
        assert word in str(error.value)


def test_a_data_set_without_ground_truth_has_none(tmp_path: Path) -> None:
    assert find_masks(tmp_path, [write(tmp_path / "test/dent/0.png", square(9))]) is None
