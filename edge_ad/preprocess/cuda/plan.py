"""Which buffers and launches turn a part's frames into the rows of a network's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import ConfigError
from edge_ad.preprocess.cuda.cameras import CameraPixels
from edge_ad.preprocess.cuda.frames import Frames, lay_out_frames
from edge_ad.preprocess.cuda.layout import (
    BLOCK,
    MODES,
    MOST_BYTES,
    MOST_LEVELS,
    PATCH,
    SLACK,
    STRIP,
    TILE_FIELDS,
    blocks_for,
)
from edge_ad.preprocess.cuda.steps import Steps, plan_steps
from edge_ad.preprocess.resize import Roi
from edge_ad.preprocess.views import ViewGeometry, view_boxes
from edge_ad.preprocess.zones import LabelImage, Mask, tile_masks

COLOURS = 3 * PATCH[0] * PATCH[1]  # bytes of shared memory that a patch's result takes
Zones = Mapping[str, tuple[LabelImage, Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel's name, grid (x, y), threads of a block, bytes of dynamic shared memory, and arguments in
    order: buffers by name, numbers as int32."""

    kernel: str
    grid: tuple[int, int]
    block: int
    shared: int
    arguments: tuple[str | int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PreprocessPlan:
    """A part's frames as rows [rows, height, width, 3], uint8, or fp16 where `halves`.

    launches: in this order, on one stream. constants: buffers that are written once, by name; sizes:
    bytes of all others, each from an address that is a multiple of 256:

        raw       the cameras' bytes; those of camera i from starts[i] on, frame_sizes[i] of them
        matrices  float64 [n, 2, 3]: for each camera in `located` what takes a place in the reference to
                  one in the frame (`edge_ad.locate.pose.matrix`); beside raw, all that changes from part
                  to part
        faults    uint32 [cameras], zero when made: 1 where a sample had more bits than declared; who
                  reads it clears it (only frames that are converted here can have any)
        scratch   written before it is read
        rows      the result

    bytes_per_frame: what all launches read and write, each byte once in each of them.
    """

    rows: int
    height: int
    width: int
    halves: bool
    starts: tuple[int, ...]
    frame_sizes: tuple[int, ...]
    located: tuple[int, ...]
    launches: tuple[Launch, ...]
    constants: Mapping[str, NDArray[np.generic]]
    sizes: Mapping[str, int]
    bytes_per_frame: int


def plan_preprocess(
    views: Sequence[ViewGeometry],
    cameras: Sequence[CameraPixels],
    height: int,
    width: int,
    zones: Zones | None = None,
    halves: bool = False,
) -> PreprocessPlan:
    """Plan for the same views, cameras in the same order and zones as `PartInput` takes.

    Raises ConfigError for a view that does not fit its camera's frame, zones of another size, frames
    that their pixel format cannot have, or more than the buffers can hold; UnknownStraightening for a
    located camera where this OpenCV straightens in a way that the kernel does not know.
    """
    names = [camera.name for camera in cameras]
    places = [names.index(view.camera) for view in views]
    boxes = [view_boxes(view, cameras[i].shape) for view, i in zip(views, places, strict=True)]
    by_camera: list[list[Roi]] = [[] for _ in cameras]
    for i, some in zip(places, boxes, strict=True):
        by_camera[i] += some
    frames = lay_out_frames(cameras, by_camera)
    masks = [_masks(view, some, cameras[i], (height, width), zones or {})
             for view, i, some in zip(views, places, boxes, strict=True)]  # fmt: skip
    tiles = _Tiles(frames, (height, width))
    for i, some, hidden in zip(places, boxes, masks, strict=True):
        for box, mask in zip(some, hidden, strict=True):
            tiles.add(i, box, mask)
    return _assemble(frames, tiles, (height, width), halves)


def _masks(
    view: ViewGeometry, boxes: Sequence[Roi], camera: CameraPixels, size: tuple[int, int], zones: Zones
) -> Sequence[Mask | None]:
    image, ignored = zones.get(view.camera, (None, ()))
    if image is None or not ignored:
        return [None] * len(boxes)
    if image.shape != camera.shape[:2]:
        raise ConfigError(
            f"view {view.name}: zones of {image.shape[1]} x {image.shape[0]} px in a frame of "
            f"{camera.shape[1]} x {camera.shape[0]} px; draw them for this frame"
        )
    return tile_masks(image, boxes, size, ignored)


class _Tiles:
    """Tables that grow with every tile."""

    def __init__(self, frames: Frames, size: tuple[int, int]) -> None:
        self.frames, self.size = frames, size
        self.rows: list[tuple[int, ...]] = []
        self.halvings: list[list[tuple[int, ...]]] = []  # rounds, one after the other
        self.steps: list[NDArray[np.int32]] = []
        self.masks: list[NDArray[np.uint32]] = []
        self.shared = COLOURS
        self.bytes_moved = 0  # what halving writes and what is read of it again
        self._placed: dict[tuple[int, int], tuple[Steps, int, int]] = {}
        self._count = self._words = 0

    def add(self, camera: int, box: Roi, mask: Mask | None) -> None:
        """One row of the input."""
        steps, columns, rows = self._place((box[3], box[2]))
        where, start, pitch = self.frames.region(camera, box)
        width, height, channels = box[2], box[3], self.frames.channels[camera]
        for turn in range(blocks_for(steps.before, MOST_LEVELS)):
            levels = min(MOST_LEVELS, steps.before - turn * MOST_LEVELS)
            source = (where, start, pitch, width, height, channels, levels)
            width, height = (-(-side // 2**levels) for side in (width, height))
            where, pitch = 1, width * channels
            start = self.frames.reserve(pitch * height)
            if turn == len(self.halvings):
                self.halvings.append([])
            self.halvings[turn].append((*source, start))
            self.bytes_moved += 2 * pitch * height
        mode = MODES.index(steps.mode)
        flip = int(self.frames.flips[camera])
        self.rows.append((
            where, start, pitch, width, height, channels, steps.levels, mode, columns, rows,
            self._paint(mask), flip,
        ))  # fmt: skip
        patch = steps.patch[0] * blocks_for(steps.patch[1] * channels, 4) * 4
        self.shared = max(self.shared, COLOURS + patch)

    def _place(self, region: tuple[int, int]) -> tuple[Steps, int, int]:
        """Steps of a region's size, and where its columns and rows lie; tiles of a size share them."""
        if region not in self._placed:
            steps = plan_steps(region, self.size)
            starts = []
            for table, side in ((steps.columns, self.size[1]), (steps.rows, self.size[0])):
                placed = table.copy()
                if steps.mode == "area":
                    placed[2 : 3 * side : 3] += self._count
                starts.append(self._count)
                self.steps.append(placed)
                self._count += len(placed)
            self._placed[region] = (steps, starts[0], starts[1])
        return self._placed[region]

    def _paint(self, mask: Mask | None) -> int:
        """Where the mask's first word lies, -1 without one."""
        if mask is None:
            return -1
        bits = np.packbits(mask, bitorder="little")
        words = np.zeros(blocks_for(mask.size, 32) * 4, np.uint8)
        words[: len(bits)] = bits
        self.masks.append(words.view("<u4").astype(np.uint32))
        self._words += len(self.masks[-1])
        return self._words - len(self.masks[-1])


def _assemble(frames: Frames, tiles: _Tiles, size: tuple[int, int], halves: bool) -> PreprocessPlan:
    height, width = size
    sizes = _sizes(frames, len(tiles.rows) * height * width * 3 * (2 if halves else 1))
    launches, constants = _prepare(frames, tiles)
    constants["tiles"] = np.array(tiles.rows, np.int32).reshape(-1, len(TILE_FIELDS))
    constants["steps"] = np.concatenate([*tiles.steps, np.zeros(1, np.int32)])
    constants["masks"] = np.concatenate([*tiles.masks, np.zeros(1, np.uint32)])
    patches = blocks_for(height, PATCH[0]) * blocks_for(width, PATCH[1])
    arguments = ("tiles", "steps", "masks", "raw", "scratch", height, width, int(halves), "rows")
    launches.append(Launch("resize_tiles", (patches, len(tiles.rows)), BLOCK, tiles.shared, arguments))
    moved = frames.bytes_moved + tiles.bytes_moved + frames.bytes_seen + sizes["rows"]
    moved += sum(array.nbytes for array in constants.values())
    return PreprocessPlan(
        len(tiles.rows), height, width, halves, frames.starts, frames.sizes, frames.located,
        tuple(launches), constants, sizes, moved,
    )  # fmt: skip


def _sizes(frames: Frames, rows: int) -> dict[str, int]:
    """Bytes of the buffers; places in them fit an int32 of the tables then, else ConfigError."""
    sizes = {
        "raw": frames.raw_end + SLACK,
        "matrices": 8 * 6 * max(1, len(frames.located)),
        "faults": 4 * len(frames.sizes),
        "scratch": frames.scratch_end + SLACK,
        "rows": rows,
    }
    for name, taken in sizes.items():
        if taken > MOST_BYTES:
            raise ConfigError(
                f"a part's {name} take {taken} bytes on the GPU, {MOST_BYTES} at most; give the views "
                "fewer tiles or smaller regions, or the cameras smaller frames"
            )
    return sizes


def _prepare(frames: Frames, tiles: _Tiles) -> tuple[list[Launch], dict[str, NDArray[np.generic]]]:
    """Launches that come before `resize_tiles`, and their tables."""
    launches: list[Launch] = []
    constants: dict[str, NDArray[np.generic]] = {}

    def add(kernel: str, name: str, rows: Sequence[tuple[int, ...]], blocks: int, *others: str) -> None:
        constants[name] = np.array(rows, np.int32)
        launches.append(Launch(kernel, (blocks, len(rows)), BLOCK, 0, (name, *others)))

    if frames.conversions:
        pixels = max(row[3] * row[4] for row in frames.conversions)
        blocks = blocks_for(pixels, BLOCK)
        add("convert_pixels", "conversions", frames.conversions, blocks, "raw", "scratch", "faults")
    if frames.straightenings:
        strips = [
            blocks_for(row[9], STRIP[0]) * blocks_for(row[8], STRIP[1]) for row in frames.straightenings
        ]
        table = frames.straightenings
        add("straighten", "straightenings", table, max(strips), "matrices", "raw", "scratch")
    for turn, rows in enumerate(tiles.halvings):
        pixels = max(blocks_for(row[3], 2 ** row[6]) * blocks_for(row[4], 2 ** row[6]) for row in rows)
        add("halve_regions", f"halvings_{turn}", rows, blocks_for(pixels, BLOCK), "raw", "scratch")
    return launches, constants
