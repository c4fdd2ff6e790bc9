"""A part's frames under the maps of what is unusual on them, for a person to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle import ViewRule
from edge_ad.calibration_set import encode_image
from edge_ad.frame import Image
from edge_ad.locate.pose import Pose, matrix, middle_of
from edge_ad.locate.straight import lay_straight
from edge_ad.preprocess.views import view_region
from edge_ad.report.pictures import heat_overlay

if TYPE_CHECKING:
    from edge_ad.bundle.manifest import Manifest
    from edge_ad.verdict import Maps

QUALITY = 90  # of the JPEG


@dataclass(frozen=True, slots=True, eq=False)
class PartDrawer:
    """Draws the parts that one bundle judged, without anything else of it. For any thread.

    cameras: the order of a part's poses; views: the order of its maps; middles: by camera that locates,
    the middle of what its parts are found by.
    """

    cameras: tuple[str, ...]
    views: tuple[ViewRule, ...]
    middles: Mapping[str, NDArray[np.float64]]

    def draw(
        self,
        images: Mapping[str, Image],
        poses: Sequence[Pose | None],
        maps: Maps,
        limit: float,
        largest: int | None = None,
    ) -> dict[str, Image]:
        """By camera its frame as BGR: laid straight where the bundle locates, and under the maps of its
        views, clear at 0, hottest at `limit`. Where a side is longer than `largest` pixels, it is made
        smaller by the least whole factor for which none is.

        The frames, uint8, H x W grey or H x W x 3 BGR, stay as they are; the rest is as the verdict has
        it. Raises KeyError where a frame is missing, ConfigError where one has not the bundle's size.
        """
        pictures, by = {}, {}
        for camera, pose in zip(self.cameras, poses, strict=True):
            by[camera] = ceil(max(images[camera].shape[:2]) / largest) if largest else 1
            pictures[camera] = self._straight(camera, images[camera], pose, by[camera])
        for view, anomaly in zip(self.views, maps, strict=True):
            picture, n = pictures[view.camera], by[view.camera]
            x, y, width, height = view_region(view, images[view.camera].shape)
            region = picture[y // n : ceil((y + height) / n), x // n : ceil((x + width) / n)]
            region[:] = heat_overlay(np.ascontiguousarray(region), anomaly, limit)
        return pictures

    def _straight(self, camera: str, image: Image, pose: Pose | None, by: int) -> Image:
        """A copy, BGR, so many times smaller."""
        out = image.copy()
        if pose is not None:
            lay_straight(image, matrix(pose, self.middles[camera]), out)
        if by > 1:
            height, width = image.shape[:2]
            size = (ceil(width / by), ceil(height / by))
            out = np.asarray(cv2.resize(out, size, interpolation=cv2.INTER_AREA), np.uint8)
        return out if out.ndim == 3 else np.asarray(cv2.cvtColor(out, cv2.COLOR_GRAY2BGR), np.uint8)


def part_drawer(manifest: Manifest) -> PartDrawer | None:
    """For the parts that the bundle judges; None for a bundle that has no maps (profile "paper")."""
    if manifest.local is None:
        return None
    cameras, middles = manifest.preprocess.cameras, {}
    for name, camera in cameras.items():
        # A shot that follows another is laid straight as that one is, about the same middle.
        leader = cameras[camera.locate.shot or name].locate if camera.locate is not None else None
        if leader is not None:
            middles[name] = middle_of(leader.box)
    return PartDrawer(tuple(cameras), tuple(manifest.views), middles)


def encode_overlay(picture: Image) -> bytes:
    """As JPEG. Raises DeviceError where it is too large for one."""
    return encode_image(".jpeg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
