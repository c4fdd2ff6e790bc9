"""Polygons and their pixels, in integers: what is decided here is the same on every machine.

Corners are rounded to 1/256 px first. 0, 0 is the upper left corner of the first pixel, whose middle is
at 0.5, 0.5, so that the polygon of a rectangle x, y, width, height has exactly the pixels of such a roi.
A pixel belongs to a polygon when its middle lies inside, by the even-odd rule. A middle that lies on the
outline belongs when the inside is to its right, or, on a level edge, below it: polygons that share an
edge share no pixel and leave none out. (OpenCV's fillPoly takes pixels that the outline merely touches,
so that neighbours overlap.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import ConfigError

UNIT = 256  # of a pixel; OpenCV's images have sides below 2^20 px, so products fit into int64
_HALF = UNIT // 2

Points = NDArray[np.int64]


def corners(points: Sequence[tuple[float, float]], shape: tuple[int, int]) -> Points:
    """The polygon's corners in 1/256 px, int64 [n, 2], x before y, equal neighbours once.

    `points` are frame pixels, `shape` is the frame's rows and columns. Raises ConfigError for a corner
    outside of the frame, fewer than three of them, edges that cross, and an outline without an area.
    """
    height, width = shape
    exact = np.asarray(points, np.float64).reshape(-1, 2)
    with np.errstate(invalid="ignore", over="ignore"):
        beyond = ~((exact >= 0) & (exact <= (width, height))).all(axis=1)
        rounded = np.rint(exact * UNIT)
        # What lies out by less than a unit is an annotation tool's rounding.
        beyond &= ~((rounded >= 0) & (rounded <= (width * UNIT, height * UNIT))).all(axis=1)
    if beyond.any():
        k = int(beyond.argmax())
        raise ConfigError(
            f"corner {k} at {_text(exact[k])} is outside of the frame of {width} x {height} px; move it "
            "to the frame's edge"
        )
    whole = rounded.astype(np.int64)
    distinct: Points = whole[(whole != np.roll(whole, 1, axis=0)).any(axis=1)]
    if len(np.unique(distinct, axis=0)) < 3:
        raise ConfigError(
            f"has {len(np.unique(distinct, axis=0))} distinct corners; a polygon needs three or more"
        )
    crossing = find_crossing(distinct)
    if crossing is not None:
        first, second = (_edge(distinct, i) for i in crossing)
        raise ConfigError(
            f"crosses itself: the edge {first} crosses the edge {second}; give the corners in order "
            "around the zone"
        )
    if twice_area(distinct) == 0:
        raise ConfigError("encloses no area, all corners lie on lines; give corners around the zone")
    return distinct


def twice_area(points: Points) -> int:
    """Twice the enclosed area in (1/256 px)^2, by the shoelace formula."""
    # About the first corner; in Python's integers, which a sum of many products cannot overflow.
    x, y = (points - points[0]).T
    products: list[int] = (x * np.roll(y, -1) - np.roll(x, -1) * y).tolist()
    return abs(sum(products))


def find_crossing(points: Points) -> tuple[int, int] | None:
    """The first two edges that cross, edge i being from corner i to the next; None when none do.

    Edges cross where one passes through the other to its other side, in the middle or with a corner on
    it. An outline that only touches itself, or goes back along itself, as those traced around pixels do,
    does not cross itself.
    """
    ends = np.roll(points, -1, axis=0)
    after, before = np.roll(ends, -1, axis=0), np.roll(points, 1, axis=0)
    low, high = np.minimum(points, ends), np.maximum(points, ends)
    for i in range(len(points) - 1):
        near = (low[i + 1 :] <= high[i]).all(axis=1) & (high[i + 1 :] >= low[i]).all(axis=1)
        others = i + 1 + np.flatnonzero(near)
        if not len(others):
            continue
        a, b = points[i], ends[i]
        c, d = points[others], ends[others]
        of_c, of_d, of_a, of_b = _side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)
        crossed = (of_c * of_d < 0) & (of_a * of_b < 0)
        # A corner on the other edge: where the outline leaves to the other side than it came from.
        crossed |= (of_d == 0) & (of_a * of_b < 0) & (of_c * _side(a, b, after[others]) < 0)
        crossed |= (of_b == 0) & (of_c * of_d < 0) & (of_a * _side(c, d, after[i]) < 0)
        crossed |= (of_c == 0) & (of_a * of_b < 0) & (of_d * _side(a, b, before[others]) < 0)
        crossed |= (of_a == 0) & (of_c * of_d < 0) & (of_b * _side(c, d, before[i]) < 0)
        if crossed.any():
            return i, int(others[crossed.argmax()])
    return None


def fill(points: Points, pixels: NDArray[np.bool_]) -> None:
    """Set the polygon's pixels in `pixels`, bool [H, W]. `points` as `corners` gives them."""
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    left, right = low[0] // UNIT, _ceil(high[0], UNIT)
    top, bottom = low[1] // UNIT, _ceil(high[1], UNIT)
    # Where each row of middles meets the outline: from there to the right, inside and outside change.
    change = np.zeros((bottom - top, right - left + 1), np.uint8)
    for (x0, y0), (x1, y1) in zip(points.tolist(), np.roll(points, -1, axis=0).tolist(), strict=True):
        if y0 > y1:  # neighbours that share the edge compute the same
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(_ceil(y0 - _HALF, UNIT), _ceil(y1 - _HALF, UNIT))
        if not len(rows):
            continue
        across = (UNIT * rows + _HALF - y0) * (x1 - x0) + (x0 - _HALF) * (y1 - y0)
        # The first pixel whose middle is not left of the edge.
        change[rows - top, -(-across // (UNIT * (y1 - y0))) - left] ^= 1
    inside = np.bitwise_xor.accumulate(change, axis=1)[:, :-1]
    pixels[top:bottom, left:right] |= inside > 0


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _side(a: Points, b: Points, p: Points) -> NDArray[np.int64]:
    """On which side of the line from a to b the point p is: -1, 0 or 1. Exact; last axis x, y."""
    cross = (b[..., 0] - a[..., 0]) * (p[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        p[..., 0] - a[..., 0]
    )
    return np.asarray(np.sign(cross))


def _edge(points: Points, i: int) -> str:
    return f"{_text(points[i] / UNIT)} - {_text(points[(i + 1) % len(points)] / UNIT)}"


def _text(point: NDArray[np.float64]) -> str:
    return f"{point[0]:.6g}, {point[1]:.6g}"
