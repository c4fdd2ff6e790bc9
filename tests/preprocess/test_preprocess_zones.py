"""Which position lies in which zone, and what is painted over."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.config import View
from edge_ad.errors import ConfigError
from edge_ad.preprocess import PartInput, tile_boxes
from edge_ad.preprocess.zones import PAINT, tile_labels, tile_masks


def drawn() -> np.ndarray:
    """64 x 96: value 1 on the left third, value 2 in a corner, value 3 a few pixels."""
    image = np.zeros((64, 96), np.uint8)
    image[:, :32] = 1
    image[40:, 70:] = 2
    image[5:8, 50:53] = 3
    return image


def test_a_position_is_of_what_most_of_it_is_in() -> None:
    boxes = tile_boxes((0, 0, 96, 64), (1, 1), 0)
    labels = tile_labels(drawn(), boxes, (4, 6), {1: -1, 2: 5}).reshape(4, 6)
    assert (labels[:, :2] == -1).all()
    # Columns of 16 px: 64 to 80 has 10 of 16 in the corner, rows 40 to 64 from the middle of row 2 on.
    assert labels[3, 4] == labels[3, 5] == 5
    assert labels[2, 5] in (0, 5)  # half of it
    assert (labels[:2, 2:] == 0).all()  # value 3 means nothing, and would be too small
    assert (tile_labels(drawn(), boxes, (4, 6), {}) == 0).all()


def test_tiles_have_positions_of_their_own() -> None:
    boxes = tile_boxes((0, 0, 96, 64), (2, 3), 0)
    labels = tile_labels(drawn(), boxes, (2, 2), {1: 7})
    assert labels.shape == (6, 4)
    assert (labels[[0, 3]] == 7).all()
    assert (labels[[1, 2, 4, 5]] == 0).all()


@pytest.mark.parametrize("size", [(64, 96), (32, 48), (24, 24), (150, 200)])
def test_whatever_shows_something_of_it_is_painted(size: tuple[int, int]) -> None:
    """A picture that differs in the zone alone is the same to the network, wherever tiles lie."""
    image = np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8)
    other = image.copy()
    zones = drawn()
    other[(zones == 2) | (zones == 3)] ^= 255
    view = View(name="v", camera="a", roi=(3, 1, 91, 62), tiles=(2, 2), overlap=4)
    part = PartInput([view], ["a"], *size, 1, {"a": (zones, [2, 3])})
    first, second = (np.zeros((4, *size, 3), np.uint8) for _ in range(2))
    part.fill([image], first)
    part.fill([other], second)
    np.testing.assert_array_equal(first, second)
    plain = PartInput([view], ["a"], *size)
    bare = np.zeros_like(first)
    plain.fill([image], bare)
    changed = (first != bare).any(axis=-1)
    assert (first[changed] == PAINT).all()
    assert 0.05 < changed.mean() < 0.35  # the corner and the few pixels, and their rims


def test_nothing_is_painted_where_nothing_is_ignored() -> None:
    boxes = tile_boxes((0, 0, 96, 64), (2, 3), 0)
    masks = tile_masks(drawn(), boxes, (32, 32), [3])
    assert [mask is None for mask in masks] == [True, False, True, True, True, True]
    assert all(mask is None for mask in tile_masks(drawn(), boxes, (32, 32), []))


def test_zones_of_another_frame_are_refused() -> None:
    part = PartInput([View(name="v", camera="a")], ["a"], 32, 32, 1, {"a": (drawn(), [2])})
    with pytest.raises(ConfigError, match="zones of 96 x 64 px in a frame of 96 x 60 px"):
        part.fit([np.zeros((60, 96), np.uint8)])


@pytest.mark.parametrize("across", [True, False])
def test_a_thin_zone_is_painted_where_one_side_alone_is_shrunk(across: bool) -> None:
    """A line of one pixel across the shrunk side, which bilinear interpolation may step over."""
    for line in range(200, 232):
        zones = np.zeros((512, 24), np.uint8)
        zones[line] = 2
        if not across:
            zones = np.ascontiguousarray(zones.T)
        image = np.random.default_rng(line).integers(0, 256, zones.shape, dtype=np.uint8)
        other = np.where(zones == 2, 255 - image, image)
        part = PartInput([View(name="v", camera="a")], ["a"], 64, 64, 1, {"a": (zones, [2])})
        first, second = (np.zeros((1, 64, 64, 3), np.uint8) for _ in range(2))
        part.fill([image], first)
        part.fill([other], second)
        np.testing.assert_array_equal(first, second)


def test_what_is_not_most_of_a_position_may_be_left_to_the_rest() -> None:
    """A third each: one of them is most, but none is more than half."""
    image = np.repeat(np.array([0] * 33 + [1] * 34 + [2] * 33, np.uint8)[None], 10, axis=0)
    box = [(0, 0, 100, 10)]
    assert tile_labels(image, box, (1, 1), {1: 5, 2: 6}).tolist() == [[5]]
    assert tile_labels(image, box, (1, 1), {1: 5, 2: 6}, least=0.5).tolist() == [[0]]
    image[:, 20:33] = 1
    image[:, 67:73] = 1
    assert tile_labels(image, box, (1, 1), {1: 5, 2: 6}, least=0.5).tolist() == [[5]]
