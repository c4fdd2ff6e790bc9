"""A station to measure: rendered Mono8 parts, and a bundle that rejects a set share of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np

from edge_ad import __version__
from edge_ad.backbone.engine import EngineIdentity
from edge_ad.backbone.openvino import OpenVinoFeatures, open_features
from edge_ad.backbone.spec import Backbone, Level, Local
from edge_ad.bundle import (
    BackboneRef,
    CalibrationSetRef,
    CameraRule,
    Manifest,
    Preprocess,
    ReductionRef,
    Section,
    ViewRule,
    activate,
    all_tiles,
    level_fits,
    level_tensors,
    local_fit,
    local_tensors,
    store_backbone,
    write_bundle,
)
from edge_ad.bundle.tensors import Tensors
from edge_ad.calibrate.plan import TILED_REGRESSORS, choose_levels, choose_local
from edge_ad.capture.source import open_source
from edge_ad.config import PAPER, Profile, Station, parse_station
from edge_ad.errors import ConfigError
from edge_ad.frame import Image
from edge_ad.gaussian.context import MOST, regressors_for
from edge_ad.gaussian.threshold import Promise
from edge_ad.gaussian.view import Features, FitSettings, ViewFit, fit_view
from edge_ad.preprocess import RULE, PartInput
from edge_ad.preprocess.tiles import WHOLE, Tiles
from edge_ad.preprocess.views import count_tiles

CAMERA = "camera"
POOL = 40  # different parts, shown in turn: more than caches hold at camera sizes
POOL_BYTES = 200_000_000
# Positions are scored as after a calibration on so many parts: the more parts, the more regressors.
CALIBRATED = 300


@dataclass(frozen=True, slots=True)
class Trial:
    """A station with an active bundle, and the bare engine with a part in its input."""

    station: Station
    engine: OpenVinoFeatures


def make_trial(
    directory: Path,
    backbone: Backbone,
    size: tuple[int, int],
    parts: int,
    reject_rate: float,
    threads: int,
    profile: Profile = "default",
    beside: Backbone | None = None,
    tiles: Tiles = WHOLE,
) -> Trial:
    """Render parts of `size` (width, height), fit the Gaussians on them, write and activate the bundle.

    The bare engine is that of `beside` or of the backbone itself, with a row per tile. The threshold
    lies where `reject_rate` of the pool is above it: a bench, not a calibration.
    """
    width, height = size
    view = ViewRule(name=CAMERA, camera=CAMERA, tiles=tiles)
    pool = min(parts, pool_size(width, height))
    uri = f"synthetic://?seed=1&width={width}&height={height}&parts={parts}&pool={pool}"
    station = parse_station(
        {
            "schema": 1,
            "station": "bench",
            "state_dir": str(directory / "state"),
            "deadline_ms": 60_000.0,
            "camera": [{"name": CAMERA, "uri": uri, "stale_ms": 600_000.0, "max_megapixels": 400.0}],
            "view": [{"name": CAMERA, "camera": CAMERA, "tiles": list(tiles)}],
            "engine": {"threads": threads},
            "calibration": {"profile": profile},
            "evidence": {"max_megabytes": 100.0},
            "scores": {"endpoint": "tcp://127.0.0.1:0"},
            "metrics": {"port": 0},
        }
    )
    if profile != PAPER and backbone.local is None:
        raise ConfigError(
            f"{backbone.directory}: {backbone.name} has no features per position; export it again, or "
            f"give --profile {PAPER}"
        )
    local, levels = choose_local(station, backbone), choose_levels(station, backbone)
    features, pixel_rule, identity = _pool_features(station, backbone, pool, local)
    fits = [_fit(of_tile, levels, local, tiles) for of_tile in features]
    scored = [one.score(of_tile).scores for one, of_tile in zip(fits, features, strict=True)]
    scores = np.sort(np.max(scored, axis=0))
    passing = pool - max(1, round(pool * reject_rate)) if reject_rate else pool
    # Halfway to the first that is rejected; above all where none is.
    threshold = float(scores[passing - 1 : passing + 1].mean()) * (1.0 if reject_rate else 1.01)
    key = identity.key
    tensors: Tensors = {}
    for tile, one in zip(all_tiles([view]), fits, strict=True):
        tensors |= level_tensors(key, tile.name, levels, one.gaussians)
        if one.local is not None:
            tensors |= local_tensors(key, tile.name, one.local)
    section = Section(
        identity=identity,
        scales=[1.0] * len(fits),
        threshold=threshold,
        promise=Promise("bench", pool, reject_rate or 1 / pool, passing, reject_rate, 1.0, False),
        levels=[level_fits(levels, one.gaussians) for one in fits],
        reference_scores={},
        local=[
            local_fit(one.local, one.combination)
            for one in fits
            if one.local is not None and one.combination is not None
        ],
    )
    rule = CameraRule(pixel_rule=pixel_rule, frame_size="fixed", width=width, height=height, channels=1)
    manifest = _manifest(station, backbone, rule, section, pool, profile, view, local, levels)
    store_backbone(station.state_path, backbone)
    path = write_bundle(station.state_path, manifest, tensors, {})
    activate(station.state_path, station.product, path.name)
    engine = open_features(beside or backbone, len(fits), threads)
    engine.input[:] = np.random.default_rng(0).integers(0, 256, engine.input.shape)
    return Trial(station, engine)


def pool_size(width: int, height: int) -> int:
    """How many different parts a camera of this size shows at most."""
    return max(8, min(POOL, POOL_BYTES // (width * height)))


def pool_images(station: Station, parts: int) -> tuple[list[Image], str]:
    """The first parts that the station's camera will show, and the camera's pixel rule."""
    source = open_source(station.camera[0], Path())
    images = []
    source.open()
    for _ in range(parts):
        frame = source.read()
        assert frame is not None
        assert frame.image is not None
        images.append(frame.image)
    source.close()
    return images, source.pixel_rule_name


def _pool_features(
    station: Station, backbone: Backbone, pool: int, local: Local | None
) -> tuple[list[Features], str, EngineIdentity]:
    """Per tile the features of the pool's parts; the camera's pixel rule, the engine."""
    views = station.views
    dim = local.dim if local is not None else 0
    engine = open_features(
        backbone, count_tiles(views), station.engine.threads, local=local is not None, dim=dim
    )
    images, pixel_rule = pool_images(station, pool)
    part = PartInput(views, [CAMERA], backbone.height, backbone.width)
    pooled, positions = [], []
    for image in images:
        part.fill([image], engine.input)
        pooled.append(engine.infer().copy())
        if engine.local is not None:
            positions.append(engine.local.copy())
    engine.close()
    features = [
        Features(
            np.stack([row[tile] for row in pooled]),
            np.stack([row[tile] for row in positions]) if positions else None,
        )
        for tile in range(len(engine.input))
    ]
    return features, pixel_rule, engine.identity


def _fit(features: Features, levels: list[Level], local: Local | None, tiles: Tiles) -> ViewFit:
    """The profile's fit, made as large as one on CALIBRATED parts by regressors that do nothing.

    Parts that were fitted lie closer than others, below zero on the scale of these; a threshold must be
    above it, so the level sum is not centred.
    """
    grid = None if local is None else (local.rows, local.columns)
    most = MOST if tiles == WHOLE else TILED_REGRESSORS
    view = fit_view(features, FitSettings(levels, grid=grid))
    if view.local is None or view.combination is None:
        return view
    q, length = view.local.context.shape
    more = max(0, min(regressors_for(CALIBRATED, most), length) - q)
    padded = replace(
        view.local,
        context=np.pad(view.local.context, ((0, more), (0, 0))),
        coefficients=np.pad(view.local.coefficients, ((0, 0), (0, 0), (0, more))),
    )
    combination = msgspec.structs.replace(view.combination, global_mean=0.0)
    return replace(view, local=padded, combination=combination)


def _manifest(
    station: Station,
    backbone: Backbone,
    rule: CameraRule,
    section: Section,
    pool: int,
    profile: Profile,
    view: ViewRule,
    local: Local | None,
    levels: list[Level],
) -> Manifest:
    return Manifest(
        id="bench",
        product=station.product,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        edge_ad=__version__,
        profile=profile,
        backbone=BackboneRef(name=backbone.name, sha256=backbone.sha256),
        preprocess=Preprocess(
            rule=RULE, height=backbone.height, width=backbone.width, cameras={CAMERA: rule}
        ),
        views=[view],
        levels=levels,
        local=local,
        reduction=ReductionRef(kind="none", share=0.0),
        counts={"parts": pool},
        calibration_set=CalibrationSetRef(sha256="", parts=pool),
        engines={section.identity.key: section},
    )
