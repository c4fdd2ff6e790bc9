"""How the installed OpenCV computes a bilinear `warpAffine`, so that the kernel computes it likewise.

Measured, the same for grey and colour:

    fixed   OpenCV 4 (4.11, 4.12): places in 1/32 px, integer weights
    fused   OpenCV 5.0 with AVX2: float32 places and weights, multiplied and added in one rounding; the last
            columns, which do not fill a vector of 16, are added up in another order
    plain   OpenCV 5.0 without it: float32, two roundings, vectors of 8

The three differ by up to 7 grey values on noise (fixed, float32) or by 1 in one of 5,000 pixels. So what a
located part looks like depends on the OpenCV and the processor that a PC has, on the CPU as well.
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
    height, width = image.shape[:2]
    x, y = np.arange(width), np.arange(height)[:, None]
    if arithmetic.name == "fixed":
        column, row, a, b = _fixed_places(move, x, y)
    else:
        column, row, a, b = _float_places(move.astype(np.float32), x, y, arithmetic)
    left, right = np.clip(column, 0, width - 1), np.clip(column + 1, 0, width - 1)
    top, bottom = np.clip(row, 0, height - 1), np.clip(row + 1, 0, height - 1)
    pixels = image.reshape(height, width, -1)
    corners = [pixels[j, i] for j in (top, bottom) for i in (left, right)]
    p00, p01, p10, p11 = corners
    a, b = a[..., None], b[..., None]
    if arithmetic.name == "fixed":
        upper = p00 * (32 - a) + p01 * a
        lower = p10 * (32 - a) + p11 * a
        return np.asarray((upper * (32 - b) + lower * b + 512) >> 10, np.uint8).reshape(image.shape)
    fused = arithmetic.name == "fused"
    p00, p01, p10, p11 = (p.astype(np.float32) for p in corners)
    upper, lower = _product_and_sum(a, p01 - p00, p00, fused), _product_and_sum(a, p11 - p10, p10, fused)
    mean = _product_and_sum(b, lower - upper, upper, fused)
    return np.asarray(np.clip(np.rint(mean), 0, 255), np.uint8).reshape(image.shape)


def _fixed_places(
    move: NDArray[np.float64], x: NDArray[np.int64], y: NDArray[np.int64]
) -> tuple[NDArray[np.int64], ...]:
    places = []
    for a, b, c in move:
        columns = np.rint(a * x * 1024).astype(np.int64)
        rows = np.rint((b * y + c) * 1024).astype(np.int64) + 16
        places.append((columns + rows) >> 5)
    across, down = places
    return across >> 5, down >> 5, across & 31, down & 31


def _float_places(
    move: Floats, x: NDArray[np.int64], y: NDArray[np.int64], arithmetic: Arithmetic
) -> tuple[NDArray[np.generic], ...]:
    fused, tail = arithmetic.name == "fused", x >= arithmetic.tail(len(x))
    wide, tall = x.astype(np.float32), y.astype(np.float32)
    places = []
    for a, b, c in move:
        row = tall * b
        vector = _product_and_sum(wide, a, row + c, fused)
        places.append(np.where(tail, _product_and_sum(wide, a, row, fused) + c, vector))
    whole = [np.floor(place) for place in places]
    shares = (place - floor for place, floor in zip(places, whole, strict=True))
    return (*(floor.astype(np.int64) for floor in whole), *shares)


def _product_and_sum(a: Floats, b: Floats, c: Floats, fused: bool) -> Floats:
    if not fused:
        return a * b + c
    # A product of two float32 is exact in float64; that its sum is rounded twice shows in one of 2^29.
    wide = np.asarray(a, np.float64) * np.asarray(b, np.float64) + np.asarray(c, np.float64)
    return np.asarray(wide, np.float32)
