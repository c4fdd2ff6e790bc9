"""Defects of a given size, put into a picture: what a station would have to find.

A defect is a relief, float32 [rows, columns] from -1 (dark) to 1 (bright); times a step it is added to
the picture's grey values. Sizes are camera pixels:

    scratch   width of the bright line and its dark lip together; LENGTH times as long, slightly bent
    pit       diameter; dark, with a bright rim on the side away from the light (upper left)
    stain     diameter on average; dark, with an uneven rim
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.defects import Plane, Rng, bent_line, blot, stroke, uneven_rim
from edge_ad.frame import Image

MEANS = {"scratch": "width", "pit": "diameter", "stain": "mean diameter"}  # what a kind's size is
KINDS = tuple(MEANS)
LENGTH = 12  # of a scratch, in widths
LONGEST = 0.75  # a scratch is at most so long, in shorter sides of where it lies
ROOM = 3  # times a defect's size that the shorter side of where it lies must have

Relief = NDArray[np.float32]

_FINE = 24  # px: what is smaller is drawn at least so large, and shrunk
_SEAM = 2  # px that OpenCV's antialiased lines are wider than their thickness
_FAINT = 0.02  # of the step: a soft rim ends here, so that a defect has an extent


def draw(kind: str, rng: Rng, size: float, side: int) -> Relief:
    """A defect of `KINDS` for a place whose shorter side is `side` px, at least ROOM times `size`; where
    between two pixels it lies, how it is turned and its rim are random."""
    zoom = max(1, math.ceil(_FINE / size))
    shift = rng.uniform(-0.5, 0.5, 2)
    if kind == "scratch":
        fine = _scratch(rng, size * zoom, LONGEST * side * zoom, shift * zoom, zoom)
    else:
        make = {"pit": _pit, "stain": _stain}[kind]
        dx, dy = _offsets(size * zoom, shift * zoom, zoom)
        fine = make(rng, dx, dy, size * zoom / 2).astype(np.float32)
    height, width = fine.shape
    relief = cv2.resize(fine, (width // zoom, height // zoom), interpolation=cv2.INTER_AREA)
    return _trimmed(np.where(np.abs(relief) < _FAINT, 0, relief).astype(np.float32))


def white(image: Image) -> NDArray[np.float64]:
    """The grey that 99 % of the pixels do not exceed, of each channel [1 or 3]."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    counts = [cv2.calcHist([image], [c], None, [256], [0, 256]).ravel() for c in range(channels)]
    return np.array([np.searchsorted(np.cumsum(c), 0.99 * c.sum()) for c in counts], np.float64)


def insert(image: Image, relief: Relief, x: int, y: int, step: NDArray[np.float64]) -> Image:
    """A copy of `image` (uint8, H x W grey or H x W x 3 BGR) with `relief`, upper left pixel at (x, y).

    `step`: grey values that the relief's 1 stands for, of each channel. On ground that is too dark for a
    dark defect, or too bright for a bright one, dark and bright change places, so that it has its
    contrast there, too. What would lie below 0 or above 255 is cut off.
    """
    height, width = relief.shape
    altered: Image = image.copy()
    window = altered[y : y + height, x : x + width]
    core = np.abs(relief) > 0.5 * np.abs(relief).max()
    ground = float(window[core].mean())
    room, other = (ground, 255 - ground) if relief.sum() < 0 else (255 - ground, ground)
    signed = -relief if room < min(float(step.mean()), other) else relief
    change = signed[..., None] * step if image.ndim == 3 else signed * step[0]
    window[...] = np.clip(np.rint(window + change), 0, 255).astype(np.uint8)
    return altered


def _scratch(rng: Rng, width: float, longest: float, shift: Plane, zoom: int) -> Relief:
    """A bright line, and beside it a dark lip that is narrower and fainter."""
    length = max(min(LENGTH * width, longest) - width, 0.1)  # the ends are round
    angle = rng.uniform(0, np.pi)
    line = bent_line(0.0, 0.0, length, angle, rng.uniform(-0.07, 0.07) * length)
    half = np.ceil((np.abs(line).max(axis=0) + width) / zoom + 1) * zoom
    across = np.array([-np.sin(angle), np.cos(angle)]) * width
    middle = half + shift - 0.5
    shape = (int(2 * half[1]), int(2 * half[0]))
    bright = stroke(shape, line + middle - 0.15 * across, round(0.7 * width) - _SEAM, 255)
    lip = stroke(shape, line + middle + 0.3 * across, round(0.4 * width) - _SEAM, 150)
    lip[bright > 0] = 0
    return ((bright.astype(np.float32) - lip) / 255).astype(np.float32)


def _pit(_rng: Rng, dx: Plane, dy: Plane, radius: float) -> Plane:
    """The floor lies in shadow, and touches the rim on the side towards the light."""
    soft = 0.04 * radius
    whole = blot(dx, dy, radius, 1.0, soft)
    aside = 0.15 * radius / np.sqrt(2)
    floor = np.minimum(blot(dx + aside, dy + aside, 0.85 * radius, 1.0, soft), whole)
    return 0.8 * (whole - floor) - floor


def _stain(rng: Rng, dx: Plane, dy: Plane, radius: float) -> Plane:
    rim = uneven_rim(dx, dy, radius, rng.uniform(0, 2 * np.pi, 2))
    return -blot(dx, dy, rim, 1.0, 0.06 * radius)


def _offsets(size: float, shift: Plane, zoom: int) -> tuple[Plane, Plane]:
    """Of each pixel from the middle of a square with room for a rim, px."""
    reach = math.ceil(0.85 * size / zoom + 1) * zoom
    dy, dx = np.mgrid[-reach:reach, -reach:reach] + 0.5
    return dx - shift[0], dy - shift[1]


def _trimmed(relief: Relief) -> Relief:
    """Without the rows and columns around it that are 0."""
    x, y, width, height = cv2.boundingRect((relief != 0).astype(np.uint8))
    return np.ascontiguousarray(relief[y : y + height, x : x + width])
