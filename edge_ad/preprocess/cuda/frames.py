"""Where cameras' frames lie in `raw` and `scratch`, and what is made of them before they are resized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_ad.errors import ConfigError
from edge_ad.preprocess.cuda.arithmetic import installed_arithmetic
from edge_ad.preprocess.cuda.cameras import CameraPixels, RawPixels, raw_pixels
from edge_ad.preprocess.cuda.layout import ARITHMETICS, FORMATS, aligned
from edge_ad.preprocess.resize import Roi


class UnknownStraightening(ConfigError):
    """This OpenCV lays parts straight in a way that the kernel does not know; the CPU can do it."""


@dataclass(slots=True)
class Frames:
    """Of each camera: where its bytes begin in `raw` and how many they are, channels and order of the
    image that tiles are cut from, where it lies, and which part of the frame it is.

    bytes_moved: what converting and straightening read and write; bytes_seen: what tiles are cut from.
    """

    starts: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    flips: tuple[bool, ...] = ()
    located: tuple[int, ...] = ()
    conversions: list[tuple[int, ...]] = field(default_factory=list)
    straightenings: list[tuple[int, ...]] = field(default_factory=list)
    raw_end: int = 0
    scratch_end: int = 0
    bytes_moved: int = 0
    bytes_seen: int = 0
    images: list[tuple[int, int, Roi]] = field(default_factory=list)  # where, start, part of the frame

    def reserve(self, size: int) -> int:
        """Scratch memory of this size: where it begins."""
        start = aligned(self.scratch_end)
        self.scratch_end = start + size
        return start

    def region(self, camera: int, box: Roi) -> tuple[int, int, int]:
        """Where a region of a camera's frame lies: where, start, pitch."""
        where, start, (left, top, width, _) = self.images[camera]
        pitch = width * self.channels[camera]
        offset = (box[1] - top) * pitch + (box[0] - left) * self.channels[camera]
        return where, start + offset, pitch


def lay_out_frames(cameras: Sequence[CameraPixels], boxes: Sequence[Sequence[Roi]]) -> Frames:
    """Frames of cameras; boxes: of each, what tiles are cut from. Raises ConfigError as
    `plan_preprocess` does."""
    pixels = [raw_pixels(camera) for camera in cameras]
    starts, end = [], 0
    for one in pixels:
        starts.append(aligned(end))
        end = starts[-1] + one.size
    frames = Frames(
        tuple(starts),
        tuple(one.size for one in pixels),
        tuple(one.channels for one in pixels),
        tuple(one.flip for one in pixels),
        tuple(i for i, camera in enumerate(cameras) if camera.located and boxes[i]),
        raw_end=end,
    )
    for i, (camera, one) in enumerate(zip(cameras, pixels, strict=True)):
        height, width = camera.shape[:2]
        frames.images.append((0, frames.starts[i], (0, 0, width, height)))
        if not boxes[i]:
            continue
        if one.format:
            _convert(frames, i, one, (height, width))
        if camera.located:
            _straighten(frames, i, camera, boxes[i])
        frames.bytes_seen += one.channels * _seen(boxes[i], (height, width))
    return frames


def _convert(frames: Frames, i: int, pixels: RawPixels, shape: tuple[int, int]) -> None:
    height, width = shape
    start = frames.reserve(height * width * pixels.channels)
    code = FORMATS.index(pixels.format)
    frames.conversions.append((code, frames.starts[i], start, width, height, pixels.depth, i, 0))
    frames.images[i] = (1, start, (0, 0, width, height))
    frames.bytes_moved += pixels.size + height * width * pixels.channels


def _straighten(frames: Frames, i: int, camera: CameraPixels, boxes: Sequence[Roi]) -> None:
    """Only what tiles are cut from is laid straight."""
    arithmetic = installed_arithmetic()
    if arithmetic is None:
        raise UnknownStraightening(
            f"camera {camera.name}: this OpenCV lays parts straight in a way that the GPU's kernel does "
            "not compute; install OpenCV 4.9 to 5.0, or take an engine of the CPU"
        )
    height, width = camera.shape[:2]
    channels = frames.channels[i]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    columns = max(box[0] + box[2] for box in boxes) - left
    rows = max(box[1] + box[3] for box in boxes) - top
    where, start, _ = frames.images[i]
    target = frames.reserve(columns * rows * channels)
    frames.straightenings.append((
        where, start, width, height, channels, target, left, top, columns, rows,
        frames.located.index(i), ARITHMETICS.index(arithmetic.name), arithmetic.tail(width), 0,
    ))  # fmt: skip
    frames.images[i] = (1, target, (left, top, columns, rows))
    frames.bytes_moved += 2 * columns * rows * channels


def _seen(boxes: Sequence[Roi], shape: tuple[int, int]) -> int:
    """Pixels of a frame that are in a box."""
    seen = np.zeros(shape, np.bool_)
    for x, y, width, height in boxes:
        seen[y : y + height, x : x + width] = True
    return int(np.count_nonzero(seen))
