"""What a part can be taken for: itself the wrong way round.

A plate that is turned by 180 degrees may differ from one that is not by a single slot, and is then found
well enough. So the reference is turned and mirrored beforehand, and where the result is much like it
is, the points that differ are noted; a part that is found is looked at there once more. What looks the
same everywhere, as a plate without the slot, is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.frame import Image
from edge_ad.locate.pose import Failure, Pose, matrix
from edge_ad.locate.pyramid import Grey
from edge_ad.locate.refine import Points, correlation, sample

EVERY = 30.0  # degrees
SAME = 0.75  # correlation, where it differs most, from which there is no difference
SHARE = 0.25  # of the squared difference of the piece that differs most: those with more are looked at
SURE = 0.5  # of the squared differences from the reference: fewer say that it is the other

Floats = NDArray[np.float64]
Place = Callable[[Image], tuple[dict[int, Grey], Pose | None, Points]]


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """The reference the other way round: at which points it differs, and how it looks at them."""

    failure: Failure
    text: str
    points: Points
    where: NDArray[np.int64]
    values: Floats


def look_alikes(reference: Image, middle: Floats, place: Place) -> list[Alike]:
    """Ways round in which the reference looks much like itself, but not the same."""
    found: list[Alike] = []
    for mirrored in (False, True):
        for angle in np.arange(0.0, 360.0, EVERY):
            if not mirrored and min(angle, 360.0 - angle) < 1.0:
                continue
            planes, pose, points = place(_turned(reference, middle, float(angle), mirrored))
            if pose is None:
                continue
            values, inside = sample(planes[points.level], points, pose)
            own = points.values
            values = _in_light_of(values, own, inside)
            # Whole pieces: single points that differ most are the reference's own noise, and every other
            # part would then be more like the other way round.
            differ = np.bincount(points.piece, (values - own) ** 2 * inside)
            where = np.flatnonzero((differ > SHARE * differ.max())[points.piece])
            if correlation(values[where], own[where]) > SAME:
                continue
            failure: Failure = "mirrored" if mirrored else "orientation"
            text = "mirrored" if mirrored else f"turned by about {angle:.0f} degrees"
            found.append(Alike(failure, f"the part is {text}", points, where, values[where]))
    return found


def find_alike(alike: Sequence[Alike], planes: dict[int, Grey], pose: Pose) -> Alike | None:
    """Which of them a found part is rather than the reference itself."""
    if not alike:
        return None
    points = alike[0].points
    values, inside = sample(planes[points.level], points, pose)
    seen = _in_light_of(values, points.values, inside)

    def likeness(one: Alike) -> float:
        """Squared difference from the other way round in units of that from the reference."""
        as_it_should = float(((seen - points.values)[one.where] ** 2).sum())
        return float(((seen[one.where] - one.values) ** 2).sum()) / max(as_it_should, 1e-9)

    found = [(ratio, one) for one in alike if (ratio := likeness(one)) < SURE]
    # What is its own mirror image is turned rather than mirrored.
    return min(
        found,
        key=lambda item: item[0] + (SURE if item[1].failure == "mirrored" else 0.0),
        default=(0.0, None),
    )[1]


def _turned(reference: Image, middle: Floats, angle: float, mirrored: bool) -> Image:
    turn = matrix(Pose(0.0, 0.0, angle), middle)
    if mirrored:
        turn = turn @ np.array([[-1.0, 0.0, 2 * middle[0]], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    size = reference.shape[1::-1]
    return np.asarray(cv2.warpAffine(reference, turn, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _in_light_of(values: Floats, own: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Values in the reference's grey values, by a straight line through those inside."""
    x, y = values[inside], own[inside]
    spread = float(x.var())
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 1e-9 else 1.0
    return np.asarray((values - x.mean()) * slope + y.mean())
