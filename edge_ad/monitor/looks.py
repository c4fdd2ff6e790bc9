"""What a picture looks like as a whole, in four numbers that light, focus and a moved camera change.

Calibration measures every good part, the daemon a sample of the parts that it judges: by the same
function on the same pixels, before the part is laid straight.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from edge_ad.frame import Image

_THIN = 512  # longer side of what grey values are taken of, pixels
_SMALL = 128  # of what x and y are measured on
_SHARP = 512  # of the middle of the frame, whose sharpness is measured

Patch = tuple[int, int, int, int]


class Looks(NamedTuple):
    """grey: mean of the reference patch, 0 to 255. focus: variance of the Laplacian over that of the
    grey values in the middle of the frame, which gain does not change. x, y: the centroid of the edges,
    as shares of the frame's width and height."""

    grey: float
    focus: float
    x: float
    y: float


STATISTICS = Looks._fields


def look(image: Image, patch: Patch | None = None) -> Looks:
    """Measure a frame, uint8 H x W or H x W x 3; `patch`: x, y, width, height of what `grey` is of,
    the whole frame without one. 1 to 3 ms for 5 megapixels."""
    thin = _thin(image)
    part = thin
    if patch is not None:
        x, y, width, height = patch
        part = _thin(image[y : y + height, x : x + width])
    grey = cv2.mean(part)[: 1 if image.ndim == 2 else 3]
    return Looks(float(np.mean(grey)), _focus(image), *_centroid(thin))


def _thin(image: Image) -> Image:
    """Every so manieth pixel: noise is averaged over enough of them."""
    return _smaller(image, _THIN, cv2.INTER_NEAREST)


def _focus(image: Image) -> float:
    rows, columns = image.shape[:2]
    top, left = max(0, rows - _SHARP) // 2, max(0, columns - _SHARP) // 2
    middle = _grey(image[top : top + _SHARP, left : left + _SHARP])
    _, edges = cv2.meanStdDev(cv2.Laplacian(middle, cv2.CV_16S))
    _, contrast = cv2.meanStdDev(middle)
    return float(edges[0, 0] ** 2 / (contrast[0, 0] ** 2 + 1.0))


def _centroid(image: Image) -> tuple[float, float]:
    small = _grey(_smaller(image, _SMALL, cv2.INTER_AREA))
    edges = cv2.magnitude(*(cv2.Sobel(small, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0)))
    found = cv2.moments(edges)
    if found["m00"] <= 0.0:  # nothing in it at all
        return 0.5, 0.5
    rows, columns = small.shape
    return (
        (found["m10"] / found["m00"] + 0.5) / columns,
        (found["m01"] / found["m00"] + 0.5) / rows,
    )


def _smaller(image: Image, side: int, how: int) -> Image:
    rows, columns = image.shape[:2]
    scale = side / max(rows, columns)
    if scale >= 1.0:
        return image
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _grey(image: Image) -> Image:
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(grey, np.uint8)
