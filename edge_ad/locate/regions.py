"""Which regions of the reference part's frame are looked at, and how much of one a part shows.

What lies outside of the frame was not seen by the camera. When the part is laid straight the frame's
edge is repeated there, and looks the same on good parts and bad ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.locate.pose import Box, Pose, matrix

EDGE = 1.0  # px that interpolation reaches beyond the frame, and is not outside


class Reach(Protocol):
    """How far off parts may lie."""

    @property
    def max_shift(self) -> float: ...


class Region(Protocol):
    """A view's region."""

    @property
    def camera(self) -> str: ...
    @property
    def roi(self) -> Box | None: ...


ViewT = TypeVar("ViewT", bound=msgspec.Struct)


def default_box(shape: Sequence[int], max_shift: float) -> Box:
    """The frame less what a part may be off by, in whole pixels."""
    height, width = shape[:2]
    x, y = round(max_shift * width), round(max_shift * height)
    return x, y, width - 2 * x, height - 2 * y


def within_reach(
    views: Iterable[ViewT],
    locates: Mapping[str, Reach | None],
    shapes: Mapping[str, Sequence[int]],
) -> list[ViewT]:
    """Views with the region that those without a roi have where their camera locates: the frame less
    what a part may be off by. By camera how it locates, and its frames' shape."""
    found = []
    for view in views:
        region: Region = view  # type: ignore[assignment]
        locate = locates.get(region.camera)
        if locate is not None and region.roi is None and region.camera in shapes:
            view = msgspec.structs.replace(
                view, roi=default_box(shapes[region.camera], locate.max_shift)
            )
        found.append(view)
    return found


def share_outside(box: Box, pose: Pose, middle: NDArray[np.float64], shape: Sequence[int]) -> float:
    """How much of a region of the reference is outside of a frame of this shape, 0 to 1."""
    placed = _corners(box) @ (move := matrix(pose, middle))[:, :2].T + move[:, 2]
    height, width = shape[:2]
    low, high = np.full(2, -0.5 - EDGE), np.array([width, height]) - 0.5 + EDGE
    if ((placed >= low) & (placed <= high)).all():
        return 0.0
    frame = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    middle_of_frame = (low + high) / 2  # from there float32 has digits enough
    seen, _ = cv2.intersectConvexConvex(
        (placed - middle_of_frame).astype(np.float32), (frame - middle_of_frame).astype(np.float32)
    )
    return float(np.clip(1.0 - seen / (box[2] * box[3] * pose.scale**2), 0.0, 1.0))


def always_inside(
    box: Box, poses: Iterable[Pose], middle: NDArray[np.float64], shape: Sequence[int]
) -> Box | None:
    """The region shrunk about its middle until all of these parts show all of it; None where one does
    not even show the middle."""
    x, y, width, height = box
    poses = list(poses)

    def shrunk(share: float) -> Box:
        wide, high = int(width * share), int(height * share)
        return x + (width - wide) // 2, y + (height - high) // 2, wide, high

    for share in np.arange(1.0, 0.04, -0.01).tolist():
        small = shrunk(share)
        if all(share_outside(small, pose, middle, shape) == 0.0 for pose in poses):
            return small
    return None


def _corners(box: Box) -> NDArray[np.float64]:
    """[4, 2], counted from the middle of the first pixel."""
    x, y, width, height = box
    ends = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    return np.array(ends, np.float64) - 0.5
