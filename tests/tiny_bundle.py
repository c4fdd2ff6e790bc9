"""A small bundle, fitted on rendered parts with the tiny backbone, for tests that need one to run."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.openvino import open_features
from edge_ad.bundle import (
    BackboneRef,
    CalibrationSetRef,
    CameraRule,
    GoodLooks,
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
from edge_ad.capture.parts import render_part
from edge_ad.config import Profile
from edge_ad.gaussian.threshold import conformal
from edge_ad.gaussian.view import Features, FitSettings, fit_view
from edge_ad.monitor.looks import STATISTICS, look
from edge_ad.preprocess import RULE, Preprocessor

WIDTH, HEIGHT = 96, 72


def make_bundle(
    state: Path,
    *,
    product: str = "default",
    cameras: tuple[str, ...] = ("top",),
    parts: int = 60,
    rate: float = 0.02,
    seed: int = 1,
    name: str = "b1",
    use: bool = True,
    threshold: float = 0.0,
    profile: Profile = "paper",
) -> Path:
    """Fit on `parts` good rendered parts of WIDTH x HEIGHT, write, and activate if `use`.

    Every camera is one view with the same Gaussians. threshold 0: conformal at `rate`.
    """
    backbone = write_tiny_backbone(state / "tiny")
    store_backbone(state, backbone)
    grid = backbone.local if profile == "default" else None
    engine = open_features(backbone, threads=1, local=grid is not None)
    preprocessor = Preprocessor(backbone.height, backbone.width)
    pooled, positions, looks = [], [], []
    for index in range(parts):
        image, _ = render_part(seed, index, WIDTH, HEIGHT, 0.0)
        preprocessor.prepare(image, None, engine.input[0])
        pooled.append(engine.infer()[0].copy())
        looks.append(look(image))
        if engine.local is not None:
            positions.append(engine.local[0].copy())
    features = Features(np.stack(pooled), np.stack(positions) if grid else None)
    settings = FitSettings(backbone.levels, grid=(grid.rows, grid.columns) if grid else None)
    fit = fit_view(features, settings)
    limit, promise = conformal(fit.outside, rate, fit.method)
    key = engine.identity.key
    local = []
    if fit.local is not None and fit.combination is not None:
        local = [local_fit(fit.local, fit.combination)] * len(cameras)
    columns = [sorted(column) for column in zip(*looks, strict=True)]
    values = dict(zip(STATISTICS, columns, strict=True))
    manifest = Manifest(
        id=name,
        product=product,
        created=datetime.now(timezone.utc).isoformat(),
        edge_ad="test",
        profile=profile,
        backbone=BackboneRef(name=backbone.name, sha256=backbone.sha256),
        preprocess=Preprocess(
            rule=RULE,
            height=backbone.height,
            width=backbone.width,
            cameras={
                c: CameraRule(
                    pixel_rule="auto8",
                    frame_size="fixed",
                    width=WIDTH,
                    height=HEIGHT,
                    channels=1,
                    looks=GoodLooks(patch=None, **values),
                )
                for c in cameras
            },
        ),
        views=[ViewRule(name=c, camera=c) for c in cameras],
        levels=list(backbone.levels),
        local=grid,
        reduction=ReductionRef(kind="none", share=0.0),
        counts={"parts": parts},
        calibration_set=CalibrationSetRef(sha256="0" * 64, parts=parts),
        engines={
            key: Section(
                identity=engine.identity,
                scales=[1.0] * len(cameras),
                threshold=threshold or limit,
                promise=promise,
                levels=[level_fits(backbone.levels, fit.gaussians)] * len(cameras),
                reference_scores={},
                local=local,
                good_scores=sorted(fit.outside.tolist()),
                good_distances={
                    level.name: sorted(column)
                    for level, column in zip(backbone.levels, fit.distances.T.tolist(), strict=True)
                },
            )
        },
    )
    tensors = {}
    for camera in cameras:
        tensors |= level_tensors(key, camera, backbone.levels, fit.gaussians)
        if fit.local is not None:
            tensors |= local_tensors(key, camera, fit.local)
    engine.close()
    path = write_bundle(state, manifest, tensors, {})
    if use:
        activate(state, product, name)
    return path
