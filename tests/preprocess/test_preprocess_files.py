"""Picture files as network inputs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.capture.pixels import file_rule
from edge_ad.config import View
from edge_ad.errors import CaptureError, ConfigError
from edge_ad.preprocess import PartInput
from edge_ad.preprocess.files import network_inputs

RULE = file_rule("auto")
WHOLE = (View(name="v", camera="top"),)
MOST_PIXELS = 1_000_000


def _write(directory: Path, count: int, first: int = 0, side: int = 40) -> None:
    directory.mkdir(exist_ok=True)
    for number in range(first, first + count):
        image = np.full((side, side), number, np.uint8)
        assert cv2.imwrite(str(directory / f"{number:03d}.png"), image)


def _greys(inputs: list[np.ndarray]) -> list[list[int]]:
    return [[int(row[0, 0, 0]) for row in one] for one in inputs]


def test_parts_become_batches_and_the_last_is_filled_from_the_first(tmp_path: Path) -> None:
    _write(tmp_path, 5)
    inputs = network_inputs(tmp_path, WHOLE, {"top": RULE}, (32, 32), 3, 100, MOST_PIXELS)
    assert [one.shape for one in inputs] == [(3, 32, 32, 3)] * 2
    assert {one.dtype for one in inputs} == {np.dtype(np.uint8)}
    assert _greys(inputs) == [[0, 1, 2], [3, 4, 0]]


def test_too_many_are_taken_evenly_out_of_all(tmp_path: Path) -> None:
    _write(tmp_path, 21)
    inputs = network_inputs(tmp_path, WHOLE, {"top": RULE}, (32, 32), 1, 5, MOST_PIXELS)
    assert _greys(inputs) == [[0], [5], [10], [15], [20]]


def test_views_are_cut_as_the_daemon_cuts_them(tmp_path: Path) -> None:
    """Two cameras, one of them in two tiles: three rows of one part."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in range(2)]
    for name, image in zip(("top", "side"), images, strict=True):
        (tmp_path / name).mkdir()
        assert cv2.imwrite(str(tmp_path / name / "0.png"), image)
    views = (View(name="a", camera="side", tiles=(1, 2)), View(name="b", camera="top"))
    (ours,) = network_inputs(tmp_path, views, {"top": RULE, "side": RULE}, (32, 32), 3, 9, MOST_PIXELS)
    expected = np.zeros((3, 32, 32, 3), np.uint8)
    PartInput(views, ["top", "side"], 32, 32).fill(images, expected)
    np.testing.assert_array_equal(ours, expected)


def test_cameras_need_as_many_pictures_each(tmp_path: Path) -> None:
    _write(tmp_path / "top", 2)
    _write(tmp_path / "side", 3)
    views = (*WHOLE, View(name="w", camera="side"))
    with pytest.raises(CaptureError, match=r"different numbers of pictures \(top 2, side 3\)"):
        network_inputs(tmp_path, views, {"top": RULE, "side": RULE}, (32, 32), 2, 9, MOST_PIXELS)


def test_what_cannot_be_read_or_cut_is_named(tmp_path: Path) -> None:
    _write(tmp_path, 1)
    cornered = (View(name="v", camera="top", roi=(30, 30, 20, 20)),)
    with pytest.raises(ConfigError, match=r"view v|'v'"):
        network_inputs(tmp_path, cornered, {"top": RULE}, (32, 32), 1, 9, MOST_PIXELS)
    (tmp_path / "001.png").write_bytes(b"")
    with pytest.raises(CaptureError, match=r"001.png: the file is empty"):
        network_inputs(tmp_path, WHOLE, {"top": RULE}, (32, 32), 1, 9, MOST_PIXELS)
