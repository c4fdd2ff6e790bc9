"""Every camera's picture of a part laid straight, before views are cut from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_ad.frame import Image
from edge_ad.locate.locator import Locator
from edge_ad.locate.pose import Failure, Pose


@dataclass(frozen=True, slots=True)
class Straight:
    """Images in the order of the cameras, as they came where a camera locates nothing; their poses. Or,
    where a part was not found, the place of its camera, why, and a line about it."""

    images: Sequence[Image]
    poses: tuple[Pose | None, ...]
    camera: int = 0
    failure: Failure | None = None
    detail: str = ""


class PartLocator:
    """The locators of a part's cameras, None for one whose parts lie still. Where more than
    `max_outside` of a part is outside of the frame it is not judged. Owns the straightened images, which
    the next part's overwrite: not thread safe."""

    def __init__(self, locators: Sequence[Locator | None], max_outside: Sequence[float]) -> None:
        self.locators = tuple(locators)
        self._max_outside = tuple(max_outside)
        self._straight = [None if one is None else np.empty(one.shape, np.uint8) for one in locators]
        self._nothing: tuple[Pose | None, ...] = (None,) * len(self.locators)
        self._idle = not any(self.locators)

    def straighten(self, images: Sequence[Image]) -> Straight:
        """Find the part in each image and lay it straight; images have the shapes of the references."""
        if self._idle:
            return Straight(images, self._nothing)
        found = list(images)
        poses: list[Pose | None] = list(self._nothing)
        for place, (locator, out) in enumerate(zip(self.locators, self._straight, strict=True)):
            if locator is None or out is None:
                continue
            located = locator.find(images[place])
            pose = located.pose
            if pose is None:
                return Straight(images, self._nothing, place, located.failure, located.detail)
            if pose.outside > self._max_outside[place]:
                detail = (
                    f"{pose.outside:.0%} of the part is outside of the frame, locate.max_outside = "
                    f"{self._max_outside[place]:g}"
                )
                return Straight(images, self._nothing, place, "out_of_range", detail)
            locator.straighten(images[place], pose, out)
            found[place], poses[place] = out, pose
        return Straight(found, tuple(poses))
