"""The search: turned copies of the reference, tried all over a small picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.locate.pose import Pose, matrix
from edge_ad.locate.pyramid import Grey, from_level, to_level

STEP = 2.0  # px of the level that the rim of the part moves from one angle to the next, at most
FAINT = 0.2  # of the part's contrast: a window with less shows nothing
APART = 0.5  # of the box's shorter side: peaks that are nearer are one part's

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """What the part looks like at one angle (degrees) and scale, in a window around its middle."""

    angle: float
    scale: float
    window: Grey


@dataclass(frozen=True, slots=True)
class Peak:
    """A place that looks like the part, before it is refined."""

    pose: Pose
    score: float


class Search:
    """All templates at one level. `middle` and `size` (width, height) of the box in pixels of the
    picture. Owns its memory."""

    def __init__(
        self,
        plane: Grey,
        level: int,
        middle: Floats,
        size: Floats,
        angles: Floats,
        scales: Sequence[float],
    ) -> None:
        self._level = level
        self._middle = middle
        self._at = to_level(middle, level)
        self._size = np.maximum(np.round(size / 2**level).astype(int), 4)
        self._apart = APART * float(self._size.min())
        # Windows that reach over the frame's edge are compared with a repeated edge.
        self._border = int(self._size.max() // 2 + 1)
        self._templates = [
            Template(a, s, self._turned(plane, a, s)) for s in scales for a in angles.tolist()
        ]
        self._least = (FAINT * min(float(one.window.std()) for one in self._templates)) ** 2
        rows, columns = np.array(plane.shape) + 2 * self._border
        self._wide = np.empty((rows, columns), np.float32)
        shape = (rows - self._size[1] + 1, columns - self._size[0] + 1)
        self._scores = np.empty(shape, np.float32)
        self._best = np.empty(shape, np.float32)
        self._which = np.empty(shape, np.uint16)

    def _turned(self, plane: Grey, angle: float, scale: float) -> Grey:
        width, height = (int(side) for side in self._size)
        pose = matrix(Pose(0.0, 0.0, angle, scale), self._at)
        pose[:, 2] += (np.array([width, height]) - 1) / 2 - self._at  # the middle of the window
        return np.asarray(
            cv2.warpAffine(plane, pose, (width, height), borderMode=cv2.BORDER_REPLICATE), np.float32
        )

    def peaks(self, plane: Grey, most: int) -> list[Peak]:
        """The best places in the frame's plane of this level, the best first, each apart from the
        others."""
        border = self._border
        cv2.copyMakeBorder(plane, border, border, border, border, cv2.BORDER_REPLICATE, dst=self._wide)
        best, which = self._best, self._which
        best.fill(-2.0)
        for i, template in enumerate(self._templates):
            cv2.matchTemplate(self._wide, template.window, cv2.TM_CCOEFF_NORMED, result=self._scores)
            better = self._scores > best
            np.copyto(best, self._scores, where=better)
            np.copyto(which, np.uint16(i), where=better)
        best[self._flat()] = -2.0
        return list(self._peaks(most))

    def _flat(self) -> NDArray[np.bool_]:
        """Where a window has so little contrast that its correlation is rounding."""
        kernel = (int(self._size[0]), int(self._size[1]))
        mean = cv2.boxFilter(self._wide, cv2.CV_32F, kernel, anchor=(0, 0))
        square = cv2.sqrBoxFilter(self._wide, cv2.CV_32F, kernel, anchor=(0, 0))
        rows, columns = self._best.shape
        return np.asarray((square - mean * mean)[:rows, :columns] < self._least)

    def _peaks(self, most: int) -> Iterator[Peak]:
        best, apart = self._best, math.ceil(self._apart)
        for _ in range(most):
            _, score, _, (x, y) = cv2.minMaxLoc(best)
            if score < 0.0:
                return
            template = self._templates[int(self._which[y, x])]
            at = np.array([x, y]) + (self._size - 1) / 2 - self._border
            dx, dy = (from_level(at, self._level) - self._middle).tolist()
            yield Peak(Pose(dx, dy, template.angle, template.scale, score), score)
            best[max(0, y - apart) : y + apart + 1, max(0, x - apart) : x + apart + 1] = -2.0


def angle_steps(reach: float, size: Floats, level: int) -> Floats:
    """Angles from -reach to reach (degrees) for a box of this size, all around from 180 on."""
    radius = float(np.hypot(*size)) / 2 / 2**level
    step = math.degrees(STEP / max(radius, 1.0))
    if reach >= 180.0:
        count = math.ceil(360.0 / step)
        return np.arange(count) * 360.0 / count - 180.0
    count = math.ceil(reach / step)
    return np.linspace(-reach, reach, 2 * count + 1) if count else np.zeros(1)
