"""A bundle as a judge beside the daemon, and pictures as the station's cameras would deliver them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2

from edge_ad.bundle import Bundle, current_path, open_bundle
from edge_ad.bundle.store import product_directory
from edge_ad.calibrate.job import Candidate
from edge_ad.calibrate.plan import pixel_rule_name, spare_threads
from edge_ad.capture.images import read_image
from edge_ad.capture.pixels import PixelRule, file_rule
from edge_ad.config import Station
from edge_ad.daemon.loading import check_fits
from edge_ad.engines import chosen_engine
from edge_ad.errors import ConfigError
from edge_ad.frame import Image
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.verdict import Verdict


class Judge(Protocol):
    """What is needed of an `Inspector`."""

    @property
    def cameras(self) -> Sequence[str]:
        """Order of a part's images."""
        ...

    @property
    def threshold(self) -> float:
        """A score above it is a reject."""
        ...

    def inspect_part(self, images: Sequence[Image]) -> Verdict:
        """Judge one image per camera."""
        ...


class Reader:
    """Reads a part's files as the station's cameras would deliver them. Not thread safe."""

    def __init__(self, station: Station, cameras: Sequence[str]) -> None:
        self._rules: dict[str, tuple[PixelRule, int]] = {
            camera.name: (
                file_rule(camera.pixel_format, camera.bit_depth),
                int(camera.max_megapixels * 1e6),
            )
            for camera in station.pictures
        }
        self._cameras = tuple(cameras)

    def read(self, part: Candidate) -> list[Image]:
        """One image per camera, in the inspector's order. Raises CaptureError."""
        return [
            read_image(Path(os.fsdecode(part.files[name])), *self._rules[name]) for name in self._cameras
        ]


def bundle_path(station: Station, wanted: str) -> Path:
    """The directory of the bundle with the id `wanted`, "" for the one in use; ConfigError when there is
    none yet."""
    if wanted:
        return (product_directory(station.state_path, station.product) / wanted).resolve()
    path = current_path(station.state_path, station.product)
    if path is None:
        raise ConfigError(
            f"{station.path or station.state_path}: product {station.product!r} has no bundle yet to "
            "judge by; 'edge-ad calibrate' makes one"
        )
    return path


def open_judge(station: Station, path: Path) -> Inspector:
    """The bundle at `path` as the daemon would judge by it, on the cores that a running daemon leaves.

    Raises ArtifactError (refused, or made for another station), ConfigError (pictures would be converted
    by another rule) and DeviceError.
    """
    threads = spare_threads(station)
    cv2.setNumThreads(threads)
    bundle = open_bundle(path)
    check_fits(bundle, station)
    _check_pixel_rules(bundle, station)
    return open_inspector(bundle, chosen_engine(station, threads))


def _check_pixel_rules(bundle: Bundle, station: Station) -> None:
    """Pictures converted by another rule than the bundle's would be judged by the wrong Gaussians."""
    rules = bundle.manifest.preprocess.cameras
    for camera in station.pictures:
        have, want = rules[camera.name].pixel_rule, pixel_rule_name(station, camera)
        if have != want:
            raise ConfigError(
                f"{bundle.path}: was calibrated with pixel rule {have!r} of camera {camera.name!r}, "
                f"{station.path} asks for {want!r}; calibrate again or restore the station file"
            )
