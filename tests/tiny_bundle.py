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
from edge_ad.capture.parts import render_part
from edge_ad.gaussian.model import fit_levels
from edge_ad.gaussian.out_of_sample import out_of_sample_distances
from edge_ad.gaussian.score import level_sum
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.threshold import conformal
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
) -> Path:
    """Fit on `parts` good rendered parts of WIDTH x HEIGHT, write, and activate if `use`.

    Every camera is one view with the same Gaussians. threshold 0: conformal at `rate`.
    """
    backbone = write_tiny_backbone(state / "tiny")
    store_backbone(state, backbone)
    engine = open_features(backbone, threads=1)
    preprocessor = Preprocessor(backbone.height, backbone.width)
    features = []
    for index in range(parts):
        image, _ = render_part(seed, index, WIDTH, HEIGHT, 0.0)
        preprocessor.prepare(image, None, engine.input[0])
        features.append(engine.infer()[0].copy())
    x = np.stack(features)
    gaussians = fit_levels(x, backbone.levels)
    distances, method = out_of_sample_distances(x, backbone.levels, Reduction())
    limit, promise = conformal(level_sum(distances), rate, method)
    key = engine.identity.key
    fits = [
        LevelFit(name=level.name, k=level.dim, shrinkage=g.shrinkage, condition=g.condition)
        for level, g in zip(backbone.levels, gaussians, strict=True)
    ]
    manifest = Manifest(
        id=name,
        product=product,
        created=datetime.now(timezone.utc).isoformat(),
        edge_ad="test",
        profile="paper",
        backbone=BackboneRef(name=backbone.name, sha256=backbone.sha256),
        preprocess=Preprocess(
            rule=RULE,
            height=backbone.height,
            width=backbone.width,
            cameras={
                c: CameraRule(
                    pixel_rule="auto8", frame_size="fixed", width=WIDTH, height=HEIGHT, channels=1
                )
                for c in cameras
            },
        ),
        views=[ViewRule(name=c, camera=c) for c in cameras],
        levels=list(backbone.levels),
        reduction=ReductionRef(kind="none", share=0.0),
        counts={"parts": parts},
        calibration_set=CalibrationSetRef(sha256="0" * 64, parts=parts),
        engines={
            key: Section(
                identity=engine.identity,
                scales=[1.0] * len(cameras),
                threshold=threshold or limit,
                promise=promise,
                levels=[fits] * len(cameras),
                reference_scores={},
            )
        },
    )
    tensors = {}
    for camera in cameras:
        for level, gaussian in zip(backbone.levels, gaussians, strict=True):
            tensors[tensor_name(key, camera, level.name, "mean")] = gaussian.mean
            tensors[tensor_name(key, camera, level.name, "whitening")] = np.ascontiguousarray(
                gaussian.whitening, np.float32
            )
    engine.close()
    path = write_bundle(state, manifest, tensors, {})
    if use:
        activate(state, product, name)
    return path
