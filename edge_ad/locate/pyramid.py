"""A picture at the sizes that it is looked at, without what light does to it.

Level k has every side halved k times. What the light changes slowly over the picture is taken out by
subtracting a blurred copy.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.frame import Image
from edge_ad.preprocess.resize import halve

COARSE = 60  # px of the longer side that the search is made at, at least
FINE = 400  # the same of the last refinement
BLUR = 0.06  # of a level's longer side: sigma of what is subtracted

Grey = NDArray[np.float32]


def choose_levels(height: int, width: int) -> list[int]:
    """The levels that are looked at, the coarsest first."""
    longer = max(height, width)
    last = 0
    while longer / 2 ** (last + 1) >= COARSE:
        last += 1
    first = last
    while first > 0 and longer / 2**first < FINE:
        first -= 1
    return list(range(last, first - 1, -1))


class Pyramid:
    """Levels of pictures of one shape. Owns its memory, which the next `build` writes to again."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        height, width = shape[:2]
        self.shape = shape
        self.levels = choose_levels(height, width)
        self._grey = np.empty((height, width), np.uint8) if len(shape) == 3 else None
        self._halves: list[Image] = []
        sizes = [(height, width)]
        while len(self._halves) < self.levels[0]:
            height, width = (height + 1) // 2, (width + 1) // 2
            self._halves.append(np.empty((height, width), np.uint8))
            sizes.append((height, width))
        self.planes = {k: np.empty(sizes[k], np.float32) for k in self.levels}
        self._small = {k: np.empty(_small(sizes[k]), np.float32) for k in self.levels}
        self._slow = {k: np.empty(sizes[k], np.float32) for k in self.levels}

    def build(self, image: Image) -> dict[int, Grey]:
        """Per level the picture without what changes slowly, float32, in grey values."""
        grey = image
        if self._grey is not None:
            cv2.cvtColor(image, cv2.COLOR_BGR2GRAY, dst=self._grey)
            grey = self._grey
        chain = [grey]
        for half in self._halves:
            halve(chain[-1], half)
            chain.append(half)
        for k, plane in self.planes.items():
            np.copyto(plane, chain[k])
            small, slow = self._small[k], self._slow[k]
            cv2.resize(plane, small.shape[::-1], dst=small, interpolation=cv2.INTER_AREA)
            sigma = BLUR * max(small.shape)
            cv2.GaussianBlur(small, (0, 0), sigma, dst=small, borderType=cv2.BORDER_REPLICATE)
            cv2.resize(small, plane.shape[::-1], dst=slow, interpolation=cv2.INTER_LINEAR)
            cv2.subtract(plane, slow, dst=plane)
        return self.planes


def _small(size: tuple[int, int]) -> tuple[int, int]:
    """Large enough for what is blurred."""
    factor = max(1.0, max(size) / COARSE)
    return max(8, round(size[0] / factor)), max(8, round(size[1] / factor))


def to_level(x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Points of the picture as points of level k."""
    return np.asarray((x + 0.5) / 2**k - 0.5)


def from_level(x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The inverse of `to_level`."""
    return np.asarray((x + 0.5) * 2**k - 0.5)
