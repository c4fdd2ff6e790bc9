"""What can be wrong with a rendered part, drawn into its image; and the shapes of it, for defects of a
given size (`capture.insertion`) as well.

Each defect is drawn on `image` (uint8) where `metal` (a mask) is set. `unit`: pixels per 1/480 of the
frame.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.frame import Image

DEFECTS = ("scratch", "dent", "stain", "missing_feature")

Rng = np.random.Generator
Plane = NDArray[np.float64]
Draw = Callable[[Rng, Image, Image, float], None]


def bent_line(x: float, y: float, length: float, angle: float, bend: float) -> Plane:
    """Points [12, 2] of a slightly bent line: middle, length and bend in px, angle in radians."""
    t = np.linspace(-0.5, 0.5, 12)
    arc = bend * (t**2 * 4 - 0.5)
    xs = x + t * length * np.cos(angle) - arc * np.sin(angle)
    ys = y + t * length * np.sin(angle) + arc * np.cos(angle)
    return np.stack([xs, ys], axis=1)


def stroke(shape: tuple[int, int], line: Plane, thick: int, grey: int) -> Image:
    """A line of points [n, 2], `thick` px wide, on black: uint8 of `shape`, antialiased."""
    layer = np.zeros(shape, np.uint8)
    cv2.polylines(layer, [_fixed(line)], False, grey, thick, cv2.LINE_AA, 4)
    return layer


def uneven_rim(dx: Plane, dy: Plane, radius: float, phase: Plane) -> Plane:
    """How far the rim of a blot is in each pixel's direction, px: `radius` on average."""
    angle = np.arctan2(dy, dx)
    rim: Plane = radius * (1 + 0.2 * np.sin(2 * angle + phase[0]) + 0.12 * np.sin(5 * angle + phase[1]))
    return rim


def blot(dx: Plane, dy: Plane, rim: Plane | float, depth: float, soft: float) -> Plane:
    """`depth` inside of `rim`, half of it there, 0 outside; `soft`: px over which it falls."""
    inside: Plane = depth / (1 + np.exp((np.hypot(dx, dy) - rim) / soft))
    return inside


def _scratch(rng: Rng, image: Image, metal: Image, unit: float) -> None:
    """A bright, slightly bent line with a dark lip, across the brushing."""
    x, y = _place(rng, metal)
    length = rng.uniform(80, 140) * unit
    angle = rng.uniform(0.3, np.pi - 0.3)
    line = bent_line(x, y, length, angle, rng.uniform(-10, 10) * unit)
    thick = max(1, round(rng.uniform(2.4, 3.4) * unit))
    bright = stroke(metal.shape, line, thick, int(rng.integers(60, 90)))
    lip = stroke(metal.shape, line + thick, thick, int(rng.integers(40, 60)))
    cv2.subtract(image, lip, dst=image, mask=metal)
    cv2.add(image, bright, dst=image, mask=metal)


def _dent(rng: Rng, image: Image, metal: Image, unit: float) -> None:
    """A hollow: the side towards the light is dark, the far side bright."""
    radius = rng.uniform(16, 24) * unit
    window, dx, dy = _window(rng, image, metal, radius)
    shape = np.exp(-(dx**2 + dy**2) / (0.5 * radius**2))
    shade = rng.uniform(100, 140) * shape * (dx + dy) / radius
    image[window] = _only(metal[window], image[window], image[window] + shade)


def _stain(rng: Rng, image: Image, metal: Image, unit: float) -> None:
    """A dark blot with an uneven rim."""
    radius = rng.uniform(20, 32) * unit
    window, dx, dy = _window(rng, image, metal, radius)
    rim = uneven_rim(dx, dy, radius, rng.uniform(0, 2 * np.pi, 2))
    depth = blot(dx, dy, rim, rng.uniform(0.35, 0.5), 1.5 * unit)
    image[window] = _only(metal[window], image[window], image[window] * (1 - depth))


# A missing feature is not drawn: the plate is rendered without it.
DRAW: dict[str, Draw] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
}


def _place(rng: Rng, metal: Image) -> tuple[int, int]:
    """A random point of the metal."""
    height, width = metal.shape
    for _ in range(64):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        if metal[y, x]:
            return x, y
    return width // 2, height // 4


def _window(
    rng: Rng, image: Image, metal: Image, radius: float
) -> tuple[tuple[slice, slice], Plane, Plane]:
    """A square of 2 radii around a random point of the metal, and its pixels' offsets from there."""
    x, y = _place(rng, metal)
    reach = int(2 * radius) + 1
    rows = slice(max(0, y - reach), min(image.shape[0], y + reach + 1))
    columns = slice(max(0, x - reach), min(image.shape[1], x + reach + 1))
    dy, dx = np.mgrid[rows, columns].astype(np.float64)
    return (rows, columns), dx - x, dy - y


def _only(metal: Image, before: Image, after: Plane) -> Image:
    """`after` where there is metal."""
    return np.where(metal > 0, np.clip(after, 0, 255), before).astype(np.uint8)


def _fixed(line: Plane) -> NDArray[np.int32]:
    """Points in OpenCV's fixed-point notation, 4 fractional bits."""
    return np.round(line * 16).astype(np.int32).reshape(-1, 1, 2)
