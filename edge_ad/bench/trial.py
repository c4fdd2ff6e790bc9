"""A station to measure: rendered Mono8 parts, and a bundle that rejects a set share of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad import __version__
from edge_ad.backbone.openvino import OpenVinoFeatures, open_features
from edge_ad.backbone.spec import Backbone
from edge_ad.bundle import (
    BackboneRef,
    CalibrationSetRef,
    CameraRule,
    LevelFit,
    Manifest,
    Preprocess,
    ReductionRef,
    Section,
    ViewRule,
    activate,
    store_backbone,
    tensor_name,
    write_bundle,
)
from edge_ad.capture.source import open_source
from edge_ad.config import Station, parse_station
from edge_ad.gaussian.model import Gaussian, fit_levels
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.threshold import Promise
from edge_ad.preprocess import RULE, Preprocessor

POOL = 40  # different parts, shown in turn: more than caches hold at camera sizes
POOL_BYTES = 200_000_000


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
) -> Trial:
    """Render parts of `size` (width, height), fit the Gaussians on them, write and activate the bundle.

    The threshold lies where `reject_rate` of the pool is above it: a bench, not a calibration.
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
    engine = open_features(backbone, threads=threads)
    features, pixel_rule = _pool_features(station, engine, pool)
    gaussians = fit_levels(features, backbone.levels)
    scores = np.sort(level_sum(level_distances(features, backbone.levels, gaussians)))
    passing = pool - max(1, round(pool * reject_rate)) if reject_rate else pool
    # Halfway to the first that is rejected; above all where none is.
    threshold = float(scores[passing - 1 : passing + 1].mean()) * (1.0 if reject_rate else 1.01)
    section = Section(
        identity=engine.identity,
        scales=[1.0],
        threshold=threshold,
        promise=Promise("bench", pool, reject_rate or 1 / pool, passing, reject_rate, 1.0, False),
        levels=[_fits(backbone, gaussians)],
        reference_scores={},
    )
    rule = CameraRule(pixel_rule=pixel_rule, frame_size="fixed", width=width, height=height, channels=1)
    manifest = _manifest(station, backbone, rule, section, pool)
    store_backbone(station.state_path, backbone)
    tensors = _tensors(engine.identity.key, backbone, gaussians)
    path = write_bundle(station.state_path, manifest, tensors, {})
    activate(station.state_path, station.product, path.name)
    return Trial(station, engine)


def _pool_features(
    station: Station, engine: OpenVinoFeatures, pool: int
) -> tuple[NDArray[np.float32], str]:
    """Features [pool, D] of the parts that the station's camera will show, and its pixel rule."""
    source = open_source(station.camera[0], Path())
    preprocessor = Preprocessor(*engine.input.shape[1:3])
    features = []
    source.open()
    for _ in range(pool):
        frame = source.read()
        assert frame is not None
        assert frame.image is not None
        preprocessor.prepare(frame.image, None, engine.input[0])
        features.append(engine.infer()[0].copy())
    source.close()
    return np.stack(features), source.pixel_rule_name


def _fits(backbone: Backbone, gaussians: list[Gaussian]) -> list[LevelFit]:
    return [
        LevelFit(name=lv.name, k=len(g.whitening), shrinkage=g.shrinkage, condition=g.condition)
        for lv, g in zip(backbone.levels, gaussians, strict=True)
    ]


def _tensors(key: str, backbone: Backbone, gaussians: list[Gaussian]) -> dict[str, NDArray[np.generic]]:
    tensors: dict[str, NDArray[np.generic]] = {}
    for level, g in zip(backbone.levels, gaussians, strict=True):
        tensors[tensor_name(key, "camera", level.name, "mean")] = g.mean
        tensors[tensor_name(key, "camera", level.name, "whitening")] = g.whitening.astype(np.float32)
    return tensors


def _manifest(
    station: Station, backbone: Backbone, rule: CameraRule, section: Section, pool: int
) -> Manifest:
    return Manifest(
        id="bench",
        product=station.product,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        edge_ad=__version__,
        profile="paper",
        backbone=BackboneRef(name=backbone.name, sha256=backbone.sha256),
        preprocess=Preprocess(
            rule=RULE, height=backbone.height, width=backbone.width, cameras={"camera": rule}
        ),
        views=[ViewRule(name="camera", camera="camera")],
        levels=list(backbone.levels),
        reduction=ReductionRef(kind="none", share=0.0),
        counts={"parts": pool},
        calibration_set=CalibrationSetRef(sha256="", parts=pool),
        engines={section.identity.key: section},
    )
