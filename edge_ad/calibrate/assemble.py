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
    CameraRule,
    LocateRule,
    Manifest,
    Preprocess,
    ReductionRef,
    bundle_id,
)
from edge_ad.bundle.manifest import LOCATE, REFERENCE, label_image_file
from edge_ad.calibrate.job import Job, Outcome, Skipped
from edge_ad.calibrate.request import Request
from edge_ad.calibrate.zoning import zone_file
from edge_ad.calibration_set import EVIDENCE, SCREENING, CalibrationSet, Record, timestamp
from edge_ad.config import Camera, Station
from edge_ad.locate.locator import default_box
from edge_ad.preprocess import RULE


def reference_files(
    outcome: Outcome, directory: Path, work: Path, cameras: list[str]
) -> dict[str, bytes]:
    """The kept PNGs of the reference parts, and of those that others are laid like, and the label images
    of zones, under their names in the bundle."""
    files = {}
    for score in outcome.scores:
        if score.part.id in outcome.reference:
            for camera, stored in score.part.files.items():
                name = _reference_name(score.part.id, camera, len(cameras) == 1)
                files[name] = (directory / "frames" / stored.name).read_bytes()
    for camera, part in outcome.located.items():
        files[_located_name(camera)] = (directory / "frames" / part.files[camera].name).read_bytes()
    for camera in {zone.camera for zone in outcome.zones}:
        files[label_image_file(camera)] = (work / zone_file(camera)).read_bytes()
    return files


def decisions(job: Job, outcome: Outcome, request: Request, now: datetime) -> list[Record]:
    """What the kept set's list gets: each new part, and what screening dropped again."""
    dropped = outcome.suspects if job.screen == "drop" else []
    fresh = [one.part for one in (*outcome.scores, *dropped) if one.part.fresh]
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
    first = station.camera[0].name
    alone = len(station.camera) == 1
    section = msgspec.structs.replace(
        outcome.section,
        reference_scores={
            _reference_name(part, first, alone): score for part, score in outcome.reference.items()
        },
    )
    counts = {"parts": len(outcome.scores)}
    for kind in ("unreadable", "duplicate", "size", "damaged", "position"):
        counts[kind] = sum(one.kind == kind for one in skipped)
    drops = sum(record.decision == "drop" for record in parts.records)
    counts["dropped"], counts["screened"] = drops - parts.screened, parts.screened
    counts["declared"] = len(section.declared)
    return Manifest(
        id=bundle_id(now, parts.text + msgspec.json.encode(section)),
        product=station.product,
        created=timestamp(now),
        edge_ad=__version__,
        profile=station.calibration.profile,
        backbone=BackboneRef(name=backbone.name, sha256=backbone.sha256),
        preprocess=Preprocess(
            rule=RULE,
            height=backbone.height,
            width=backbone.width,
            cameras={camera.name: _camera_rule(camera, outcome) for camera in station.camera},
        ),
        views=job.views,
        zones=outcome.zones,
        levels=job.levels,
        local=job.local,
        reduction=ReductionRef(kind=job.reduction.kind, share=job.reduction.share),
        counts=counts,
        calibration_set=CalibrationSetRef(sha256=parts.sha256, parts=len(outcome.scores)),
        engines={section.identity.key: section},
    )


def _camera_rule(camera: Camera, outcome: Outcome) -> CameraRule:
    """With what was found out about how its parts lie."""
    rule, locate = outcome.cameras[camera.name], None
    if camera.locate is not None:
        settings = msgspec.structs.asdict(camera.locate)
        box = camera.locate.box or default_box((rule.height, rule.width), camera.locate.max_shift)
        locate = LocateRule(**{**settings, "box": box}, reference=_located_name(camera.name))
    return msgspec.structs.replace(
        rule, locate=locate, jitter=outcome.jitter.get(camera.name), px_per_mm=camera.px_per_mm
    )


def _located_name(camera: str) -> str:
    """The file of the part that a camera's others are laid like."""
    return f"{LOCATE}/{camera}.png"


def _reference_name(part: str, camera: str, alone: bool) -> str:
    """Of one camera's frame of a reference part; with several cameras each has a directory."""
    return f"{REFERENCE}/{part}.png" if alone else f"{REFERENCE}/{camera}/{part}.png"
