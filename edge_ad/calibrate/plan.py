"""What the worker is asked to do, and what is checked before anything is collected."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from edge_ad.backbone.spec import Backbone, Level, Local
from edge_ad.bundle import ViewRule, current_path, read_manifest
from edge_ad.calibrate.job import CameraJob, Candidate, Job, Part
from edge_ad.calibration_set import EVIDENCE, CalibrationSet, decode_frame
from edge_ad.capture.source import open_source
from edge_ad.config import PAPER, Camera, Station
from edge_ad.cores import usable_cores
from edge_ad.delivery.lock import running_pid
from edge_ad.engines import chosen_engine, reference_engine
from edge_ad.errors import CaptureError, ConfigError
from edge_ad.gaussian.context import MOST
from edge_ad.gaussian.subspace import Reduction
from edge_ad.preprocess import tile_boxes
from edge_ad.preprocess.tiles import WHOLE
from edge_ad.preprocess.views import count_tiles

# Reading every position's whitening factor and coefficients is most of what a part costs beside the
# network, and with tiles each has its own. Fewer features are a fraction of that, and detect as much
# (magnetic tiles, even half, MobileNetV2: image AUROC 0.991 with 128, 0.989 with 64, 0.991 with 48,
# 0.985 with 32); the regressors of a tile's surroundings are that few anyway with up to 170 parts.
TILED_DIM = 48
TILED_REGRESSORS = 64
# Nor are levels of more features worth their whitening factors there: beside positions the 1280 of
# MobileNetV2's last one find nothing more (magnetic tiles, even half: image AUROC 0.991 and 88.0 % found
# at 1 % with and without it).
TILED_LEVEL = 512
MOST_TILES = 256


def choose_levels(station: Station, backbone: Backbone) -> list[Level]:
    """The levels that the station asks for, before anything else is done; with tiles and positions all
    but the largest, where it names none."""
    all_levels = tuple(level.name for level in backbone.levels)
    wanted = station.calibration.levels or all_levels
    if not station.calibration.levels and _tiled(station) and station.calibration.profile != PAPER:
        wanted = tuple(one.name for one in backbone.levels if one.dim <= TILED_LEVEL) or all_levels
    known = {level.name: level for level in backbone.levels}
    where = station.path or "configuration"
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(
            f"{where}: calibration.levels: backbone {backbone.name} has no level {unknown[0]!r}; it has "
            f"{list(known)}"
        )
    if station.calibration.threshold == "chi2" and station.calibration.profile != PAPER:
        raise ConfigError(
            f"{where}: calibration.threshold: 'chi2' is for distances of pooled features; set "
            f"calibration.profile = {PAPER!r} or use 'conformal'"
        )
    if station.calibration.threshold == "chi2" and (len(wanted) > 1 or count_tiles(station.views) > 1):
        raise ConfigError(
            f"{where}: calibration.threshold: 'chi2' holds for one level of one view, there are "
            f"{len(wanted)} levels and {count_tiles(station.views)} views or tiles; name one in "
            "calibration.levels or use 'conformal'"
        )
    return [level for level in backbone.levels if level.name in wanted]


def choose_local(station: Station, backbone: Backbone) -> Local | None:
    """What is used of the backbone's features per position; None for the profile that has no use for
    them."""
    if station.calibration.profile == PAPER:
        return None
    if backbone.local is None:
        raise ConfigError(
            f"{station.path or 'configuration'}: calibration.profile {station.calibration.profile!r} "
            f"needs features per position, which backbone {backbone.name} lacks; export it again "
            f"without --local none, or set calibration.profile = {PAPER!r}"
        )
    return backbone.local.narrowed(TILED_DIM) if _tiled(station) else backbone.local


def check_views(station: Station) -> None:
    """Raise ConfigError where a view's tiles do not fit into its region, or are too many."""
    where = station.path or "configuration"
    for i, view in enumerate(station.view):
        if view.roi is not None:
            try:
                tile_boxes(view.roi, view.tiles, view.overlap)
            except ConfigError as error:
                raise ConfigError(f"{where}: view[{i}].tiles: {error}") from error
    tiles = count_tiles(station.views)
    if tiles > MOST_TILES:
        raise ConfigError(
            f"{where}: the views have {tiles} tiles in all, at most {MOST_TILES} go through the network "
            "as one part; give fewer"
        )


def _tiled(station: Station) -> bool:
    return any(view.tiles != WHOLE for view in station.views)


def located_by(station: Station, anew: bool) -> dict[str, Path]:
    """By camera that locates the picture of the part that others are laid like, where there is one: the
    station file's, or that of the bundle in use unless another is to be chosen. Raises ConfigError for
    a picture that cannot be read, ArtifactError for a bundle that cannot.
    """
    found = {}
    current = None if anew else current_path(station.state_path, station.product)
    for camera in station.pictures:
        if camera.locate is None or camera.locate.shot:
            continue
        if camera.locate.reference:
            found[camera.name] = path = station.resolve(camera.locate.reference)
            try:
                decode_frame(path.read_bytes(), str(path))
            except (OSError, CaptureError) as error:
                raise ConfigError(
                    f"{station.path or 'configuration'}: locate.reference of {camera.name!r}: {error}; "
                    "'edge-ad camera grab' takes a picture"
                ) from error
        elif current is not None:
            rule = read_manifest(current).preprocess.cameras.get(camera.name)
            # What followed another picture has no reference of its own.
            if rule is not None and rule.locate is not None and not rule.locate.shot:
                found[camera.name] = current / rule.locate.reference
    return found


def check_rules(station: Station, base: CalibrationSet) -> None:
    """Kept frames were converted once and for all: another pixel rule or camera needs new parts."""
    names = sorted(camera.name for camera in station.pictures)
    rules = {camera.name: pixel_rule_name(station, camera) for camera in station.pictures}
    for record in base.kept:
        if sorted(record.files) != names:
            raise ConfigError(
                f"the kept parts are of cameras {sorted(record.files)}, {station.path} has {names}; "
                "start a fresh set with --from DIR or --parts N"
            )
        for camera in station.camera:
            if not camera.in_order(record.files):
                raise ConfigError(
                    f"the kept parts are of pictures {list(record.files)}, {station.path} has the shots "
                    f"of {camera.name!r} in the order {list(camera.shots)}; restore it, or start a "
                    "fresh set with --from DIR or --parts N"
                )
        for name, stored in record.files.items():
            if stored.rule != rules[name]:
                raise ConfigError(
                    f"the kept frames of camera {name!r} were made with pixel rule {stored.rule!r}, "
                    f"{station.path} now asks for {rules[name]!r}; start a fresh set with --from DIR or "
                    "--parts N"
                )


def plan_job(
    station: Station,
    backbone: Backbone,
    levels: list[Level],
    base: CalibrationSet,
    candidates: list[Candidate],
    references: Mapping[str, Path],
    directory: Path,
    work: Path,
) -> Job:
    settings = station.calibration
    threads = spare_threads(station)
    reference = reference_engine(station, threads)
    return Job(
        backbone=str(backbone.directory),
        directory=str(directory),
        work=str(work),
        cameras=[_camera_job(station, one, references.get(one.name)) for one in station.pictures],
        views=view_rules(station),
        zones=list(station.zone),
        base=str(station.resolve(".")),
        levels=levels,
        local=choose_local(station, backbone),
        regressors=TILED_REGRESSORS if _tiled(station) else MOST,
        reduction=Reduction.from_shares(settings.pca, settings.npca),
        rate=settings.false_reject_rate,
        threshold=settings.threshold,
        folds=settings.folds,
        augment=settings.augment,
        min_parts=settings.min_parts,
        screen=settings.screen,
        screened=base.screened,
        engines=[chosen_engine(station, threads), *([] if reference is None else [reference])],
        threads=threads,
        kept=[
            Part(record.id, record.source, record.files, declared=record.origin == EVIDENCE)
            for record in base.kept
        ],
        candidates=candidates,
        next_number=base.next_number,
    )


def view_rules(station: Station) -> list[ViewRule]:
    """The station's views as a bundle has them."""
    return [
        ViewRule(name=v.name, camera=v.camera, roi=v.roi, tiles=v.tiles, overlap=v.overlap)
        for v in station.views
    ]


def spare_threads(station: Station) -> int:
    """All cores that the station may use, half of them while its daemon inspects."""
    threads = station.engine.threads or usable_cores()
    return threads if running_pid(station.state_path) is None else max(1, threads // 2)


def _camera_job(station: Station, camera: Camera, reference: Path | None) -> CameraJob:
    return CameraJob(
        name=camera.name,
        pixel_format=camera.pixel_format,
        bit_depth=camera.bit_depth,
        rule=pixel_rule_name(station, camera),
        frame_size="fixed" if camera.fixed_size else "any",
        max_pixels=int(camera.max_megapixels * 1e6),
        locate=camera.locate,
        reference=b"" if reference is None else os.fsencode(reference),
        asked=camera.locate is not None and bool(camera.locate.reference),
        patch=camera.patch,
    )


def pixel_rule_name(station: Station, camera: Camera) -> str:
    """The rule by which the camera's live frames become images."""
    return open_source(camera, Path(station.path).parent if station.path else Path()).pixel_rule_name
