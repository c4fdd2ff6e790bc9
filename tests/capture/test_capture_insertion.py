"""Defects of a given size: their extent, their contrast, and that they change nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.capture.insertion import KINDS, LENGTH, LONGEST, ROOM, draw, insert, white

SIZES = (1.0, 1.5, 2.0, 3.0, 6.0, 12.0, 24.0, 48.0)


def reliefs(kind: str, size: float, side: int = 2000, count: int = 24) -> list[np.ndarray]:
    return [draw(kind, np.random.default_rng(seed), size, side) for seed in range(count)]


@pytest.mark.parametrize("size", SIZES)
def test_a_pit_is_as_wide_as_asked(size: float) -> None:
    for relief in reliefs("pit", size):
        # At most a soft rim and a pixel that is touched on each side more.
        assert all(size - 1 <= side <= 1.15 * size + 2 for side in relief.shape)
        if size >= 2:
            plain = np.abs(relief) > 0.3
            assert np.ptp(np.nonzero(plain.any(axis=0))) + 1 == pytest.approx(size, abs=1.5)
            assert np.ptp(np.nonzero(plain.any(axis=1))) + 1 == pytest.approx(size, abs=1.5)


@pytest.mark.parametrize("size", SIZES)
def test_a_stain_covers_a_disc_s_area(size: float) -> None:
    for relief in reliefs("stain", size):
        assert np.sqrt(-relief.sum() * 4 / np.pi) == pytest.approx(size, rel=0.05)
        assert all(side <= 1.6 * size + 2 for side in relief.shape)


@pytest.mark.parametrize("size", [size for size in SIZES if size >= 2])
def test_a_scratch_has_its_width_and_length(size: float) -> None:
    for relief in reliefs("scratch", size):
        y, x = np.nonzero(np.abs(relief) > 0.3)
        turned = np.stack([x, y], axis=1) - np.mean([x, y], axis=1)
        along = turned @ np.linalg.svd(turned, full_matrices=False)[2][0]
        length = np.ptp(along) + 1
        assert length == pytest.approx(LENGTH * size, rel=0.06, abs=2)
        assert len(x) / length == pytest.approx(size, rel=0.12, abs=0.75)


def test_a_scratch_is_no_longer_than_there_is_room_for() -> None:
    for size in (4.0, 16.0, 30.0):
        longest = max(max(relief.shape) for relief in reliefs("scratch", size, side=90))
        assert longest <= LONGEST * 90 + 3


@pytest.mark.parametrize("kind", KINDS)
def test_it_fits_where_there_is_room_for_it(kind: str) -> None:
    for side in (8, 11, 24, 97, 480):
        for relief in reliefs(kind, side / ROOM, side, 40):
            assert max(relief.shape) <= side


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 3)])
def test_only_its_place_is_altered(kind: str, shape: tuple[int, ...]) -> None:
    before = np.random.default_rng(1).integers(90, 160, shape, np.uint8)
    kept = before.copy()
    relief = draw(kind, np.random.default_rng(2), 5.0, 60)
    step = 0.3 * white(before)
    after = insert(before, relief, 11, 7, step)
    np.testing.assert_array_equal(before, kept)
    change = after.astype(float) - before
    assert np.abs(change).max() == pytest.approx(0.3 * 159, abs=1.5)
    height, width = relief.shape
    change[7 : 7 + height, 11 : 11 + width] = 0
    assert not change.any()


def test_where_it_lies_between_pixels_differs() -> None:
    assert len({relief.tobytes() for relief in reliefs("pit", 2.0)}) == 24


def test_contrast_is_the_same_on_dark_and_on_bright_ground() -> None:
    for kind in KINDS:
        relief = draw(kind, np.random.default_rng(3), 8.0, 200)
        most = [
            np.abs(insert(ground, relief, 5, 5, np.array([50.0])).astype(float) - ground).max()
            for ground in (np.full((200, 200), grey, np.uint8) for grey in (0, 100, 255))
        ]
        assert min(most) >= 49
    dark = insert(np.full((40, 40), 100, np.uint8), draw("pit", np.random.default_rng(0), 8, 40), 9, 9,
                  np.array([50.0]))  # fmt: skip
    assert dark.min() == 50


def test_white_is_of_each_channel() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[:, :, 0], image[:, :5, 1], image[0, 0, 2] = 40, 200, 255
    assert white(image).tolist() == [40, 200, 0]
    assert white(np.full((3, 3), 7, np.uint8)).tolist() == [7]
