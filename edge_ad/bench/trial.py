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
from edge_ad.backbone.spec import Backbone
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
    level_fits,
    level_tensors,
    local_fit,
    local_tensors,
    store_backbone,
    write_bundle,
)
from edge_ad.capture.source import open_source
from edge_ad.config import PAPER, Profile, Station, parse_station
from edge_ad.errors import ConfigError
from edge_ad.gaussian.context import regressors_for
from edge_ad.gaussian.threshold import Promise
from edge_ad.gaussian.view import Features, FitSettings, ViewFit, fit_view
from edge_ad.preprocess import RULE, Preprocessor

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
) -> Trial:
    """Render parts of `size` (width, height), fit the Gaussians on them, write and activate the bundle.

    The bare engine is that of `beside` or of the backbone itself. The threshold lies where
    `reject_rate` of the pool is above it: a bench, not a calibration.
    """
    width, height = size
    pool = max(8, min(POOL, POOL_BYTES // (width * height)))
    uri = f"synthetic://?seed=1&width={width}&height={height}&parts={parts}&pool={pool}"
    station = parse_station(
        {
            "schema": 1,
            "station": "bench",
            "state_dir": str(directory / "state"),
            "deadline_ms": 60_000.0,
            "camera": [{"name": "camera", "uri": uri, "stale_ms": 600_000.0, "max_megapixels": 400.0}],
            "engine": {"threads": threads},
            "scores": {"endpoint": "tcp://127.0.0.1:0"},
            "metrics": {"port": 0},
        }
    )
    if profile != PAPER and backbone.local is None:
        raise ConfigError(
            f"{backbone.directory}: {backbone.name} has no features per position; export it again, or "
            f"give --profile {PAPER}"
        )
    features, pixel_rule, identity = _pool_features(station, backbone, pool, profile != PAPER)
    view = _fit(features, backbone, profile)
    scores = np.sort(view.score(features).scores)
    passing = pool - max(1, round(pool * reject_rate)) if reject_rate else pool
    # Halfway to the first that is rejected; above all where none is.
    threshold = float(scores[passing - 1 : passing + 1].mean()) * (1.0 if reject_rate else 1.01)
    key, name = identity.key, "camera"
    tensors = level_tensors(key, name, backbone.levels, view.gaussians)
    local = []
    if view.local is not None and view.combination is not None:
        tensors |= local_tensors(key, name, view.local)
        local = [local_fit(view.local, view.combination)]
    section = Section(
        identity=identity,
        scales=[1.0],
        threshold=threshold,
        promise=Promise("bench", pool, reject_rate or 1 / pool, passing, reject_rate, 1.0, False),
        levels=[level_fits(backbone.levels, view.gaussians)],
        reference_scores={},
        local=local,
    )
    rule = CameraRule(pixel_rule=pixel_rule, frame_size="fixed", width=width, height=height, channels=1)
    manifest = _manifest(station, backbone, rule, section, pool, profile)
    store_backbone(station.state_path, backbone)
    path = write_bundle(station.state_path, manifest, tensors, {})
    activate(station.state_path, station.product, path.name)
    engine = open_features(beside or backbone, threads=threads)
    engine.input[:] = np.random.default_rng(0).integers(0, 256, engine.input.shape)
    return Trial(station, engine)


def _pool_features(
    station: Station, backbone: Backbone, pool: int, local: bool
) -> tuple[Features, str, EngineIdentity]:
    """Features of the `pool` parts that the station's camera will show, its pixel rule, the engine."""
    engine = open_features(backbone, threads=station.engine.threads, local=local)
    source = open_source(station.camera[0], Path())
    preprocessor = Preprocessor(*engine.input.shape[1:3])
    pooled, positions = [], []
    source.open()
    for _ in range(pool):
        frame = source.read()
        assert frame is not None
        assert frame.image is not None
        preprocessor.prepare(frame.image, None, engine.input[0])
        pooled.append(engine.infer()[0].copy())
        if engine.local is not None:
            positions.append(engine.local[0].copy())
    source.close()
    engine.close()
    features = Features(np.stack(pooled), np.stack(positions) if positions else None)
    return features, source.pixel_rule_name, engine.identity


def _fit(features: Features, backbone: Backbone, profile: Profile) -> ViewFit:
    """The profile's fit, made as large as one on CALIBRATED parts by regressors that do nothing.

    Parts that were fitted lie closer than others, below zero on the scale of these; a threshold must be
    above it, so the level sum is not centred.
    """
    local = backbone.local
    grid = (local.rows, local.columns) if local is not None and profile != PAPER else None
    view = fit_view(features, FitSettings(backbone.levels, grid=grid))
    if view.local is None or view.combination is None:
        return view
    q, length = view.local.context.shape
    more = max(0, min(regressors_for(CALIBRATED), length) - q)
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
) -> Manifest:
    return Manifest(
        id="bench",
        product=station.product,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        edge_ad=__version__,
        profile=profile,
        backbone=BackboneRef(name=backbone.name, sha256=backbone.sha256),
        preprocess=Preprocess(
            rule=RULE, height=backbone.height, width=backbone.width, cameras={"camera": rule}
        ),
        views=[ViewRule(name="camera", camera="camera")],
        levels=list(backbone.levels),
        local=None if profile == PAPER else backbone.local,
        reduction=ReductionRef(kind="none", share=0.0),
        counts={"parts": pool},
        calibration_set=CalibrationSetRef(sha256="", parts=pool),
        engines={section.identity.key: section},
    )
