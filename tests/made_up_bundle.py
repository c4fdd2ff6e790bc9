"""A complete bundle without a fit: made-up Gaussians for the tiny backbone."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.backbone.spec import Backbone, Local
from edge_ad.bundle import (
    BackboneRef,
    CalibrationSetRef,
    CameraRule,
    LevelFit,
    LocalFit,
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
from edge_ad.config import Profile
from edge_ad.gaussian.threshold import Promise
from edge_ad.gaussian.view import Combination
from edge_ad.preprocess import RULE

KEY = "openvino-f32"
WHEN = datetime(2026, 1, 31, 12, 0, 0, tzinfo=timezone.utc)
Tensors = dict[str, NDArray[Any]]


COMBINATION = Combination(top=2, global_mean=4.0, global_spread=2.0, local_mean=3.0, local_spread=1.5)
Q = 5  # context regressors of the made-up Gaussians of positions


def tiny_contents(
    backbone: Backbone, seed: int = 0, profile: Profile = "paper"
) -> tuple[Manifest, Tensors]:
    """A manifest and the tensors it calls for."""
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    for level in backbone.levels:
        tensors[tensor_name(KEY, "top", level.name, "mean")] = rng.normal(size=level.dim)
        tensors[tensor_name(KEY, "top", level.name, "whitening")] = np.triu(
            rng.normal(size=(level.dim, level.dim))
        ).astype(np.float32)
    local = backbone.local if profile == "default" else None
    if local is not None:
        tensors |= _local_tensors(local, rng)
    section = Section(
        identity=EngineIdentity("openvino", "1", "a CPU", "f32", backbone.sha256),
        scales=[1.0],
        threshold=10.0 + seed,
        promise=Promise("leave-one-out", 40, 0.01, 40, 1 / 41, 0.07, False),
        levels=[[LevelFit(name=v.name, k=v.dim, shrinkage=0.1, condition=9.0) for v in backbone.levels]],
        reference_scores={"reference/000001.png": 3.0},
        local=[LocalFit(k=local.dim, q=Q, coarse=4, shrinkage=0.2, shared=0.3, combination=COMBINATION)]
        if local is not None
        else [],
    )
    manifest = Manifest(
        id=bundle_id(WHEN, str(seed).encode()),
        product="disc",
        created="2026-01-31T12:00:00Z",
        edge_ad="0",
        profile=profile,
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
        local=local,
        reduction=ReductionRef(kind="none", share=0.0),
        counts={"parts": 40},
        calibration_set=CalibrationSetRef(sha256="0" * 64, parts=40),
        engines={KEY: section},
    )
    return manifest, tensors


def _local_tensors(local: Local, rng: np.random.Generator) -> Tensors:
    """Gaussians of positions, in the context of 2 x 2 cells."""
    p, d = local.positions, local.dim
    tensors: Tensors = {
        "pooling": rng.uniform(size=(4, p)),
        "context_mean": rng.normal(size=4 * d),
        "mean": rng.normal(size=(p, d)),
        "center": rng.uniform(1, 2, (2, p)),
        "spread": rng.uniform(1, 2, (2, p)),
        "context": rng.normal(size=(Q, 4 * d)).astype(np.float32),
        "coefficients": rng.normal(size=(p, d, Q)).astype(np.float32),
        "whitening": np.triu(rng.normal(size=(p, d, d))).astype(np.float32),
        "alone": np.triu(rng.normal(size=(p, d, d))).astype(np.float32),
    }
    return {tensor_name(KEY, "top", "local", what): array for what, array in tensors.items()}


def write_tiny_bundle(state: Path, seed: int = 0, profile: Profile = "paper") -> Path:
    """Write a bundle and its backbone below `state`; another seed is another bundle."""
    backbone = write_tiny_backbone(state.parent / "net")
    store_backbone(state, backbone)
    manifest, tensors = tiny_contents(backbone, seed, profile)
    return write_bundle(
        state, manifest, tensors, {"reference/000001.png": b"a picture", "report.html": b"<html>"}
    )
