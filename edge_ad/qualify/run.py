"""A qualification, from request to what is stored with the bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge_ad import __version__
from edge_ad.bundle import Bundle, current_path
from edge_ad.bundle.manifest import REPORT
from edge_ad.bundle.qualification import LeftOut, Measured, Qualification
from edge_ad.bundle.store import write_qualification
from edge_ad.calibrate.link import reload_daemon
from edge_ad.calibrate.progress import Progress, Silent
from edge_ad.calibration_set import Record, load_set, set_directory, timestamp
from edge_ad.capture.images import printable
from edge_ad.config import Station
from edge_ad.errors import ArtifactError, ConfigError, DeliveryError
from edge_ad.inspector import Inspector
from edge_ad.qualify.find import Groups, empty_folders, find_groups, leave_good_out
from edge_ad.qualify.judge import Reader, bundle_path, open_judge
from edge_ad.qualify.measure import (
    Content,
    Miss,
    check_judged,
    measure_bad,
    measure_repeated,
    warnings_of,
)
from edge_ad.qualify.page import render_page
from edge_ad.qualify.pictures import encoded, picture_misses
from edge_ad.qualify.result import Request, Result
from edge_ad.qualify.statistics import by_kind, detected, sorted_by_margin

Clock = Callable[[], datetime]
DEFECT = "defect"  # the kind of pictures that lie in no folder of a kind


@dataclass(frozen=True)
class _Found:
    """What lies in the folders."""

    bad: Groups
    repeated: Groups
    left_out: list[LeftOut]
    warnings: list[str]


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


def qualify(
    station: Station, request: Request, progress: Progress | None = None, now: Clock = _utc_now
) -> Result:
    """Judge the parts by the bundle, store what came of it beside the bundle, tell a running daemon.

    Raises ConfigError, ArtifactError, CaptureError (nothing that could be judged) and DeviceError; a
    qualification that was there stays then.
    """
    progress = progress or Silent()
    path = bundle_path(station, request.bundle)
    found = _find(station, request)
    with closing(open_judge(station, path)) as inspector:
        bundle = inspector.bundle
        good, unknown = _good_parts(bundle, station)
        reader = Reader(station, inspector.cameras)
        measured, misses = _measure(inspector, reader, request, found, good, progress)
    measured = msgspec.structs.replace(measured, warnings=[*unknown, *measured.warnings])
    key = inspector.identity.key
    target, qualification = _store(bundle, key, measured, misses, reader, now())
    daemon, took = _tell_daemon(station, path)
    return Result(target, qualification, key, daemon, took)


def _find(station: Station, request: Request) -> _Found:
    names = [camera.name for camera in station.pictures]
    bad, left_out = find_groups(request.bad, names, DEFECT)
    warnings = [
        f"{name}: no images in the folder, so this kind of defect is not measured"
        for name in empty_folders(request.bad, bad, names)
    ]
    bad, good_ones = leave_good_out(bad, request.bad)
    repeated: Groups = {}
    if request.repeat is not None:
        repeated, incomplete = find_groups(
            request.repeat, names, printable(Path(request.repeat.absolute().name))
        )
        left_out += incomplete
        if all(len(pictures) < 2 for pictures in repeated.values()):
            raise ConfigError(
                f"--repeat {printable(request.repeat)}: no part has two pictures; give a folder per "
                "part with many pictures of it"
            )
    return _Found(bad, repeated, [*left_out, *good_ones], warnings)


def _good_parts(bundle: Bundle, station: Station) -> tuple[dict[Content, Record], list[str]]:
    """The parts that the bundle was fitted on, by the content of their pictures."""
    directory = set_directory(station.state_path, station.product)
    try:
        kept = load_set(directory, bundle.manifest.calibration_set.sha256).kept
    except ArtifactError as error:
        return {}, [f"whether calibrated parts are among the bad ones was not checked: {error}"]
    cameras = list(bundle.manifest.preprocess.cameras)
    return {
        tuple(part.files[camera].content for camera in cameras): part
        for part in kept
        if part.files.keys() >= set(cameras)
    }, []


def _measure(
    inspector: Inspector,
    reader: Reader,
    request: Request,
    found: _Found,
    good: Mapping[Content, Record],
    progress: Progress,
) -> tuple[Measured, list[Miss]]:
    views = [view.name for view in inspector.bundle.manifest.views]
    bad = measure_bad(inspector, reader, found.bad, good, views, progress)
    check_judged(bad, request.bad)
    spread, left_out = measure_repeated(inspector, reader, found.repeated, progress)
    measured = Measured(
        engine=inspector.identity,
        threshold=inspector.threshold,
        overall=detected(bad.parts),
        kinds=by_kind(bad.parts),
        parts=sorted_by_margin(bad.parts),
        repeatability=spread,
        left_out=[*found.left_out, *bad.left_out, *left_out],
        warnings=[*found.warnings, *warnings_of(bad)],
    )
    return measured, bad.misses


def _store(
    bundle: Bundle, key: str, measured: Measured, misses: list[Miss], reader: Reader, now: datetime
) -> tuple[Path, Qualification]:
    manifest = bundle.manifest
    pictures = picture_misses(misses, manifest, reader, measured.threshold)
    named = [
        msgspec.structs.replace(part, picture=pictures[part.source][0])
        if part.verdict == "PASS" and part.source in pictures
        else part
        for part in measured.parts
    ]
    qualification = Qualification(
        bundle=manifest.id,
        bundle_sha256=bundle.sha256,
        created=timestamp(now),
        edge_ad=__version__,
        engines={key: msgspec.structs.replace(measured, parts=named)},
    )
    page = render_page(qualification, manifest, key, {source: p for source, (_, p) in pictures.items()})
    files = {REPORT: page.encode(), **encoded(pictures)}
    return write_qualification(bundle.path, qualification, files), qualification


def _tell_daemon(station: Station, path: Path) -> tuple[str, bool]:
    """One line on who shows the result, and whether a daemon that should has taken it."""
    if path != current_path(station.state_path, station.product):
        return "does not use this bundle", True
    try:
        return reload_daemon(station.state_path, station.control_endpoint, station.curve_secret), True
    except DeliveryError as error:
        return str(error), False
