"""Tiles of a region, and their maps put together again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_ad.errors import ConfigError
from edge_ad.preprocess import Stitch, pixels_per_input, tile_boxes, tile_names


@given(
    st.integers(0, 50),
    st.integers(16, 300),
    st.integers(16, 300),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(0, 40),
)
def test_tiles_are_equal_and_cover_the_region(
    at: int, width: int, height: int, tiles: tuple[int, int], overlap: int
) -> None:
    try:
        boxes = tile_boxes((at, 2 * at, width, height), tiles, overlap)
    except ConfigError:
        return
    assert len(boxes) == tiles[0] * tiles[1]
    assert len({box[2:] for box in boxes}) == 1
    for axis, (first, side) in enumerate(((at, width), (2 * at, height))):
        line = boxes[: tiles[1]] if axis == 0 else boxes[:: tiles[1]]
        starts, length = [box[axis] for box in line], line[0][2 + axis]
        assert starts[0] == first
        assert starts[-1] + length == first + side
        assert all(a + length - b >= overlap for a, b in pairwise(starts))


def test_a_five_megapixel_frame() -> None:
    boxes = tile_boxes((0, 0, 2448, 2048), (8, 10), 16)
    assert boxes[0] == (0, 0, 260, 270)
    assert boxes[11] == (243, 254, 260, 270)
    assert boxes[-1] == (2188, 1778, 260, 270)
    assert pixels_per_input(boxes[0], 256, 256) == pytest.approx(270 / 256)
    assert pixels_per_input((0, 0, 2448, 2048), 256, 256) == pytest.approx(2448 / 256)


@pytest.mark.parametrize(
    ("tiles", "overlap", "expected"),
    [
        (
            (1, 3),
            90,
            r"3 columns of tiles that overlap by 90 px do not fit into 100 px: each would be 94",
        ),
        ((3, 1), 200, r"3 rows .* do not fit into 60 px: each would be 154 px long .* fewer tiles"),
        ((1, 20), 0, r"20 columns of tiles in 100 px are 5 px each, at least 8 are needed"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(tiles: tuple[int, int], overlap: int, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        tile_boxes((5, 5, 100, 60), tiles, overlap)


def test_names() -> None:
    assert tile_names("top", (1, 1)) == ["top"]
    assert tile_names("top", (2, 2)) == ["top/1.1", "top/1.2", "top/2.1", "top/2.2"]


REGION = (10, 20, 200, 120)


@pytest.mark.parametrize("overlap", [0, 7, 20])
@pytest.mark.parametrize("tiles", [(1, 2), (2, 1), (3, 4)])
def test_a_cell_of_a_tile_comes_to_lie_where_the_tile_lies(tiles: tuple[int, int], overlap: int) -> None:
    boxes, grid = tile_boxes(REGION, tiles, overlap), (4, 6)
    stitch = Stitch(REGION, boxes, tiles, grid)
    for tile, (x, y, width, height) in enumerate(boxes):
        for row, column in ((0, 0), (1, 2), (3, 5)):
            maps = np.zeros((len(boxes), *grid), np.float32)
            maps[tile, row, column] = 1.0
            whole = stitch(maps)
            assert whole.shape == stitch.shape
            hot = np.argwhere(whole > 0)
            assert len(hot)
            # Middle of the hot cells in frame pixels, against the middle of the tile's cell.
            size = np.array([REGION[3], REGION[2]]) / whole.shape
            found = (hot.mean(axis=0) + 0.5) * size + [REGION[1], REGION[0]]
            cell = np.array([height, width]) / grid
            wanted = np.array([y, x]) + (np.array([row, column]) + 0.5) * cell
            assert (np.abs(found - wanted) <= 0.51 * (cell + size)).all()


def test_every_cell_of_the_map_is_a_cell_of_a_tile_and_where_tiles_overlap_the_larger() -> None:
    boxes = tile_boxes(REGION, (2, 3), 16)
    stitch = Stitch(REGION, boxes, (2, 3), (4, 4))
    maps = np.random.default_rng(0).normal(size=(6, 4, 4)).astype(np.float32)
    whole = stitch(maps)
    assert set(whole.ravel()) <= set(maps.ravel())
    x, y, width, height = REGION
    rows, columns = whole.shape
    for row in range(rows):
        for column in range(columns):
            middle = (x + (column + 0.5) * width / columns, y + (row + 0.5) * height / rows)
            covering = [
                maps[i, int((middle[1] - b[1]) * 4 / b[3]), int((middle[0] - b[0]) * 4 / b[2])]
                for i, b in enumerate(boxes)
                if b[0] <= middle[0] < b[0] + b[2] and b[1] <= middle[1] < b[1] + b[3]
            ]
            assert whole[row, column] == max(covering)


@given(
    st.integers(16, 300),
    st.integers(16, 300),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(0, 30),
)
@example(width=16, height=32, tiles=(5, 1), overlap=1)  # middles that lie on borders
@example(width=16, height=20, tiles=(5, 1), overlap=4)  # three of them overlap
def test_no_cell_of_a_tile_is_left_out(
    width: int, height: int, tiles: tuple[int, int], overlap: int
) -> None:
    """Or what stands out there alone could not be found."""
    region = (0, 0, width, height)
    try:
        boxes = tile_boxes(region, tiles, overlap)
    except ConfigError:
        return
    numbers = np.arange(len(boxes) * 12, dtype=np.float32).reshape(-1, 3, 4)
    stitch = Stitch(region, boxes, tiles, (3, 4))
    for number in numbers.ravel():
        assert (stitch((numbers == number).astype(np.float32)) > 0).any()


def test_nan_is_not_hidden_by_a_neighbour() -> None:
    boxes = tile_boxes(REGION, (1, 2), 60)
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0, :, 3] = np.nan
    assert np.isnan(Stitch(REGION, boxes, (1, 2), (4, 4))(maps)).any()
