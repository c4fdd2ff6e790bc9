"""From kept frames to Gaussians, scales, threshold and promise, and the proof that the engine agrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import Head, ScoreEngine
from edge_ad.backbone.openvino import open_features, open_scorer
from edge_ad.backbone.spec import Backbone
from edge_ad.bundle import CameraRule, Chi2, LevelFit, Section, tensor_name
from edge_ad.calibrate.job import Job, Outcome, Part, Score, Skipped
from edge_ad.calibrate.screen import Tell, check_enough
from edge_ad.calibration_set import read_frame
from edge_ad.errors import CaptureError, DeviceError
from edge_ad.frame import Image
from edge_ad.gaussian.model import Gaussian, fit_levels
from edge_ad.gaussian.out_of_sample import out_of_sample_distances
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.threshold import (
    CHI2,
    CONFIDENCE,
    Promise,
    beta_quantile,
    chi2_threshold,
    conformal,
)
from edge_ad.preprocess import Preprocessor

REFERENCE_FRAMES = 8
# Float32 in the engine's graph against float64 in NumPy.
ENGINE_TOLERANCE = 1e-3

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ViewFit:
    """One view: its Gaussians, its scale, and the parts' out-of-sample scores [n] in its own unit."""

    gaussians: list[Gaussian]
    scale: float
    scores: NDArray[np.float64]
    method: str


def fit(
    job: Job,
    backbone: Backbone,
    parts: Sequence[Part],
    skipped: Sequence[Skipped],
    rules: dict[str, CameraRule],
    tell: Tell,
) -> tuple[Outcome, Tensors]:
    """Fit every view on `parts`. Raises CheckFailed (too few parts, nothing to fit) and DeviceError."""
    used, damaged, features = extract(job, backbone, parts, tell)
    left_out = [*skipped, *damaged]
    check_enough(len(used), left_out, job.min_parts)
    views = []
    for i in range(len(job.views)):
        tell("fitting", i, len(job.views))
        views.append(fit_view(job, features[:, i], alone=len(job.views) == 1))
    tell("fitting", len(job.views), len(job.views))
    scaled = np.stack([view.scores / view.scale for view in views], axis=1)
    worst = scaled.argmax(axis=1)
    scores = scaled.max(axis=1)
    threshold, promise, chi2 = _threshold(job, scores, views)
    heads = [
        [
            Head(level.offset, gaussian.mean.astype(np.float32), gaussian.whitening.astype(np.float32))
            for level, gaussian in zip(job.levels, view.gaussians, strict=True)
        ]
        for view in views
    ]
    picked = np.unique(
        np.linspace(0, len(used) - 1, min(REFERENCE_FRAMES, len(used))).round().astype(int)
    )
    engine = open_scorer(backbone, heads, job.threads, job.precision)
    reference = _score_reference(job, engine, [used[i] for i in picked], views, tell)
    _check_engine(job, reference, features[picked], views)
    section = Section(
        identity=engine.identity,
        scales=[view.scale for view in views],
        threshold=threshold,
        promise=promise,
        levels=[
            [
                LevelFit(
                    name=level.name, k=len(g.whitening), shrinkage=g.shrinkage, condition=g.condition
                )
                for level, g in zip(job.levels, view.gaussians, strict=True)
            ]
            for view in views
        ],
        reference_scores={},
        chi2=chi2,
    )
    engine.close()
    results = [
        Score(part, float(score), job.views[view].name)
        for part, score, view in zip(used, scores, worst, strict=True)
    ]
    outcome = Outcome(results, left_out, rules, section, reference)
    return outcome, _tensors(job, section.identity.key, views)


def extract(
    job: Job, backbone: Backbone, parts: Sequence[Part], tell: Tell
) -> tuple[list[Part], list[Skipped], NDArray[np.float32]]:
    """Features [n, V, D] of the parts whose kept frames are whole; all views of a part are one batch."""
    engine = open_features(backbone, len(job.views), job.threads, job.precision)
    prepare = Preprocessor(backbone.height, backbone.width)
    features = np.empty((len(parts), len(job.views), backbone.dim), np.float32)
    used: list[Part] = []
    damaged: list[Skipped] = []
    for i, part in enumerate(parts):
        tell("features", i, len(parts))
        try:
            _fill(job, part, prepare, engine.input)
        except CaptureError as error:
            damaged.append(Skipped(f"{part.id} {part.source}", "damaged", str(error)))
            continue
        features[len(used)] = engine.infer()
        used.append(part)
    tell("features", len(parts), len(parts))
    engine.close()
    return used, damaged, features[: len(used)]


def fit_view(job: Job, features: NDArray[np.float32], alone: bool) -> ViewFit:
    """Fit one view on features [n, D]. Its scale is its median out-of-sample score, 1 where it is
    alone."""
    distances, method = out_of_sample_distances(features, job.levels, job.reduction, job.folds)
    scores = level_sum(distances)
    scale = 1.0 if alone else float(np.median(scores))
    return ViewFit(fit_levels(features, job.levels, job.reduction), scale, scores, method)


def _fill(job: Job, part: Part, prepare: Preprocessor, rows: NDArray[np.uint8]) -> None:
    """Write a part's views into the engine's input. Raises CaptureError when a kept frame is damaged."""
    images: dict[str, Image] = {
        name: read_frame(Path(job.directory), stored) for name, stored in part.files.items()
    }
    for view, row in zip(job.views, rows, strict=True):
        prepare.prepare(images[view.camera], view.roi, row)


def _threshold(
    job: Job, scores: NDArray[np.float64], views: Sequence[ViewFit]
) -> tuple[float, Promise, Chi2 | None]:
    """Conformal, or the paper's chi-squared whose rate is then counted on the out-of-sample scores."""
    threshold, promise = conformal(scores, job.rate, views[0].method)
    if len(views) > 1 or len(job.levels) > 1:
        return threshold, promise, None
    k = len(views[0].gaussians[0].whitening)
    limit = chi2_threshold(k, job.rate)
    above = int((scores > limit).sum())
    n = len(scores)
    chi2 = Chi2(threshold=limit, k=k, rate=job.rate, observed=above / n)
    if job.threshold == "conformal":
        return threshold, promise, chi2
    # For a threshold that does not come from the scores this is Laplace's rule, and Clopper and
    # Pearson's upper bound: the same Beta law as the conformal one with n - above as the index.
    confident = beta_quantile(CONFIDENCE, above + 1, n - above) if above < n else 1.0
    promise = Promise(
        method=f"{CHI2}, checked {views[0].method}",
        parts=n,
        target=job.rate,
        index=n - above,
        expected=(above + 1) / (n + 1),
        confident=confident,
        achievable=(above + 1) / (n + 1) <= job.rate,
    )
    return limit, promise, chi2


def _score_reference(
    job: Job, engine: ScoreEngine, parts: Sequence[Part], views: Sequence[ViewFit], tell: Tell
) -> dict[str, float]:
    """Part id -> score, by the engine that will inspect."""
    prepare = Preprocessor(*engine.input.shape[1:3])
    scales = np.array([view.scale for view in views])
    scores = {}
    for i, part in enumerate(parts):
        tell("reference", i, len(parts))
        _fill(job, part, prepare, engine.input)
        scores[part.id] = float((level_sum(engine.infer()) / scales).max())
    tell("reference", len(parts), len(parts))
    return scores


def _check_engine(
    job: Job, found: dict[str, float], features: NDArray[np.float32], views: Sequence[ViewFit]
) -> None:
    """Compare the engine's scores with NumPy's on features [m, V, D]; DeviceError when they differ."""
    by_view = [
        level_sum(level_distances(features[:, i], job.levels, view.gaussians)) / view.scale
        for i, view in enumerate(views)
    ]
    expected = np.stack(by_view, axis=1).max(axis=1)
    for (part, score), reference in zip(found.items(), expected, strict=True):
        # NaN must not slip through a comparison.
        if not abs(score - reference) <= ENGINE_TOLERANCE * reference:
            raise DeviceError(
                f"engine {job.precision}: part {part} scores {score:.6g}, NumPy says {reference:.6g}, "
                f"more than {ENGINE_TOLERANCE:g} apart; set engine.precision to f32, or drop nearly "
                "identical parts"
            )


def _tensors(job: Job, key: str, views: Sequence[ViewFit]) -> Tensors:
    tensors: Tensors = {}
    for rule, view in zip(job.views, views, strict=True):
        for level, gaussian in zip(job.levels, view.gaussians, strict=True):
            tensors[tensor_name(key, rule.name, level.name, "mean")] = gaussian.mean
            tensors[tensor_name(key, rule.name, level.name, "whitening")] = np.ascontiguousarray(
                gaussian.whitening, np.float32
            )
    return tensors
