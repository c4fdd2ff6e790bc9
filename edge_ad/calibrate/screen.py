"""Which parts can be used: unreadable, duplicate and odd-sized ones are listed and left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edge_ad.bundle import CameraRule, ViewRule
from edge_ad.calibrate.job import CameraJob, Candidate, Job, Part, Skipped
from edge_ad.calibration_set import StoredFile, decode_frame, part_id, store_frame
from edge_ad.capture.images import read_image
from edge_ad.capture.pixels import file_rule
from edge_ad.errors import CaptureError, CheckFailed, ConfigError
from edge_ad.frame import Image
from edge_ad.preprocess.views import view_boxes

Tell = Callable[[str, int, int], None]

# With fewer parts the components that PCA keeps change from part to part, and more good parts are
# rejected than promised; in simulation, with levels of 64 and 160 features, 1.24 and 1.19 times as many
# with 50 parts, 1.03 and 1.08 with 100.
PCA_PARTS = 100


def screen(job: Job, tell: Tell) -> tuple[list[Part], list[Skipped], dict[str, CameraRule]]:
    """The usable parts, kept ones first, what was skipped, and what every camera's frames look like.

    New frames are stored losslessly on the way. `tell(step, done, total)` is called after each part.
    """
    skipped: list[Skipped] = []
    parts = list(job.kept)
    known = {_content(part.files): part for part in parts}
    for i, candidate in enumerate(job.candidates):
        tell("reading", i, len(job.candidates))
        try:
            files = _store(candidate, job)
        except CaptureError as error:
            skipped.append(Skipped(candidate.source, "unreadable", str(error)))
            continue
        twin = known.get(_content(files))
        if twin is not None:
            skipped.append(Skipped(candidate.source, "duplicate", f"same picture as {twin.source}"))
            continue
        part = Part("", candidate.source, files, fresh=True, declared=candidate.declared)
        known[_content(files)] = part
        parts.append(part)
    if job.candidates:
        tell("reading", len(job.candidates), len(job.candidates))
    rules = {camera.name: _camera_rule(camera, parts) for camera in job.cameras} if parts else {}
    fitting = []
    for part in parts:
        wrong = _misfit(part, rules, job.views)
        if wrong:
            skipped.append(Skipped(part.source, "size", wrong))
        else:
            fitting.append(part)
    return _number(fitting, job.next_number), skipped, rules


def check_enough(parts: Sequence[Part], skipped: Sequence[Skipped], job: Job) -> None:
    """Raise CheckFailed that says how many parts there are and how many it takes. Those that a person
    declared good do not count: they say nothing of how often a good part is rejected."""
    counted = sum(not part.declared for part in parts)
    least, who = job.min_parts, "calibration.min_parts asks for"
    if job.reduction.kind == "pca" and least < PCA_PARTS:
        least, who = PCA_PARTS, "calibration.pca needs"
    if counted >= least:
        return
    left_out = _left_out(skipped)
    reason = f" (first skipped: {skipped[0].source}: {skipped[0].detail})" if skipped else ""
    declared = len(parts) - counted
    besides = f" besides {declared} declared good by a person" if declared else ""
    raise CheckFailed(
        f"{counted} usable good parts{besides}{f' ({left_out} skipped)' if left_out else ''}, "
        f"{who} {least}: give {least - counted} more{reason}"
    )


def check_new(job: Job, parts: Sequence[Part], skipped: Sequence[Skipped]) -> None:
    """Raise CheckFailed when parts were to be added and none is new: a copy of the bundle in use would
    only take the place of `previous`."""
    if job.kept and job.candidates and not any(part.fresh for part in parts):
        raise CheckFailed(
            f"none of the {len(job.candidates)} parts can be added ({_left_out(skipped)}; first: "
            f"{skipped[0].source}: {skipped[0].detail}); nothing was changed, give new ones"
        )


def _left_out(skipped: Sequence[Skipped]) -> str:
    counts = Counter(one.kind for one in skipped)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _store(candidate: Candidate, job: Job) -> dict[str, StoredFile]:
    """Read a part's files and keep them. Raises CaptureError."""
    images: dict[str, tuple[Image, str]] = {}
    for camera in job.cameras:
        path = Path(os.fsdecode(candidate.files[camera.name]))
        if candidate.stored:
            image = decode_frame(_bytes(path), str(path))
        else:
            rule = file_rule(camera.pixel_format, camera.bit_depth)
            image = read_image(path, rule, camera.max_pixels)
        images[camera.name] = (image, camera.rule)
    directory = Path(job.directory)
    return {name: store_frame(directory, image, rule) for name, (image, rule) in images.items()}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read ({error.strerror})") from error


def _content(files: dict[str, StoredFile]) -> tuple[str, ...]:
    return tuple(files[name].content for name in sorted(files))


def _camera_rule(camera: CameraJob, parts: Sequence[Part]) -> CameraRule:
    """What most frames of a camera look like: a few odd ones do not decide."""
    frames = [part.files[camera.name] for part in parts if camera.name in part.files]
    channels = Counter(frame.channels for frame in frames).most_common(1)[0][0]
    alike = Counter(frame.shape[:2] for frame in frames if frame.channels == channels)
    height, width = alike.most_common(1)[0][0] if camera.frame_size == "fixed" else (0, 0)
    return CameraRule(
        pixel_rule=camera.rule,
        frame_size=camera.frame_size,
        width=width,
        height=height,
        channels=1 if channels == 1 else 3,
    )


def _misfit(part: Part, rules: dict[str, CameraRule], views: Sequence[ViewRule]) -> str:
    """Why a part's frames are not what the rules and views ask for; "" when they are."""
    for name, rule in rules.items():
        height, width, channels = part.files[name].shape
        if channels != rule.channels:
            return f"camera {name}: {channels} channel(s), the other parts have {rule.channels}"
        if rule.frame_size == "fixed" and (height, width) != (rule.height, rule.width):
            wanted = f"{rule.width} x {rule.height}"
            return f"camera {name}: {width} x {height} px, the other parts have {wanted}"
    for view in views:
        try:
            view_boxes(view, part.files[view.camera].shape)
        except ConfigError as error:
            return str(error)
    return ""


def _number(parts: Sequence[Part], first: int) -> list[Part]:
    """Give the fresh parts their ids."""
    numbered = []
    for part in parts:
        if part.fresh:
            part = msgspec.structs.replace(part, id=part_id(first))
            first += 1
        numbered.append(part)
    return numbered
