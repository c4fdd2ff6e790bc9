"""The calibration from request to active bundle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray
from safetensors.numpy import load_file

from edge_ad import __version__
from edge_ad.backbone.spec import Backbone, Level, load_backbone
from edge_ad.bundle import (
    BackboneRef,
    CalibrationSetRef,
    Manifest,
    Preprocess,
    ReductionRef,
    ViewRule,
    activate,
    bundle_id,
    current_path,
    kept_set_sha256,
    list_bundles,
    store_backbone,
    write_bundle,
)
from edge_ad.bundle.describe import NOT_MEASURED
from edge_ad.bundle.manifest import REFERENCE, REPORT, TENSORS
from edge_ad.calibrate.child import run_worker
from edge_ad.calibrate.collect import collect, find_parts
from edge_ad.calibrate.job import CameraJob, Candidate, Job, Outcome, Part, Skipped
from edge_ad.calibrate.link import reload_daemon
from edge_ad.calibrate.progress import Progress, Silent
from edge_ad.calibrate.request import Request
from edge_ad.calibration_set import (
    CalibrationSet,
    Record,
    load_set,
    prune,
    save_set,
    set_directory,
    set_lock,
    timestamp,
)
from edge_ad.capture.source import open_source
from edge_ad.config import Camera, Station
from edge_ad.delivery.lock import running_pid
from edge_ad.errors import ConfigError, DeliveryError, EdgeAdError
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.threshold import promise_text
from edge_ad.preprocess import RULE
from edge_ad.report import render_report

Clock = Callable[[], datetime]
STAGING = "staging-"


@dataclass(frozen=True)
class Result:
    """What a calibration left behind. `daemon` is one line on who uses it now."""

    path: Path
    manifest: Manifest
    key: str
    skipped: list[Skipped]
    daemon: str
    daemon_took_it: bool

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.path / REPORT

    def summary(self, listed: int) -> list[str]:
        """What a person reads at the end; of the skipped parts the first `listed` ones."""
        section = self.manifest.engines[self.key]
        lines = [f"skipped {one.kind}: {one.source}: {one.detail}" for one in self.skipped[:listed]]
        if len(self.skipped) > listed:
            lines.append(f"... and {len(self.skipped) - listed} more skipped; the report lists them")
        return [
            *lines,
            f"parts      {len(self.skipped)} skipped, {self.manifest.counts['parts']} used",
            f"threshold  {section.threshold:.6g} ({section.promise.method}, {self.key})",
            f"promise    {promise_text(section.promise)}",
            f"escapes    {NOT_MEASURED}",
            f"active     {self.manifest.product}: {self.manifest.id}",
            f"daemon     {self.daemon}",
            f"report     {self.report}",
        ]


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


def calibrate(
    station: Station, request: Request, progress: Progress | None = None, now: Clock = _utc_now
) -> Result:
    """Collect, screen, fit, write, activate; tell a running daemon.

    Raises CheckFailed (too few parts), ConfigError, ArtifactError, CaptureError and DeviceError; the
    bundle in use is then as it was.
    """
    progress = progress or Silent()
    backbone = load_backbone(station.backbone_path)
    levels = _levels(station, backbone)
    directory = set_directory(station.state_path, station.product)
    with set_lock(directory):
        base = CalibrationSet() if request.fresh else _kept_set(station, directory, request, now())
        _check_rules(station, base)
        staging = directory / f"{STAGING}{now():%Y%m%dT%H%M%S}"
        try:
            candidates, incomplete = _candidates(station, request, directory, staging, progress)
            bundle = _fit_and_write(
                station, request, backbone, levels, base, candidates, incomplete, progress, now
            )
        except EdgeAdError as error:
            if staging.is_dir() and any(staging.rglob("*.png")):
                raise type(error)(
                    f"{error} (the collected parts are in {staging}: --from takes them)"
                ) from error
            raise
        for left in directory.glob(f"{STAGING}*"):
            shutil.rmtree(left)
        _tidy(station, directory)
    path, manifest, key, skipped = bundle
    try:
        daemon, took = reload_daemon(station.state_path, station.control_endpoint), True
    except DeliveryError as error:
        daemon, took = str(error), False
    return Result(path, manifest, key, skipped, daemon, took)


def _levels(station: Station, backbone: Backbone) -> list[Level]:
    """The levels that the station asks for, before anything else is done."""
    wanted = station.calibration.levels or tuple(level.name for level in backbone.levels)
    known = {level.name: level for level in backbone.levels}
    where = station.path or "configuration"
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(
            f"{where}: calibration.levels: backbone {backbone.name} has no level {unknown[0]!r}; it has "
            f"{list(known)}"
        )
    if station.calibration.threshold == "chi2" and (len(wanted) > 1 or len(station.views) > 1):
        raise ConfigError(
            f"{where}: calibration.threshold: 'chi2' holds for one level of one view, there are "
            f"{len(wanted)} levels and {len(station.views)} views; name one in calibration.levels or "
            "use "
            "'conformal'"
        )
    return [level for level in backbone.levels if level.name in wanted]


def _kept_set(station: Station, directory: Path, request: Request, now: datetime) -> CalibrationSet:
    """The set of the bundle in use, less what is dropped."""
    current = current_path(station.state_path, station.product)
    if current is None:
        raise ConfigError(
            f"{directory}: product {station.product!r} has no bundle yet, so no parts are kept; start "
            "with "
            "--from DIR or --parts N"
        )
    kept = load_set(directory, kept_set_sha256(current))
    if request.drop:
        kept = kept.drop(request.drop, request.person, request.reason, now)
    return kept


def _check_rules(station: Station, base: CalibrationSet) -> None:
    """Kept frames were converted once and for all: another pixel rule or camera needs new parts."""
    names = sorted(camera.name for camera in station.camera)
    rules = {camera.name: _rule(station, camera) for camera in station.camera}
    for record in base.kept:
        if sorted(record.files) != names:
            raise ConfigError(
                f"the kept parts are of cameras {sorted(record.files)}, {station.path} has {names}; "
                "start a "
                "fresh set with --from DIR or --parts N"
            )
        for name, stored in record.files.items():
            if stored.rule != rules[name]:
                raise ConfigError(
                    f"the kept frames of camera {name!r} were made with pixel rule {stored.rule!r}, "
                    f"{station.path} now asks for {rules[name]!r}; start a fresh set with --from DIR or "
                    "--parts N"
                )


def _candidates(
    station: Station, request: Request, directory: Path, staging: Path, progress: Progress
) -> tuple[list[Candidate], list[str]]:
    """New parts: of a directory, or freshly collected."""
    names = [camera.name for camera in station.camera]
    if request.parts:
        collect(station, request.parts, staging, progress)
        return find_parts(staging, names, stored=True)
    source = request.directory or request.add
    if source is None:
        return [], []
    # Frames of an interrupted calibration have been converted already.
    stored = directory.absolute() in source.absolute().parents
    return find_parts(source, names, stored)


def _fit_and_write(
    station: Station,
    request: Request,
    backbone: Backbone,
    levels: list[Level],
    base: CalibrationSet,
    candidates: list[Candidate],
    incomplete: list[str],
    progress: Progress,
    now: Clock,
) -> tuple[Path, Manifest, str, list[Skipped]]:
    state = station.state_path
    directory = set_directory(state, station.product)
    with tempfile.TemporaryDirectory(prefix="work-", dir=directory) as work:
        job = _job(station, backbone, levels, base, candidates, directory, Path(work))
        outcome = run_worker(job, progress)
        tensors: dict[str, NDArray[Any]] = load_file(Path(work) / TENSORS)
    skipped = [
        *outcome.skipped,
        *(Skipped(name, "unreadable", "not there for every camera") for name in incomplete),
    ]
    stamp = timestamp(now())
    parts = base.append(
        Record(
            id=score.part.id,
            decision="keep",
            person=request.person,
            reason=request.reason,
            time=stamp,
            source=score.part.source,
            files=score.part.files,
        )
        for score in outcome.scores
        if score.part.fresh
    )
    files = _reference_files(outcome, directory, [camera.name for camera in station.camera])
    manifest = _manifest(station, backbone, job, outcome, parts, skipped, now())
    files[REPORT] = render_report(manifest, outcome.scores, skipped, directory).encode()
    save_set(directory, parts)
    store_backbone(state, backbone)
    path = write_bundle(state, manifest, tensors, files)
    activate(state, station.product, manifest.id)
    return path, manifest, next(iter(manifest.engines)), skipped


def _job(
    station: Station,
    backbone: Backbone,
    levels: list[Level],
    base: CalibrationSet,
    candidates: list[Candidate],
    directory: Path,
    work: Path,
) -> Job:
    settings = station.calibration
    return Job(
        backbone=str(backbone.directory),
        directory=str(directory),
        work=str(work),
        cameras=[_camera_job(station, camera) for camera in station.camera],
        views=[ViewRule(name=v.name, camera=v.camera, roi=v.roi) for v in station.views],
        levels=levels,
        reduction=Reduction.from_shares(settings.pca, settings.npca),
        rate=settings.false_reject_rate,
        threshold=settings.threshold,
        folds=settings.folds,
        min_parts=settings.min_parts,
        precision=station.engine.precision,
        threads=_threads(station),
        kept=[Part(record.id, record.source, record.files) for record in base.kept],
        candidates=candidates,
        next_number=base.next_number,
    )


def _threads(station: Station) -> int:
    """All cores that the station may use, half of them while its daemon inspects."""
    from edge_ad.backbone.openvino import usable_cores

    threads = station.engine.threads or usable_cores()
    return threads if running_pid(station.state_path) is None else max(1, threads // 2)


def _camera_job(station: Station, camera: Camera) -> CameraJob:
    frame_size = camera.frame_size
    if frame_size == "auto":
        frame_size = "any" if camera.uri.lower().startswith("folder:") else "fixed"
    return CameraJob(
        name=camera.name,
        pixel_format=camera.pixel_format,
        bit_depth=camera.bit_depth,
        rule=_rule(station, camera),
        frame_size=frame_size,
        max_pixels=int(camera.max_megapixels * 1e6),
    )


def _rule(station: Station, camera: Camera) -> str:
    return open_source(camera, Path(station.path).parent if station.path else Path()).pixel_rule_name


def _reference_name(part: str, camera: str, alone: bool) -> str:
    """Of one camera's frame of a reference part; with several cameras each has a directory."""
    return f"{REFERENCE}/{part}.png" if alone else f"{REFERENCE}/{camera}/{part}.png"


def _reference_files(outcome: Outcome, directory: Path, cameras: list[str]) -> dict[str, bytes]:
    """The kept PNGs of the reference parts, under their names in the bundle."""
    files = {}
    for score in outcome.scores:
        if score.part.id in outcome.reference:
            for camera, stored in score.part.files.items():
                name = _reference_name(score.part.id, camera, len(cameras) == 1)
                files[name] = (directory / "frames" / stored.name).read_bytes()
    return files


def _manifest(
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
    for kind in ("unreadable", "duplicate", "size", "damaged"):
        counts[kind] = sum(one.kind == kind for one in skipped)
    counts["dropped"] = sum(record.decision == "drop" for record in parts.records)
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
            cameras={camera.name: outcome.cameras[camera.name] for camera in station.camera},
        ),
        views=job.views,
        levels=job.levels,
        reduction=ReductionRef(kind=job.reduction.kind, share=job.reduction.share),
        counts=counts,
        calibration_set=CalibrationSetRef(sha256=parts.sha256, parts=len(outcome.scores)),
        engines={section.identity.key: section},
    )


def _tidy(station: Station, directory: Path) -> None:
    """Forget kept parts that no bundle of the product was fitted on."""
    entries = list_bundles(station.state_path, station.product)
    if all(entry.manifest is not None for entry in entries):
        prune(directory, [e.manifest.calibration_set.sha256 for e in entries if e.manifest is not None])
