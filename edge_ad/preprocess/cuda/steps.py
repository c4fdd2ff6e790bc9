"""Which pixels a resized tile's columns and rows are made of, by OpenCV's rules (`steps` of `layout`).

`edge_ad.preprocess.resize.RULE` says which filter is used when. OpenCV's arithmetic, in its own order:

    INTER_LINEAR_EXACT     places in double, weights rounded to 1/256, half to even
    INTER_AREA             float32 weights of double shares; by whole numbers: a sum and one float32
    INTER_AREA, one side   weights of 1/2048 for both pixels, places that begin at the left edge
    of which grows

Measured on x86-64. A compiler that fuses products and sums with the float32 weights, as one for ARM may,
could round a long, narrow image in another way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.preprocess.cuda.layout import MOST_LEVELS, PATCH

Ints = NDArray[np.int32]
EPSILON = 2.0**-52  # how far from a whole number OpenCV takes a ratio for one
THIN = 1e-3  # a pixel's share below which OpenCV leaves it out


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """How a region becomes a tile: `before` halvings by `halve_regions`, `levels` by `resize_tiles`, and
    then `mode`, with columns and rows as `layout` says. patch: the most rows and columns that a block
    keeps in shared memory."""

    before: int
    levels: int
    mode: str
    columns: Ints
    rows: Ints
    patch: tuple[int, int] = (0, 0)


def plan_steps(region: tuple[int, int], target: tuple[int, int]) -> Steps:
    """Steps from a region to a target, both (height, width)."""
    (height, width), (tall, wide) = region, target
    halvings = 0
    while height >= 2 * tall and width >= 2 * wide:
        height, width = (height + 1) // 2, (width + 1) // 2
        halvings += 1
    before = -(-max(0, halvings - MOST_LEVELS) // MOST_LEVELS) * MOST_LEVELS
    before, levels = min(before, halvings), max(0, halvings - before)
    nothing = np.zeros(0, np.int32)
    if (height, width) == (tall, wide):
        return Steps(before, levels, "sized", nothing, nothing)
    if height <= 4 * tall and width <= 4 * wide:
        columns, rows = bilinear(width, 2 * wide), bilinear(height, 2 * tall)
        patch = _span(rows, 2 * PATCH[0], height), _span(columns, 2 * PATCH[1], width)
        return Steps(before, levels, "twice", columns, rows, patch)
    mode, columns, rows = _area((height, width), target)
    return Steps(halvings, 0, mode, columns, rows)


def bilinear(side: int, target: int) -> Ints:
    """Per pixel of the target: first pixel << 9 | weight of the next, of 256."""
    scale = 1.0 / (target / side)
    steps = []
    for i in range(target):
        place = scale * (i + 0.5) - 0.5
        first = math.floor(place)
        weight = round((place - first) * 256)
        inside = 0 <= first < side - 1
        steps.append(first << 9 | weight if inside else max(0, min(first, side - 1)) << 9)
    return np.array(steps, np.int32)


def _span(steps: Ints, size: int, side: int) -> int:
    """The most pixels that `size` places in succession are interpolated from."""
    first = steps >> 9
    ends = np.minimum(np.arange(len(first)) // size * size + size, len(first)) - 1
    return int((np.minimum(first[ends] + 1, side - 1) - first + 1).max())


def _area(side: tuple[int, int], target: tuple[int, int]) -> tuple[str, Ints, Ints]:
    """Mode, columns and rows of cv2.INTER_AREA straight to the target."""
    scales = [1.0 / (to / of) for of, to in zip(side, target, strict=True)]
    if min(scales) < 1.0:
        return "stretch", _stretched(side[1], target[1]), _stretched(side[0], target[0])
    whole = [round(scale) for scale in scales]
    if all(abs(scale - n) < EPSILON for scale, n in zip(scales, whole, strict=True)):
        share = np.float32(1.0) / np.float32(whole[0] * whole[1])
        rows = np.array([whole[0], share.view(np.int32)], np.int32)
        return "whole_area", np.array([whole[1]], np.int32), rows
    return "area", _weighted(side[1], target[1]), _weighted(side[0], target[0])


def _weighted(side: int, target: int) -> Ints:
    """Per pixel of the target: first pixel, how many, where their weights lie from the beginning of this
    on; then the weights."""
    scale = 1.0 / (target / side)
    places: list[tuple[int, int, int]] = []
    weights: list[float] = []
    for i in range(target):
        begin = i * scale
        end = begin + scale
        cell = min(scale, side - begin)
        last = min(math.floor(end), side - 1)
        first = min(math.ceil(begin), last)
        shares = [1.0 / cell] * (last - first)
        start = first
        if first - begin > THIN:
            shares.insert(0, (first - begin) / cell)
            start -= 1
        if end - last > THIN:
            shares.append(min(end - last, 1.0, cell) / cell)
        places.append((start, len(shares), 3 * target + len(weights)))
        weights += shares
    bits = np.array(weights, np.float32).view(np.int32)
    return np.concatenate([np.array(places, np.int32).reshape(-1), bits])


def _stretched(side: int, target: int) -> Ints:
    """Per pixel of the target: first pixel, then weight << 16 | weight of the next, of 2048."""
    ratio = target / side
    scale = 1.0 / ratio
    steps = []
    for i in range(target):
        first = math.floor(i * scale)
        share = np.float32((i + 1) - (first + 1) * ratio)
        share = np.float32(0.0) if share <= 0 else share - np.floor(share)
        if first < 0 or first >= side - 1:
            share = np.float32(0.0)
        weights = [int(np.rint(w * np.float32(2048))) for w in (np.float32(1.0) - share, share)]
        steps += [max(0, min(first, side - 1)), weights[0] << 16 | weights[1]]
    return np.array(steps, np.int32)
