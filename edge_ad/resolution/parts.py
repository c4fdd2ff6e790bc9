"""The good parts that defects are put into: those that pass as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_ad.bundle import ViewRule
from edge_ad.calibrate.job import Candidate
from edge_ad.calibrate.progress import Progress
from edge_ad.capture.defects import Rng
from edge_ad.capture.images import printable
from edge_ad.errors import CaptureError, CheckFailed
from edge_ad.locate import Pose
from edge_ad.preprocess.views import view_region
from edge_ad.qualify.judge import Judge, Reader
from edge_ad.resolution.result import Unused
from edge_ad.verdict import Decision, Verdict

STEP = "good parts"


@dataclass(frozen=True)
class GoodParts:
    """Parts that pass unaltered, in random order, and how each lies; the smallest width and height of
    each view."""

    parts: list[Candidate]
    poses: list[tuple[Pose | None, ...]]
    unused: list[Unused]
    regions: list[tuple[int, int]]


def passing(
    judge: Judge,
    reader: Reader,
    candidates: Sequence[Candidate],
    views: Sequence[ViewRule],
    most: int,
    rng: Rng,
    progress: Progress,
) -> GoodParts:
    """Judge candidates in random order until `most` have passed; those that do not would count as found.

    Raises DeviceError.
    """
    good = GoodParts([], [], [], [])
    cameras = list(judge.cameras)
    for done, which in enumerate(rng.permutation(len(candidates))):
        if len(good.parts) == most:
            break
        progress.update(STEP, done, len(candidates))
        part = candidates[int(which)]
        try:
            images = reader.read(part)
        except CaptureError as error:
            good.unused.append(Unused(source=part.source, why="unreadable", detail=str(error)))
            continue
        verdict = judge.inspect_part(images)
        if not verdict.passed:
            good.unused.append(_unused(part, verdict))
            continue
        good.parts.append(part)
        good.poses.append(verdict.poses)
        sides = [view_region(view, images[cameras.index(view.camera)].shape)[2:] for view in views]
        before = good.regions or sides
        good.regions[:] = [
            (min(a[0], b[0]), min(a[1], b[1])) for a, b in zip(before, sides, strict=True)
        ]
    progress.update(STEP, len(candidates), len(candidates))
    return good


def check_some(good: GoodParts, directory: Path) -> None:
    """Raise CheckFailed when no part passes unaltered, CaptureError when none can be read."""
    if good.parts:
        return
    whys = [one.why for one in good.unused]
    counts = ", ".join(f"{whys.count(why)} {why}" for why in dict.fromkeys(whys))
    first = good.unused[0]
    text = (
        f"{printable(directory)}: no part passes unaltered, so no defect can be put into one: {counts} "
        f"(first: {first.source}: {first.detail})"
    )
    if whys.count("unreadable") == len(whys):
        raise CaptureError(f"{text}; give pictures that can be read")
    raise CheckFailed(
        f"{text}; give good parts as the line's cameras take them, or calibrate again if these are good"
    )


def _unused(part: Candidate, verdict: Verdict) -> Unused:
    if verdict.decision is Decision.FAULT:
        return Unused(source=part.source, why="FAULT", detail=f"{verdict.reason}: {verdict.detail}")
    detail = f"score {verdict.score:.4g} over the threshold {verdict.threshold:.4g}"
    return Unused(source=part.source, why="rejected", detail=detail)
