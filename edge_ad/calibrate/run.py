"""The calibration from request to active bundle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load_file

from edge_ad.audit import record
from edge_ad.backbone.spec import Backbone, Level, load_backbone
from edge_ad.bundle import (
    Manifest,
    activate,
    current_path,
    kept_set_sha256,
    list_bundles,
    read_manifest,
    shadow,
    store_backbone,
    write_bundle,
)
from edge_ad.bundle.describe import NOT_MEASURED, declared_lines, screening_lines
from edge_ad.bundle.manifest import REPORT, TENSORS
from edge_ad.bundle.views import jitter_texts
from edge_ad.calibrate.assemble import decisions, make_manifest, reference_files
from edge_ad.calibrate.child import run_worker
from edge_ad.calibrate.collect import collect, find_parts
from edge_ad.calibrate.declared import declared_parts
from edge_ad.calibrate.job import Candidate, Skipped
from edge_ad.calibrate.link import reload_daemon
from edge_ad.calibrate.plan import (
    check_rules,
    check_views,
    choose_levels,
    choose_local,
    located_by,
    plan_job,
)
from edge_ad.calibrate.progress import Progress, Silent
from edge_ad.calibrate.request import Request
from edge_ad.calibration_set import (
    CalibrationSet,
    load_set,
    prune,
    save_set,
    set_directory,
    set_lock,
)
from edge_ad.config import Station
from edge_ad.errors import ArtifactError, ConfigError, DeliveryError, DeviceError, EdgeAdError
from edge_ad.gaussian.threshold import promise_text
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
    shadow: bool = False

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
            f"parts      {self.manifest.counts['parts']} used, {len(self.skipped)} skipped",
            f"threshold  {section.threshold:.6g} ({section.promise.method}, {self.key})",
            f"promise    {promise_text(section.promise)}",
            *(f"{name:<10} {text}" for name, text in declared_lines(section)),
            *(f"{name:<10} {text}" for name, text in screening_lines(section.screening)),
            *(f"placing    {name}: {text}" for name, text in jitter_texts(self.manifest)),
            f"escapes    {NOT_MEASURED}: 'edge-ad qualify' does, with known-bad parts",
            f"{'shadow' if self.shadow else 'active':<10} {self.manifest.product}: {self.manifest.id}",
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
    levels = choose_levels(station, backbone)
    choose_local(station, backbone)  # refused before anything is collected
    check_views(station)
    directory = set_directory(station.state_path, station.product)
    if request.shadow and current_path(station.state_path, station.product) is None:
        raise ConfigError(
            f"{directory}: product {station.product!r} has no bundle in use that another could judge "
            "beside; calibrate without --shadow"
        )
    with set_lock(directory):
        for left in directory.glob("work-*"):
            shutil.rmtree(left)  # of a calibration that was killed: the lock is ours
        base = CalibrationSet() if request.fresh else _kept_set(station, directory, request, now())
        check_rules(station, base)
        staging = directory / f"{STAGING}{now():%Y%m%dT%H%M%S-%f}"
        try:
            references = _references(station, request, progress)
            candidates, incomplete = _candidates(station, request, directory, staging, progress)
            bundle = _fit_and_write(
                station, request, backbone, levels, base, candidates, incomplete, references, progress,
                now,
            )  # fmt: skip
        except OSError as error:
            text = f"{directory}: {error}; free space or give a writable state_dir"
            raise DeviceError(text + _collected(staging)) from error
        except EdgeAdError as error:
            raise type(error)(f"{error}{_collected(staging)}") from error
        _clear_staging(directory, request, staging, progress)
        _tidy(station, directory)
    path, manifest, key, skipped = bundle
    try:
        daemon, took = (
            reload_daemon(station.state_path, station.control_endpoint, station.curve_secret),
            True,
        )
    except DeliveryError as error:
        daemon, took = str(error), False
    return Result(path, manifest, key, skipped, daemon, took, request.shadow)


def _collected(staging: Path) -> str:
    """Parts that took an hour to collect are not lost with the fit."""
    if staging.is_dir() and any(staging.rglob("*.png")):
        return f" (the collected parts are in {staging}: --from takes them)"
    return ""


def _clear_staging(directory: Path, request: Request, staging: Path, progress: Progress) -> None:
    """Remove the collected parts that are in the kept set now; those of another collection stay."""
    source = request.directory or request.add or staging
    for left in sorted(directory.glob(f"{STAGING}*")):
        if left in (staging, source.absolute()):
            shutil.rmtree(left)
        else:
            progress.note(f"{left}: parts of a collection that was not finished; --from takes them")


def _kept_set(station: Station, directory: Path, request: Request, now: datetime) -> CalibrationSet:
    """The set of the bundle in use, less what is dropped."""
    current = current_path(station.state_path, station.product)
    if current is None:
        raise ConfigError(
            f"{directory}: product {station.product!r} has no bundle yet, so no parts are kept; start "
            "with --from DIR or --parts N"
        )
    kept = load_set(directory, kept_set_sha256(current))
    if request.drop:
        kept = kept.drop(request.drop, request.person, request.reason, now)
    return kept


def _candidates(
    station: Station, request: Request, directory: Path, staging: Path, progress: Progress
) -> tuple[list[Candidate], list[str]]:
    """New parts: of a directory, from the evidence, or freshly collected."""
    names = [camera.name for camera in station.pictures]
    if request.parts:
        collect(station, request.parts, staging, progress)
        return find_parts(staging, names, stored=True)
    if request.from_evidence:
        current = current_path(station.state_path, station.product)
        assert current is not None  # else there was no kept set to add to
        rules = read_manifest(current).preprocess.cameras
        return declared_parts(station, request.from_evidence, rules), []
    source = request.directory or request.add
    if source is None:
        return [], []
    # Frames of an interrupted calibration have been converted already.
    stored = directory.absolute() in source.absolute().parents
    return find_parts(source, names, stored)


def _references(station: Station, request: Request, progress: Progress) -> dict[str, Path]:
    """By camera that locates the part that others are laid like, where it is not to be chosen."""
    try:
        return located_by(station, request.new_reference)
    except ArtifactError as error:
        progress.note(f"{error}; the part that others are laid like is chosen anew")
        return located_by(station, anew=True)


def _fit_and_write(
    station: Station,
    request: Request,
    backbone: Backbone,
    levels: list[Level],
    base: CalibrationSet,
    candidates: list[Candidate],
    incomplete: list[str],
    references: dict[str, Path],
    progress: Progress,
    now: Clock,
) -> tuple[Path, Manifest, str, list[Skipped]]:
    state = station.state_path
    directory = set_directory(state, station.product)
    with tempfile.TemporaryDirectory(prefix="work-", dir=directory) as work:
        job = plan_job(station, backbone, levels, base, candidates, references, directory, Path(work))
        outcome = run_worker(job, progress)
        tensors: dict[str, NDArray[Any]] = load_file(Path(work) / TENSORS)
        cameras = [camera.name for camera in station.pictures]
        files = reference_files(outcome, directory, Path(work), cameras)
    skipped = [
        *outcome.skipped,
        *(Skipped(name, "unreadable", "not there for every camera") for name in incomplete),
    ]
    parts = base.append(decisions(job, outcome, request, now()))
    manifest = make_manifest(station, backbone, job, outcome, parts, skipped, now())
    files[REPORT] = render_report(
        manifest, outcome.scores, outcome.suspects, skipped, directory
    ).encode()
    save_set(directory, parts)
    store_backbone(state, backbone)
    path = write_bundle(state, manifest, tensors, files)
    record(
        state, "calibrate shadow" if request.shadow else "calibrate", product=station.product,
        who=request.person, reason=request.reason,
        detail={"bundle": manifest.id, "parts": str(manifest.counts["parts"])},
    )  # fmt: skip
    (shadow if request.shadow else activate)(state, station.product, manifest.id)
    return path, manifest, next(iter(manifest.engines)), skipped


def _tidy(station: Station, directory: Path) -> None:
    """Forget kept parts that no bundle of the product was fitted on."""
    entries = list_bundles(station.state_path, station.product)
    if all(entry.manifest is not None for entry in entries):
        prune(directory, [e.manifest.calibration_set.sha256 for e in entries if e.manifest is not None])
