"""How the installed OpenCV computes a bilinear `warpAffine`, so that the kernel computes it likewise.

Measured on x86-64, the same for grey and colour:

    fixed   OpenCV 4 (4.9 to 4.14): places in 1/32 px, integer weights
    fused   OpenCV 5.0 with AVX2: float32 places and weights, multiplied and added in one rounding; the
            last columns, which do not fill a vector of 16, are added up in another order
    plain   OpenCV 5.0 without it: float32, two roundings, vectors of 8

On noise `fixed` differs from the others by up to 7 grey values, those from each other by 1 in one of
5,000 pixels. So what a located part looks like depends on the OpenCV and the processor that a PC has, on
the CPU as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_ad.frame import Image
from edge_ad.locate.straight import lay_straight

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
PROBES = ((1500, 15), (96, 63), (120, 47, 3))
MOVE = np.array([[1.0123, 0.0371, -1.37], [-0.0365, 0.9871, 2.71]])


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """One way to compute it; lanes: of a vector."""

    name: Literal["fixed", "fused", "plain"]
    lanes: int = 1

    def tail(self, width: int) -> int:
        """The first column of a frame that does not fill a vector."""
        return width // self.lanes * self.lanes


# As measured, and vectors of 8 that are fused, as NEON has them: not measured.
KNOWN = (Arithmetic("fixed"), Arithmetic("fused", 16), Arithmetic("plain", 8), Arithmetic("fused", 8))


@cache
def installed_arithmetic() -> Arithmetic | None:
    """That of the installed OpenCV on this processor; None where it is none of those that are known."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in PROBES]
    straight = [np.empty_like(image) for image in images]
    for image, out in zip(images, straight, strict=True):
        lay_straight(image, MOVE, out)
    for arithmetic in KNOWN:
        likewise = (straightened(image, MOVE, arithmetic) for image in images)
        if all(np.array_equal(a, b) for a, b in zip(likewise, straight, strict=True)):
            return arithmetic
    return None


def straightened(image: Image, move: NDArray[np.float64], arithmetic: Arithmetic) -> Image:
    """What `lay_straight` makes of an image with that arithmetic. Slow: the formula, to compare with."""
    x, y = np.arange(image.shape[1]), np.arange(image.shape[0])[:, None]
    if arithmetic.name == "fixed":
        places = [_fixed_places(a, b, c, x, y) for a, b, c in move.tolist()]
        across, down = (place & 31 for place in places)
        p00, p01, p10, p11 = _corners(image, *(place >> 5 for place in places))
        upper, lower = p00 * (32 - across) + p01 * across, p10 * (32 - across) + p11 * across
        mean = (upper * (32 - down) + lower * down + 512) >> 10
        return np.asarray(np.moveaxis(mean, 0, -1), np.uint8).reshape(image.shape)
    fused, tail = arithmetic.name == "fused", arithmetic.tail(image.shape[1])
    floats = [_float_places(row, x, y, fused, tail) for row in move.astype(np.float32)]
    whole = [np.floor(place) for place in floats]
    right, below = (place - floor for place, floor in zip(floats, whole, strict=True))
    corners = _corners(image, *(floor.astype(np.int64) for floor in whole))
    q00, q01, q10, q11 = (corner.astype(np.float32) for corner in corners)
    top, bottom = (
        _multiply_add(right, q01 - q00, q00, fused),
        _multiply_add(right, q11 - q10, q10, fused),
    )
    rounded = np.clip(np.rint(_multiply_add(below, bottom - top, top, fused)), 0, 255)
    return np.asarray(np.moveaxis(rounded, 0, -1), np.uint8).reshape(image.shape)


def _corners(image: Image, column: Places, row: Places) -> tuple[Places, Places, Places, Places]:
    """[channels, rows, columns] of the four pixels around each place; the frame's edge goes on."""
    height, width = image.shape[:2]
    pixels = np.moveaxis(image.reshape(height, width, -1).astype(np.int64), -1, 0)
    left, right = np.clip(column, 0, width - 1), np.clip(column + 1, 0, width - 1)
    top, bottom = np.clip(row, 0, height - 1), np.clip(row + 1, 0, height - 1)
    return pixels[:, top, left], pixels[:, top, right], pixels[:, bottom, left], pixels[:, bottom, right]


def _fixed_places(a: float, b: float, c: float, x: Places, y: Places) -> Places:
    """In 1/32 px: columns and rows are rounded for themselves."""
    columns, rows = np.rint(a * x * 1024), np.rint((b * y + c) * 1024)
    return np.asarray(columns.astype(np.int64) + rows.astype(np.int64) + 16) >> 5


def _float_places(row: Floats, x: Places, y: Places, fused: bool, tail: int) -> Floats:
    a, b, c = row
    wide, tall = x.astype(np.float32), y.astype(np.float32) * b
    vectors = _multiply_add(wide, a, tall + c, fused)
    return np.where(x >= tail, _multiply_add(wide, a, tall, fused) + c, vectors)


def _multiply_add(a: Floats, b: Floats, c: Floats, fused: bool) -> Floats:
    if not fused:
        return np.asarray(a * b + c)
    # A product of two float32 is exact in float64; that its sum is rounded twice shows in one of 2^29.
    return np.asarray(a.astype(np.float64) * b.astype(np.float64) + c, np.float32)
