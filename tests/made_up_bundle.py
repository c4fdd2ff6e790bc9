"""A complete bundle without a fit: made-up Gaussians for the tiny backbone."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.engine import EngineIdentity
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
    bundle_id,
    store_backbone,
    tensor_name,
    write_bundle,
)
from edge_ad.gaussian.threshold import Promise
from edge_ad.preprocess import RULE

KEY = "openvino-f32"
WHEN = datetime(2026, 1, 31, 12, 0, 0, tzinfo=timezone.utc)
Tensors = dict[str, NDArray[Any]]


def tiny_contents(backbone: Backbone, seed: int = 0) -> tuple[Manifest, Tensors]:
    """A manifest and the tensors it calls for."""
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    for level in backbone.levels:
        tensors[tensor_name(KEY, "top", level.name, "mean")] = rng.normal(size=level.dim)
        tensors[tensor_name(KEY, "top", level.name, "whitening")] = np.triu(
            rng.normal(size=(level.dim, level.dim))
        ).astype(np.float32)
    section = Section(
        identity=EngineIdentity("openvino", "1", "a CPU", "f32", backbone.sha256),
        scales=[1.0],
        threshold=10.0 + seed,
        promise=Promise("leave-one-out", 40, 0.01, 40, 1 / 41, 0.07, False),
        levels=[[LevelFit(name=v.name, k=v.dim, shrinkage=0.1, condition=9.0) for v in backbone.levels]],
        reference_scores={"reference/000001.png": 3.0},
    )
    manifest = Manifest(
        id=bundle_id(WHEN, str(seed).encode()),
        product="disc",
        created="2026-01-31T12:00:00Z",
        edge_ad="0",
        profile="paper",
        backbone=BackboneRef(name=backbone.name, sha256=backbone.sha256),
        preprocess=Preprocess(
            rule=RULE,
            height=backbone.height,
            width=backbone.width,
            cameras={
                "top": CameraRule(pixel_rule="auto8", frame_size="any", width=0, height=0, channels=1)
            },
        ),
        views=[ViewRule(name="top", camera="top")],
        levels=list(backbone.levels),
        reduction=ReductionRef(kind="none", share=0.0),
        counts={"parts": 40},
        calibration_set=CalibrationSetRef(sha256="0" * 64, parts=40),
        engines={KEY: section},
    )
    return manifest, tensors


def write_tiny_bundle(state: Path, seed: int = 0) -> Path:
    """Write a bundle and its backbone below `state`; another seed is another bundle."""
    backbone = write_tiny_backbone(state.parent / "net")
    store_backbone(state, backbone)
    manifest, tensors = tiny_contents(backbone, seed)
    return write_bundle(
        state, manifest, tensors, {"reference/000001.png": b"a picture", "report.html": b"<html>"}
    )
