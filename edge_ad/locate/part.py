"""Every camera's picture of a part laid straight, before views are cut from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.frame import Image
from edge_ad.locate.locator import Locator
from edge_ad.locate.pose import Box, Failure, Pose, matrix
from edge_ad.locate.regions import share_outside

ROUNDING = 1e-5  # of a region's area


@dataclass(frozen=True, slots=True)
class Straight:
    """Images in the order of the cameras, as they came where a camera locates nothing; their poses. Or,
    where a part cannot be judged, the place of its camera, why, and a line about it; `view`: the one
    that reaches out of the frame, where that is why."""

    images: Sequence[Image]
    poses: tuple[Pose | None, ...]
    camera: int = 0
    failure: Failure | None = None
    detail: str = ""
    view: str = ""


@dataclass(frozen=True, slots=True)
class CameraLocator:
    """How one camera's parts are laid straight: what finds them, the regions of its views by name, and
    which share of one may be outside of the frame."""

    locator: Locator
    regions: Mapping[str, Box]
    max_outside: float


@dataclass(frozen=True, slots=True)
class Follower:
    """A picture in which the part lies as in another one of the same camera, whose place is `leader`."""

    leader: int
    regions: Mapping[str, Box]
    max_outside: float


class PartLocator:
    """Finds a part by what is in `finders` for each of its cameras, None for one whose parts lie still.
    A part that shows too little of a view is not judged. Owns the straightened images, which the next
    part's overwrite: not thread safe."""

    def __init__(self, finders: Sequence[CameraLocator | Follower | None]) -> None:
        self.finders = tuple(_leading(one, finders) for one in finders)
        self._leaders = [one.leader if isinstance(one, Follower) else None for one in finders]
        # Those that follow come after all that find.
        self._order = sorted(range(len(self.finders)), key=lambda i: self._leaders[i] is not None)
        self._straight = [
            None if one is None else np.empty(one.locator.shape, np.uint8) for one in self.finders
        ]
        self._nothing: tuple[Pose | None, ...] = (None,) * len(self.finders)
        self._idle = not any(self.finders)

    def warm_up(self) -> None:
        """Make the first part as quick as the others, however it lies."""
        for finder in self.finders:
            if finder is not None:
                finder.locator.warm_up()

    def straighten(self, images: Sequence[Image]) -> Straight:
        """Find the part in each image and lay it straight; images have the shapes of the references."""
        found = self.find(images)
        if self._idle or found.failure is not None:
            return found
        straight = list(images)
        for place, (finder, out) in enumerate(zip(self.finders, self._straight, strict=True)):
            pose = found.poses[place]
            if finder is not None and out is not None and pose is not None:
                finder.locator.straighten(images[place], pose, out)
                straight[place] = out
        return Straight(straight, found.poses)

    def find(self, images: Sequence[Image]) -> Straight:
        """Find the part in each image, and leave the images as they are."""
        if self._idle:
            return Straight(images, self._nothing)
        poses: list[Pose | None] = list(self._nothing)
        for place in self._order:
            finder, leader = self.finders[place], self._leaders[place]
            if finder is None:
                continue
            if leader is None:
                located = finder.locator.find(images[place])
                if located.pose is None:
                    return Straight(images, self._nothing, place, located.failure, located.detail)
                pose = located.pose
            else:
                led = poses[leader]
                assert led is not None
                pose = led
            poses[place] = pose
            view, share = _worst(finder, pose)
            if share > finder.max_outside + ROUNDING:
                detail = (
                    f"{share:.1%} of view {view} is outside of the frame, locate.max_outside = "
                    f"{finder.max_outside:g}"
                )
                return Straight(images, tuple(poses), place, "out_of_range", detail, view)
        return Straight(images, tuple(poses))

    def moves(self, poses: Sequence[Pose | None]) -> list[NDArray[np.float64] | None]:
        """For each camera the matrix [2, 3] that takes a place in the reference to one in the frame;
        None where nothing is laid straight."""
        return [
            None if finder is None or pose is None else matrix(pose, finder.locator.middle)
            for finder, pose in zip(self.finders, poses, strict=True)
        ]


def _leading(
    one: CameraLocator | Follower | None, finders: Sequence[CameraLocator | Follower | None]
) -> CameraLocator | None:
    """What lays a picture straight. ValueError for a follower of a picture that finds nothing."""
    if not isinstance(one, Follower):
        return one
    leader = finders[one.leader]
    if not isinstance(leader, CameraLocator):
        raise ValueError(f"picture {one.leader} finds nothing that others could follow")
    return CameraLocator(leader.locator, one.regions, one.max_outside)


def _worst(finder: CameraLocator, pose: Pose) -> tuple[str, float]:
    """The view of which most is outside of the frame, and how much that is."""
    locator = finder.locator
    shares = {
        name: share_outside(region, pose, locator.middle, locator.shape)
        for name, region in finder.regions.items()
    }
    worst = max(shares, key=shares.__getitem__)
    return worst, shares[worst]
