"""What a pose is, what is looked for, and what is found.

A point of the reference at x lies in the frame at

    W(x) = c + (dx, dy) + scale R(angle) (x - c)

with c the middle of the box, pixels counted from the middle of the upper left one, x to the right and y
down, and R turning counter-clockwise as one looks at the picture (`cv2.getRotationMatrix2D`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
# not_found: nothing there is like the part. out_of_range: it is there, but further off than allowed, or
# partly outside of the frame. empty: nothing is there. two_parts: more than one. orientation: turned by
# far more than allowed. mirrored: its mirror image is there.
Failure = Literal["not_found", "out_of_range", "empty", "two_parts", "orientation", "mirrored"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is looked for. max_shift: share of the frame's width and height; max_angle: degrees;
    max_scale: share, 0 where the size is fixed; min_quality: 0 to 1; box: x, y, width, height of the
    part in the reference, None for all of it but a margin of max_shift."""

    max_shift: float = 0.1
    max_angle: float = 15.0
    max_scale: float = 0.0
    min_quality: float = 0.6
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the part lies: dx, dy in pixels, angle in degrees, scale; see the module. quality: the
    correlation with the reference, at most 1; outside: share of the box that is outside of the frame."""

    dx: float
    dy: float
    angle: float
    scale: float = 1.0
    quality: float = 1.0
    outside: float = 0.0


@dataclass(frozen=True, slots=True)
class Located:
    """The pose, or why there is none, in a word and in a line."""

    pose: Pose | None
    failure: Failure | None = None
    detail: str = ""


def rotation(angle: float) -> NDArray[np.float64]:
    """R [2, 2] of an angle in degrees."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cos, sin], [-sin, cos]])


def matrix(pose: Pose, middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2, 3] that takes points of the reference to points of the frame."""
    turn = pose.scale * rotation(pose.angle)
    return np.column_stack([turn, middle + np.array([pose.dx, pose.dy]) - turn @ middle])


def middle_of(box: Box) -> NDArray[np.float64]:
    """The middle of a box of whole pixels."""
    return np.array([box[0] + (box[2] - 1) / 2, box[1] + (box[3] - 1) / 2])
