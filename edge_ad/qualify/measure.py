"""Pictures through the inspector, once each, as the daemon would judge them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle.qualification import BadPart, LeftOut, Repeatability
from edge_ad.calibrate.job import Candidate
from edge_ad.calibrate.progress import Progress
from edge_ad.calibration_set import Record, content_hash
from edge_ad.capture.images import printable
from edge_ad.errors import CaptureError
from edge_ad.frame import Image
from edge_ad.qualify.find import Groups
from edge_ad.qualify.judge import Judge, Reader
from edge_ad.qualify.statistics import repeatability, repeated
from edge_ad.verdict import Decision, Verdict

Content = tuple[str, ...]  # per camera, the sha256 of a picture's pixels


@dataclass(frozen=True)
class Miss:
    """A known-bad part that passed: where its pictures lie, and what its map was."""

    part: BadPart
    files: Candidate
    anomaly: NDArray[np.float32] | None  # of the worst view


@dataclass(frozen=True)
class BadResult:
    """Known-bad parts, judged. `twins`: those whose pictures are a good part's of the calibration."""

    parts: list[BadPart]
    misses: list[Miss]
    left_out: list[LeftOut]
    twins: list[tuple[str, Record]]


def measure_bad(
    judge: Judge,
    reader: Reader,
    groups: Groups,
    good: Mapping[Content, Record],
    views: Sequence[str],
    progress: Progress,
) -> BadResult:
    """Judge every known-bad part; one that is there twice counts once. Raises DeviceError."""
    result = BadResult([], [], [], [])
    seen: dict[Content, str] = {}
    known = [(kind, part) for kind, parts in groups.items() for part in parts]
    for done, (kind, part) in enumerate(known):
        progress.update("bad parts", done, len(known))
        images = _read_once(reader, part, seen, result.left_out)
        if images is None:
            continue
        twin = good.get(_content(images))
        if twin is not None:
            result.twins.append((part.source, twin))
        verdict = judge.inspect_part(images)
        one = _bad_part(part.source, kind, verdict)
        result.parts.append(one)
        if verdict.passed:
            result.misses.append(Miss(one, part, worst_map(verdict, views)))
    progress.update("bad parts", len(known), len(known))
    return result


def measure_repeated(
    judge: Judge, reader: Reader, groups: Groups, progress: Progress
) -> tuple[Repeatability | None, list[LeftOut]]:
    """Judge every picture of each part; None when none has two pictures with a score."""
    left_out: list[LeftOut] = []
    found = []
    if not groups:
        return None, left_out
    total, done = sum(len(pictures) for pictures in groups.values()), 0
    for part, pictures in sorted(groups.items()):
        seen: dict[Content, str] = {}
        scores, verdicts = [], []
        for picture in pictures:
            progress.update("repeated", done, total)
            done += 1
            images = _read_once(reader, picture, seen, left_out)
            if images is None:
                continue
            verdict = judge.inspect_part(images)
            verdicts.append(verdict.decision.value)
            if verdict.decision is not Decision.FAULT:
                scores.append(verdict.score)
        if len(scores) > 1:
            found.append(repeated(part, scores, verdicts, judge.threshold))
        else:
            detail = f"{len(scores)} different pictures with a score; its spread takes at least 2"
            left_out.append(LeftOut(source=part, why="single", detail=detail))
    progress.update("repeated", total, total)
    return (repeatability(found) if found else None), left_out


def check_judged(bad: BadResult, directory: Path) -> None:
    """Raise CaptureError when no part of `directory` could be read, or none could be judged."""
    where = printable(directory)
    if not bad.parts:
        first = bad.left_out[0]
        raise CaptureError(
            f"{where}: none of {len(bad.left_out)} pictures can be read (first: {first.detail})"
        )
    if all(part.margin is None for part in bad.parts):
        part = bad.parts[0]
        raise CaptureError(
            f"{where}: all {len(bad.parts)} parts are FAULT, so nothing was measured (first: "
            f"{part.source}: {part.detail}); give pictures as the line's cameras take them"
        )


def warnings_of(bad: BadResult) -> list[str]:
    """What a person should know of parts that were counted: FAULTs by reason, good parts among them."""
    faults = [part for part in bad.parts if part.margin is None]
    counts = Counter(part.reason for part in faults)
    first = {part.reason: part for part in reversed(faults)}
    lines = [
        f"FAULT {reason}: {count} of {len(bad.parts)} parts, not passed but not detected either (first: "
        f"{first[reason].source}: {first[reason].detail}); give pictures as the line's cameras take them"
        for reason, count in counts.items()
    ]
    return lines + [
        f"{source}: is also in the calibration set, as good part {record.id} ({record.source}); if it "
        f"is bad, 'edge-ad calibrate --drop {record.id}', else take it out of --bad"
        for source, record in bad.twins
    ]


def worst_map(verdict: Verdict, views: Sequence[str]) -> NDArray[np.float32] | None:
    """The anomaly map [rows, columns] of the view that decided."""
    return None if verdict.maps is None else verdict.maps[list(views).index(verdict.view)]


def _read_once(
    reader: Reader, part: Candidate, seen: dict[Content, str], left_out: list[LeftOut]
) -> list[Image] | None:
    """A part's images; None, and listed, when they cannot be read or were there before."""
    try:
        images = reader.read(part)
    except CaptureError as error:
        left_out.append(LeftOut(source=part.source, why="unreadable", detail=str(error)))
        return None
    twin = seen.setdefault(_content(images), part.source)
    if twin != part.source:
        detail = f"same picture as {twin}"
        left_out.append(LeftOut(source=part.source, why="duplicate", detail=detail))
        return None
    return images


def _content(images: Sequence[Image]) -> Content:
    return tuple(content_hash(image) for image in images)


def _bad_part(source: str, kind: str, verdict: Verdict) -> BadPart:
    judged = verdict.decision is not Decision.FAULT
    return BadPart(
        source=source,
        kind=kind,
        verdict=verdict.decision.value,
        reason=verdict.reason.value,
        score=verdict.score if judged else None,
        margin=verdict.score / verdict.threshold if judged else None,
        view=verdict.view,
        detail=verdict.detail,
    )
