"""From the worker's outcome to what goes into the bundle."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from edge_ad import __version__
from edge_ad.backbone.spec import Backbone
from edge_ad.bundle import (
    BackboneRef,
    CalibrationSetRef,
    Manifest,
    Preprocess,
    ReductionRef,
    bundle_id,
)
from edge_ad.bundle.manifest import REFERENCE, label_image_file
from edge_ad.calibrate.job import Job, Outcome, Skipped
from edge_ad.calibrate.locating import located_file
from edge_ad.calibrate.request import Request
from edge_ad.calibrate.zoning import zone_file
from edge_ad.calibration_set import EVIDENCE, SCREENING, CalibrationSet, Record, timestamp
from edge_ad.config import Station
from edge_ad.preprocess import RULE


def reference_files(
    outcome: Outcome, directory: Path, work: Path, cameras: list[str]
) -> dict[str, bytes]:
    """The kept PNGs of the reference parts, and of those that others are laid like, and the label images
    of zones, under their names in the bundle."""
    files = {}
    reference = {part for scores in outcome.reference.values() for part in scores}
    for score in outcome.scores:
        if score.part.id in reference:
            for camera, stored in score.part.files.items():
                name = _reference_name(score.part.id, camera, len(cameras) == 1)
                files[name] = (directory / "frames" / stored.name).read_bytes()
    for camera, rule in outcome.cameras.items():
        if rule.locate is not None and not rule.locate.shot:
            files[rule.locate.reference] = (work / located_file(camera)).read_bytes()
    for camera in {zone.camera for zone in outcome.zones}:
        files[label_image_file(camera)] = (work / zone_file(camera)).read_bytes()
    return files


def decisions(job: Job, outcome: Outcome, request: Request, now: datetime) -> list[Record]:
    """What the kept set's list gets: each new part, and what screening dropped again."""
    dropped = outcome.suspects if job.screen == "drop" else []
    parts = [*(one.part for one in (*outcome.scores, *dropped)), *outcome.not_located]
    fresh = [part for part in parts if part.fresh]
    stamp = timestamp(now)
    kept = [
        Record(
            id=part.id,
            decision="keep",
            person=request.person,
            reason=request.reason,
            time=stamp,
            source=part.source,
            files=part.files,
            origin=EVIDENCE if part.declared else "",
        )
        for part in sorted(fresh, key=lambda part: part.id)
    ]
    found = outcome.section.screening
    reason = f"separated from the rest, gap at least {found.gap:.3g}" if found is not None else ""
    return kept + [
        Record(id=one.part.id, decision="drop", person=SCREENING, reason=reason, time=stamp)
        for one in dropped
    ]


def make_manifest(
    station: Station,
    backbone: Backbone,
    job: Job,
    outcome: Outcome,
    parts: CalibrationSet,
    skipped: list[Skipped],
    now: datetime,
) -> Manifest:
    first = station.pictures[0].name
    alone = len(station.pictures) == 1
    sections = {
        key: msgspec.structs.replace(
            section,
            reference_scores={
                _reference_name(part, first, alone): score
                for part, score in outcome.reference[key].items()
            },
        )
        for key, section in outcome.sections.items()
    }
    counts = {"parts": len(outcome.scores)}
    for kind in ("unreadable", "duplicate", "size", "damaged", "position"):
        counts[kind] = sum(one.kind == kind for one in skipped)
    drops = sum(record.decision == "drop" for record in parts.records)
    counts["dropped"], counts["screened"] = drops - parts.screened, parts.screened
    counts["declared"] = len(outcome.section.declared)
    return Manifest(
        id=bundle_id(now, parts.text + msgspec.json.encode(list(sections.values()))),
        product=station.product,
        created=timestamp(now),
        edge_ad=__version__,
        profile=station.calibration.profile,
        backbone=BackboneRef(name=backbone.name, sha256=backbone.sha256),
        preprocess=Preprocess(
            rule=RULE,
            height=backbone.height,
            width=backbone.width,
            cameras={
                camera.name: msgspec.structs.replace(
                    outcome.cameras[camera.name],
                    jitter=outcome.jitter.get(camera.name),
                    px_per_mm=camera.px_per_mm,
                    looks=outcome.looks.get(camera.name),
                )
                for camera in station.pictures
            },
        ),
        views=outcome.views,
        zones=outcome.zones,
        levels=job.levels,
        local=job.local,
        reduction=ReductionRef(kind=job.reduction.kind, share=job.reduction.share),
        counts=counts,
        calibration_set=CalibrationSetRef(sha256=parts.sha256, parts=len(outcome.scores)),
        engines=sections,
    )


def _reference_name(part: str, camera: str, alone: bool) -> str:
    """Of one camera's frame of a reference part; with several cameras each has a directory."""
    return f"{REFERENCE}/{part}.png" if alone else f"{REFERENCE}/{camera}/{part}.png"
