"""A view's region cut into equal tiles, and their anomaly maps put together again.

A 5-megapixel frame squeezed to the network's 256 px loses what the camera was bought for. So a view may
be cut into rows x columns tiles, each an input of the network and a set of Gaussians of its own.
Neighbouring tiles may overlap: a network sees little of what lies at the edge of its input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import ConfigError
from edge_ad.preprocess.resize import Roi

Tiles = tuple[int, int]  # rows, columns
WHOLE: Tiles = (1, 1)
SMALLEST = 8  # px of a tile's side; less is no picture


def tile_boxes(region: Roi, tiles: Tiles, overlap: int) -> tuple[Roi, ...]:
    """The tiles of a region, row by row: equal in size, the outer ones at its edges, neighbours sharing
    at least `overlap` pixels.

    Raises ConfigError where they would be larger than the region allows, or too small.
    """
    x, y, width, height = region
    boxes = []
    tops, tall = _spread(height, tiles[0], overlap, "rows")
    lefts, wide = _spread(width, tiles[1], overlap, "columns")
    for top in tops:
        boxes += [(x + left, y + top, wide, tall) for left in lefts]
    return tuple(boxes)


def _spread(side: int, count: int, overlap: int, what: str) -> tuple[list[int], int]:
    """Where `count` tiles begin along a side, and how long they are."""
    if count == 1:
        return [0], side
    length = -(-(side + (count - 1) * overlap) // count)
    if 2 * overlap > length:
        raise ConfigError(
            f"{count} {what} of tiles that overlap by {overlap} px do not fit into {side} px: each "
            f"would be {length} px long and share more than half with the next; give fewer tiles or a "
            "smaller overlap"
        )
    if length < SMALLEST:
        raise ConfigError(
            f"{count} {what} of tiles in {side} px are {length} px each, at least {SMALLEST} are "
            "needed; give fewer tiles"
        )
    return [round(i * (side - length) / (count - 1)) for i in range(count)], length


def tile_names(view: str, tiles: Tiles) -> list[str]:
    """What tiles are called, in the order of `tile_boxes`: the view's name where it is one, else
    "view/2.3" for row 2, column 3, counted from 1. Names of views have no slash."""
    if tiles == WHOLE:
        return [view]
    return [f"{view}/{row + 1}.{column + 1}" for row in range(tiles[0]) for column in range(tiles[1])]


def pixels_per_input(box: Roi, height: int, width: int) -> float:
    """Camera pixels per pixel of a network input of this size, on the coarser of both axes. A defect
    of twice as many camera pixels still spans two of the network's."""
    return max(box[2] / width, box[3] / height)


class Stitch:
    """Lays the maps of a view's tiles onto one map of its region, with cells of about the same size: no
    larger, so that every cell of a tile is on it.

    Where tiles overlap, a cell is as unusual as the tile says that finds it more so: a part is judged by
    all of its cells, and the map must show why.
    """

    def __init__(self, region: Roi, boxes: Sequence[Roi], tiles: Tiles, grid: tuple[int, int]) -> None:
        x, y, width, height = region
        columns = tiles[1]
        tops = [box[1] - y for box in boxes[::columns]]
        lefts = [box[0] - x for box in boxes[:columns]]
        tile_row, row = _along(tops, boxes[0][3], height, grid[0])
        tile_column, column = _along(lefts, boxes[0][2], width, grid[1])
        self.shape = (row.shape[1], column.shape[1])
        tile = tile_row[:, None, :, None] * columns + tile_column[None, :, None, :]
        cell = row[:, None, :, None] * grid[1] + column[None, :, None, :]
        # [k, rows of the map, columns of the map], places in the tiles' cells one after another
        self._places = (tile * (grid[0] * grid[1]) + cell).reshape(-1, *self.shape)

    def cells_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in the tiles' cells, one after another, of places in the map's."""
        return np.unique(self._places.reshape(len(self._places), -1)[:, places])

    def __call__(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """[rows, columns] of the region from [tiles, rows, columns]. NaN where one of the cells is."""
        return np.asarray(maps.reshape(-1)[self._places].max(axis=0))


def _along(
    starts: Sequence[int], length: int, side: int, cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every cell of the map along one axis the tiles that cover its middle, and which of their cells
    does: both [k, map cells], k up to 3 where small tiles overlap by nearly half."""
    count = -(-side * cells // length)
    # All in 1 / (2 count) of a pixel: rounding where a middle lies on a border would leave a cell out.
    middle = (2 * np.arange(count) + 1) * side
    begin, length = 2 * count * np.asarray(starts), 2 * count * length
    within = (begin[:, None] <= middle) & (middle < begin[:, None] + length)
    first, last = within.argmax(axis=0), len(starts) - 1 - within[::-1].argmax(axis=0)
    tile = np.minimum(first + np.arange((last - first).max() + 1)[:, None], last)
    return tile, (middle - begin[tile]) * cells // length
