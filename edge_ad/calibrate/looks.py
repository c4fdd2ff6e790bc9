"""What the good parts look like as a whole, which the daemon compares with what comes later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_ad.bundle import CameraRule, GoodLooks
from edge_ad.bundle.looks import patch_fits
from edge_ad.calibrate.job import Job
from edge_ad.errors import ConfigError
from edge_ad.frame import Image
from edge_ad.monitor.looks import STATISTICS, Looks, look
from edge_ad.monitor.reference import thinned


def check_patches(job: Job, rules: Mapping[str, CameraRule]) -> None:
    """Raise ConfigError for a patch that is not in the camera's frames."""
    for camera in job.cameras:
        rule = rules[camera.name]
        if camera.patch is not None and not patch_fits(camera.patch, rule.width, rule.height):
            raise ConfigError(
                f"camera {camera.name!r}: patch {list(camera.patch)} reaches out of its frames of "
                f"{rule.width} x {rule.height} px; give x, y, width, height inside of them"
            )


def measure(job: Job, images: Sequence[Image]) -> list[Looks | None]:
    """A part's, by camera; None for frames of any size, which may be of any scene."""
    return [
        look(image, camera.patch) if camera.frame_size == "fixed" else None
        for camera, image in zip(job.cameras, images, strict=True)
    ]


def good_looks(job: Job, parts: Sequence[Sequence[Looks | None]]) -> dict[str, GoodLooks]:
    """Of all parts, by camera."""
    found = {}
    for place, camera in enumerate(job.cameras):
        seen = [looks for part in parts if (looks := part[place]) is not None]
        if seen:
            columns = (thinned(column) for column in zip(*seen, strict=True))
            values = dict(zip(STATISTICS, columns, strict=True))
            found[camera.name] = GoodLooks(patch=camera.patch, **values)
    return found
