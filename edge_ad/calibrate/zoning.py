"""The station's zones as the fit and the bundle take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edge_ad.bundle import CameraRule, ZoneRule
from edge_ad.bundle.zones import own_zones, position_labels
from edge_ad.calibrate.job import Job
from edge_ad.calibration_set import encode_frame
from edge_ad.durable import write_durably
from edge_ad.errors import ConfigError
from edge_ad.gaussian.view import FitSettings
from edge_ad.gaussian.zones import IGNORED, Labels, zones_in
from edge_ad.preprocess.views import count_tiles
from edge_ad.preprocess.zones import LabelImage
from edge_ad.zones import label_images


@dataclass(frozen=True)
class Zoning:
    """rules: in the order of the station; images: a label image by camera; labels [T, P]: see
    `gaussian.zones`, None without zones."""

    rules: list[ZoneRule]
    images: dict[str, LabelImage]
    labels: Labels | None

    @property
    def shares(self) -> list[float]:
        """Of the false rejects, of the zones that have one."""
        return [zone.share for zone in own_zones(self.rules)]

    def settings(self, common: FitSettings, tiles: int) -> list[FitSettings]:
        """Per tile what is fitted."""
        if self.labels is None:
            return [common] * tiles
        return [replace(common, labels=labels) for labels in self.labels]


def find_zones(job: Job, rules: dict[str, CameraRule]) -> Zoning:
    """Draw the zones in frames as the cameras' are, and leave the label images in the work directory.

    Raises ConfigError for zones that cannot be drawn, or that no position of any view shows.
    """
    if not job.zones:
        return Zoning([], {}, None)
    cameras = {zone.camera for zone in job.zones}
    loose = sorted(camera for camera in cameras if rules[camera].frame_size != "fixed")
    if loose:
        raise ConfigError(
            f"camera {loose[0]!r}: zones need frames of one size; set frame_size = 'fixed'"
        )
    shapes = {camera: (rules[camera].height, rules[camera].width) for camera in cameras}
    images = label_images(job.zones, Path(job.base), shapes)
    for camera, image in images.items():
        write_durably(Path(job.work) / zone_file(camera), encode_frame(image))
    values = {name: _of_camera(job, name) for name in cameras}
    zones = [
        ZoneRule(
            name=zone.name,
            camera=zone.camera,
            value=values[zone.camera].index(zone.name) + 1,
            kind=zone.kind,
            share=zone.share,
            min_area=zone.min_area,
            allow=zone.allow,
            allow_area=zone.allow_area,
        )
        for zone in job.zones
    ]
    if job.local is None:
        raise ConfigError("zones need profile 'default': 'paper' has no positions")
    labels = position_labels(zones, images, job.views, (job.local.rows, job.local.columns))
    assert labels is not None
    assert len(labels) == count_tiles(job.views)
    if (labels == IGNORED).all():
        raise ConfigError("the zones ignore all that the views show; leave something to look at")
    seen = zones_in(labels)
    for place, zone in enumerate(own_zones(zones), 1):
        if place not in seen:
            raise ConfigError(
                f"zone {zone.name!r} has a share, but is no position's of any view: it is smaller than "
                "half a position, or outside of every roi; make it larger, or the tiles smaller"
            )
    if own_zones(zones) and job.augment:
        raise ConfigError("calibration.augment and zones with a share exclude each other")
    return Zoning(zones, images, labels)


def zone_file(camera: str) -> str:
    """Of a camera's label image, in the work directory."""
    return f"zones-{camera}.png"


def _of_camera(job: Job, camera: str) -> list[str]:
    return [zone.name for zone in job.zones if zone.camera == camera]
