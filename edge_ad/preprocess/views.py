"""A part's frames -> the rows of an engine's input: view after view, tile after tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import ConfigError
from edge_ad.frame import Image
from edge_ad.preprocess.resize import Preprocessor, Roi, inside
from edge_ad.preprocess.tiles import WHOLE, Stitch, Tiles, pixels_per_input, tile_boxes
from edge_ad.preprocess.zones import PAINT, LabelImage, Mask, tile_masks

TILES_PER_THREAD = 3  # fewer are resized sooner than a thread is woken


class ViewGeometry(Protocol):
    """What the station file and the bundle say of a view."""

    @property
    def name(self) -> str: ...
    @property
    def camera(self) -> str: ...
    @property
    def roi(self) -> Roi | None: ...
    @property
    def tiles(self) -> Tiles: ...
    @property
    def overlap(self) -> int: ...


def view_region(view: ViewGeometry, shape: Sequence[int]) -> Roi:
    """The view's region in a frame of this shape. ConfigError when it does not lie inside."""
    region = view.roi or (0, 0, shape[1], shape[0])
    if not inside(region, shape):
        raise ConfigError(
            f"view {view.name}: roi {list(region)} is outside of {shape[1]} x {shape[0]} px; correct "
            "the view's roi"
        )
    return region


def camera_regions(views: Sequence[ViewGeometry], camera: str, shape: Sequence[int]) -> dict[str, Roi]:
    """By name the regions of one camera's views. ConfigError when one does not lie inside."""
    return {view.name: view_region(view, shape) for view in views if view.camera == camera}


def view_boxes(view: ViewGeometry, shape: Sequence[int]) -> tuple[Roi, ...]:
    """The view's tiles in a frame of this shape, row by row. ConfigError when they do not fit."""
    region = view_region(view, shape)
    try:
        return tile_boxes(region, view.tiles, view.overlap)
    except ConfigError as error:
        raise ConfigError(f"view {view.name}: {error}") from error


def view_text(view: ViewGeometry, shape: Sequence[int], height: int, width: int) -> str:
    """How finely a network of this input size sees the view in frames of this shape: its tiles, and the
    smallest defect that still spans two of the network's pixels. ConfigError when it does not fit."""
    box = view_boxes(view, shape)[0]
    ratio = pixels_per_input(box, height, width)
    rows, columns = view.tiles
    what = f"{box[2]} x {box[3]} px"
    if view.tiles != WHOLE:
        what = f"{rows} x {columns} tiles of {what}"
    return (
        f"{what}, {ratio:.3g} camera px per network px; a defect spans two of the network's from "
        f"{2 * ratio:.2g} px on"
    )


def count_tiles(views: Sequence[ViewGeometry]) -> int:
    """Rows of the engine's batch for one part."""
    return sum(view.tiles[0] * view.tiles[1] for view in views)


class ViewInput:
    """One view's tiles. Owns scratch memory for `workers` threads: not thread safe otherwise."""

    def __init__(
        self,
        view: ViewGeometry,
        height: int,
        width: int,
        workers: int = 1,
        zones: LabelImage | None = None,
        ignored: Sequence[int] = (),
    ) -> None:
        self.view = view
        self._size = (height, width)
        self._zones, self._ignored = zones, tuple(ignored)
        self._masks: list[Mask | None] = []
        self._preprocessors = [Preprocessor(height, width) for _ in range(workers)]
        self._shape: tuple[int, ...] = ()
        self.boxes: tuple[Roi, ...] = ()  # of the last frame
        self._stitch: Stitch | None = None
        self._stitched: object = None

    def fit(self, shape: tuple[int, ...]) -> None:
        """Lay the tiles out in frames of this shape, the first time that it comes. Raises ConfigError
        when they do not fit."""
        if shape == self._shape:
            return
        self.boxes = view_boxes(self.view, shape)
        self._masks = [None] * len(self.boxes)
        if self._zones is not None and self._ignored:
            if self._zones.shape != shape[:2]:
                raise ConfigError(
                    f"view {self.view.name}: zones of {self._zones.shape[1]} x {self._zones.shape[0]} "
                    f"px in a frame of {shape[1]} x {shape[0]} px; draw them for this frame"
                )
            self._masks = tile_masks(self._zones, self.boxes, self._size, self._ignored)
        self._shape = shape

    def fill(self, image: Image, rows: NDArray[np.uint8], worker: int = 0) -> None:
        """Write the tiles of `image` (uint8, H x W grey or H x W x 3 BGR) that are the worker's into
        `rows`, [tiles, height, width, 3]; `fit` was called with its shape."""
        prepare, step = self._preprocessors[worker].prepare, len(self._preprocessors)
        tiles = zip(self.boxes[worker::step], self._masks[worker::step], rows[worker::step], strict=True)
        for box, mask, row in tiles:
            prepare(image, box, row)
            if mask is not None:
                row[mask] = PAINT

    def stitch(self, grid: tuple[int, int]) -> Stitch:
        """What lays maps of such a grid, one per tile, onto one map of the last frame's region."""
        if self._stitch is None or self._stitched != (self.boxes, grid):
            region = view_region(self.view, self._shape)
            self._stitch = Stitch(region, self.boxes, self.view.tiles, grid)
            self._stitched = (self.boxes, grid)
        return self._stitch


class PartInput:
    """All views of a part, in the order of the engine's rows; a part's images come in the order of
    `cameras`. Where there are many tiles, `threads` share them. Owns these threads and scratch memory:
    not thread safe.
    """

    def __init__(
        self,
        views: Sequence[ViewGeometry],
        cameras: Sequence[str],
        height: int,
        width: int,
        threads: int = 1,
        zones: Mapping[str, tuple[LabelImage, Sequence[int]]] | None = None,
    ) -> None:
        """zones: by camera a label image, and which of its values are ignored."""
        workers = max(1, min(threads, count_tiles(views) // TILES_PER_THREAD))
        zones = zones or {}
        self.views = tuple(
            ViewInput(view, height, width, workers, *zones.get(view.camera, ())) for view in views
        )
        self.cameras = tuple(cameras.index(view.camera) for view in views)
        ends = np.cumsum([count_tiles([view]) for view in views]).tolist()
        self.rows = tuple(slice(a, b) for a, b in pairwise([0, *ends]))
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers - 1, "resize") if workers > 1 else None

    def box(self, row: int) -> Roi:
        """Where the tile of this row of the engine's input lies in the last frame of its camera."""
        for view, rows in zip(self.views, self.rows, strict=True):
            if row < rows.stop:
                return view.boxes[row - rows.start]
        raise IndexError(row)

    def fit(self, images: Sequence[Image]) -> None:
        """Raises ConfigError when a view does not fit into its camera's image."""
        for view, camera in zip(self.views, self.cameras, strict=True):
            view.fit(images[camera].shape)

    def fill(self, images: Sequence[Image], out: NDArray[np.uint8]) -> None:
        """Write a part's images into an engine's input, [rows, height, width, 3]. Raises ConfigError
        when a view does not fit into its camera's image, ValueError once it is closed."""
        self.fit(images)
        if self._pool is None and self._workers > 1:  # one alone writes a part of the rows
            raise ValueError("the part's input has been closed")
        if self._pool is None:
            self._fill(images, out, 0)
            return
        others = [self._pool.submit(self._fill, images, out, i) for i in range(1, self._workers)]
        try:
            self._fill(images, out, 0)
        finally:  # nobody writes there any more when this returns, however it does
            wait(others)
        for one in others:
            one.result()

    def _fill(self, images: Sequence[Image], out: NDArray[np.uint8], worker: int) -> None:
        for view, camera, rows in zip(self.views, self.cameras, self.rows, strict=True):
            view.fill(images[camera], out[rows], worker)

    def close(self) -> None:
        """End the threads; calling it again does nothing."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = None
