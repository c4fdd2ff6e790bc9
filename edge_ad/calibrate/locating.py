"""How the good parts lie, and which of them the others are laid like.

The reference is the part that lies nearest to the middle of all: then no part is moved further than it
must be. Where nothing is located it is measured all the same, for a line whose parts lie about is told
so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_ad.bundle import Jitter
from edge_ad.calibrate.job import CameraJob, Job, Part, evenly
from edge_ad.calibrate.screen import Tell
from edge_ad.calibration_set import read_frame
from edge_ad.config import Locate
from edge_ad.errors import CaptureError, CheckFailed
from edge_ad.frame import Image
from edge_ad.locate import Locator, PartLocator, Pose, Settings
from edge_ad.locate.locator import default_box

SAMPLE = 40  # parts that are looked at
CANDIDATES = 5  # of them, tried as the reference until one finds enough of the others
ENOUGH = 0.8  # of the sample
LEAST = 0.5  # of the sample, where the station asks for it: with less it is not the parts' fault
QUANTILE = 0.95


@dataclass(frozen=True)
class Located:
    """locator: for the cameras that locate; reference: by camera the part that others are laid like;
    jitter: by camera how parts lie, where that could be measured."""

    locator: PartLocator
    reference: dict[str, Part]
    jitter: dict[str, Jitter]


def find_references(job: Job, parts: Sequence[Part], tell: Tell) -> Located:
    """Look at a sample of the parts. Raises CheckFailed where a camera is to locate and cannot."""
    sample = [parts[i] for i in evenly(len(parts), SAMPLE)]
    locators: list[Locator | None] = []
    reference: dict[str, Part] = {}
    jitter: dict[str, Jitter] = {}
    for i, camera in enumerate(job.cameras):
        tell("locating", i, len(job.cameras))
        found = _of_camera(job, camera, sample) if camera.frame_size == "fixed" else None
        if found is not None:
            part, jitter[camera.name] = found
        if camera.locate is None or found is None:
            locators.append(None)
            continue
        reference[camera.name] = part
        locators.append(Locator(_image(job, camera, part), _settings(camera.locate)))
    tell("locating", len(job.cameras), len(job.cameras))
    outside = [0.0 if c.locate is None else c.locate.max_outside for c in job.cameras]
    return Located(PartLocator(locators, outside), reference, jitter)


def _of_camera(job: Job, camera: CameraJob, sample: Sequence[Part]) -> tuple[Part, Jitter] | None:
    """The part in the middle of all and how they lie around it; None where the camera does not locate
    and its parts cannot be told from each other's places."""
    best: list[tuple[Part, Pose]] = []
    problem = ""
    for candidate in sample[:: max(1, len(sample) // CANDIDATES)][:CANDIDATES]:
        try:
            image = _image(job, camera, candidate)
            locator = Locator(image, _wide(_settings(camera.locate), image))
        except (CheckFailed, CaptureError) as error:
            problem = str(error)
            continue
        poses = _poses(job, camera, sample, locator)
        best = max(best, poses, key=len)
        if len(best) >= ENOUGH * len(sample):
            break
    if len(best) < (ENOUGH if camera.locate is None else LEAST) * len(sample) or not best:
        if camera.locate is None:
            return None
        raise CheckFailed(
            f"camera {camera.name}: {len(best)} of {len(sample)} good parts are found by the best of "
            f"{CANDIDATES} references ({problem or 'the others lie otherwise or look otherwise'}); look "
            "at locate.max_shift, locate.max_angle and locate.box, or take [camera.locate] out"
        )
    return _middle(best)


def _middle(found: Sequence[tuple[Part, Pose]]) -> tuple[Part, Jitter]:
    values = np.array([(pose.dx, pose.dy, pose.angle) for _, pose in found])
    off = values - np.median(values, axis=0)
    shift, angle = np.hypot(off[:, 0], off[:, 1]), np.abs(off[:, 2])
    # A degree moves the rim of a part of some hundred pixels by a few.
    nearest = int(np.argmin(shift + 4.0 * angle))
    qualities = [pose.quality for _, pose in found]
    return found[nearest][0], Jitter(
        parts=len(found),
        shift=float(np.quantile(shift, QUANTILE)),
        angle=float(np.quantile(angle, QUANTILE)),
        quality=float(np.quantile(qualities, 1.0 - QUANTILE)),
    )


def _poses(
    job: Job, camera: CameraJob, sample: Sequence[Part], locator: Locator
) -> list[tuple[Part, Pose]]:
    found = []
    for part in sample:
        try:
            image = _image(job, camera, part)
        except CaptureError:  # it is listed when its features are made
            continue
        pose = locator.find(image).pose if image.shape == locator.shape else None
        if pose is not None:
            found.append((part, pose))
    return found


def _image(job: Job, camera: CameraJob, part: Part) -> Image:
    return read_frame(Path(job.directory), part.files[camera.name])


def _wide(settings: Settings, image: Image) -> Settings:
    """A first reference may lie as far off to one side as another part does to the other."""
    box = settings.box or default_box(image.shape, settings.max_shift)
    return replace(settings, max_shift=2 * settings.max_shift, max_angle=2 * settings.max_angle, box=box)


def _settings(locate: Locate | None) -> Settings:
    if locate is None:
        locate = Locate()
    return Settings(locate.max_shift, locate.max_angle, locate.max_scale, locate.min_quality, locate.box)
