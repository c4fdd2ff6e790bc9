"""How the good parts lie, and which part they are laid like.

That is one for good, for regions and zones are drawn on it: the picture that the station file names,
else that of the bundle in use, else the part that lies nearest to the middle of all, for then no part is
moved further than it must be. Where nothing is located it is measured all the same, for a line whose
parts lie about is told so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from edge_ad.bundle import CameraRule, Jitter, LocateRule
from edge_ad.bundle.manifest import LOCATE
from edge_ad.calibrate.job import CameraJob, Job, Part, evenly
from edge_ad.calibrate.screen import Tell
from edge_ad.calibration_set import decode_frame, encode_frame, read_frame
from edge_ad.config import Locate
from edge_ad.durable import write_durably
from edge_ad.errors import CaptureError, CheckFailed, ConfigError
from edge_ad.frame import Image
from edge_ad.locate import CameraLocator, Follower, Locator, PartLocator, Pose, Settings
from edge_ad.locate.regions import default_box, within_reach
from edge_ad.preprocess.views import camera_regions, view_boxes

SAMPLE = 40  # parts that are looked at
CANDIDATES = 5  # of them, tried as the reference until one finds enough of the others
ENOUGH = 0.8  # of the sample
LEAST = 0.5  # of the sample, where the station asks for it: with less it is not the parts' fault
QUANTILE = 0.95


@dataclass(frozen=True)
class Located:
    """locator: for the cameras that locate; jitter: by camera how parts lie, where that could be
    measured."""

    locator: PartLocator
    jitter: dict[str, Jitter]


def settle_regions(job: Job, rules: dict[str, CameraRule]) -> tuple[Job, dict[str, CameraRule]]:
    """The job and what is known of its cameras once the frames' size is: with the regions of views that
    have none of their own, and how parts are found. Raises ConfigError where tiles do not fit then."""
    locates = {camera.name: camera.locate for camera in job.cameras}
    shapes = {name: (rule.height, rule.width) for name, rule in rules.items()}
    views = within_reach(job.views, locates, shapes)
    for view in views:
        if locates[view.camera] is not None:
            view_boxes(view, shapes[view.camera])
    settled = dict(rules)
    for name, locate in locates.items():
        if locate is not None:
            leader = locate.shot or name
            if (rules[name].channels, *shapes[name]) != (rules[leader].channels, *shapes[leader]):
                raise ConfigError(
                    f"camera {name}: its frames have another shape than those of {leader}, which its "
                    "parts are to lie as in; take locate.shot out"
                )
            box = locate.box or default_box(shapes[name], locate.max_shift)
            settings = msgspec.structs.replace(locate, box=box, reference=f"{LOCATE}/{leader}.png")
            rule = LocateRule(**msgspec.structs.asdict(settings))
            settled[name] = msgspec.structs.replace(rules[name], locate=rule)
    return msgspec.structs.replace(job, views=views), settled


def open_locator(locate: Locate, reference: Path) -> Locator:
    """What finds parts like the one of a picture. Raises CheckFailed for one that is no reference."""
    return Locator(decode_frame(reference.read_bytes(), str(reference)), _settings(locate))


def located_file(camera: str) -> str:
    """Of the part that a camera's others are laid like, in the work directory."""
    return f"locate-{camera}.png"


def find_references(
    job: Job, parts: Sequence[Part], rules: dict[str, CameraRule], tell: Tell
) -> Located:
    """Look at a sample of the parts, and leave the references in the work directory. Raises CheckFailed
    where a camera is to locate and cannot."""
    sample = [parts[i] for i in evenly(len(parts), SAMPLE)]
    finders: list[CameraLocator | Follower | None] = []
    jitter: dict[str, Jitter] = {}
    for i, camera in enumerate(job.cameras):
        tell("locating", i, len(job.cameras))
        if camera.locate is not None and camera.locate.shot:
            rule = rules[camera.name]
            regions = camera_regions(job.views, camera.name, (rule.height, rule.width))
            leader = [one.name for one in job.cameras].index(camera.locate.shot)
            finders.append(Follower(leader, regions, camera.locate.max_outside))
            continue
        given = _given(camera, rules[camera.name])
        found = _of_camera(job, camera, sample, given) if camera.frame_size == "fixed" else None
        if found is not None:
            image, jitter[camera.name] = found
        if camera.locate is None or found is None:
            finders.append(None)
            continue
        write_durably(Path(job.work) / located_file(camera.name), encode_frame(image))
        regions = camera_regions(job.views, camera.name, image.shape)
        locator = Locator(image, _settings(camera.locate))
        finders.append(CameraLocator(locator, regions, camera.locate.max_outside))
    tell("locating", len(job.cameras), len(job.cameras))
    return Located(PartLocator(finders), jitter)


def _given(camera: CameraJob, rule: CameraRule) -> Image | None:
    """The reference that need not be chosen. A bundle's is of no use once frames have another size."""
    if not camera.reference:
        return None
    path = Path(os.fsdecode(camera.reference))
    try:
        image = decode_frame(path.read_bytes(), str(path))
    except OSError as error:
        raise CheckFailed(
            f"{path}: the part that others are laid like cannot be read ({error.strerror}); restore it, "
            "or choose another with --new-reference"
        ) from error
    shape = (rule.height, rule.width) if rule.channels == 1 else (rule.height, rule.width, 3)
    if image.shape == shape:
        return image
    if not camera.asked:
        return None
    raise ConfigError(
        f"camera {camera.name}: locate.reference {path} is an image of shape {image.shape}, the frames "
        f"have {shape}; 'edge-ad camera grab' takes one"
    )


def _of_camera(
    job: Job, camera: CameraJob, sample: Sequence[Part], given: Image | None
) -> tuple[Image, Jitter] | None:
    """The reference, chosen where none is given, and how the others lie around their middle; None where
    the camera does not locate and its parts cannot be told from each other's places."""
    best: list[tuple[Part, Pose]] = []
    tried, problem = 0, ""
    for image in [given] if given is not None else _candidates(job, camera, sample):
        tried += 1
        try:
            locator = Locator(image, _wide(_settings(camera.locate), image))
        except CheckFailed as error:
            problem = str(error)
            continue
        best = max(best, _poses(job, camera, sample, locator), key=len)
        if len(best) >= ENOUGH * len(sample):
            break
    if best and len(best) >= (ENOUGH if camera.locate is None else LEAST) * len(sample):
        nearest, jitter = _middle(best)
        return (_image(job, camera, nearest) if given is None else given), jitter
    if camera.locate is None:
        return None
    by = f"the best of {tried} references" if given is None else os.fsdecode(camera.reference)
    anew = "" if given is None or camera.asked else ", choose another part with --new-reference"
    raise CheckFailed(
        f"camera {camera.name}: {len(best)} of {len(sample)} good parts are found by {by} "
        f"({problem or 'the others lie otherwise or look otherwise'}); look at locate.max_shift, "
        f"locate.max_angle and locate.box{anew}, or take [camera.locate] out"
    )


def _candidates(job: Job, camera: CameraJob, sample: Sequence[Part]) -> list[Image]:
    """A few of the parts, those that can be read."""
    images = []
    for part in sample[:: max(1, len(sample) // CANDIDATES)][:CANDIDATES]:
        try:
            images.append(_image(job, camera, part))
        except CaptureError:  # it is listed when its features are made
            continue
    return images


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
