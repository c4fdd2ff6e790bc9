"""Profile `paper`: one Gaussian per level of pooled features, the score their sum (Rippel et al., 2020).

Fitted on train/good, with the threshold set from the same parts out of sample, as a station does it; the
test parts are only measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import FeatureEngine
from edge_ad.backbone.spec import Backbone, Level
from edge_ad.capture.images import printable
from edge_ad.capture.pixels import PixelRule
from edge_ad.errors import CheckFailed, ConfigError
from edge_ad.evaluate.dataset import Dataset
from edge_ad.evaluate.extract import Extracted, extract
from edge_ad.evaluate.metrics import auroc, auroc_interval, predicted_interval, rate_interval
from edge_ad.evaluate.result import (
    ChiSquared,
    Defect,
    Evaluation,
    LevelResult,
    Network,
    Parts,
    WorkingPoint,
)
from edge_ad.gaussian.model import Gaussian, fit_levels
from edge_ad.gaussian.out_of_sample import out_of_sample_distances
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.threshold import chi2_threshold, conformal, promise_text
from edge_ad.preprocess import RULE, Preprocessor

MAP_NOTE = "profile paper scores pooled features: one score per image, no anomaly map"
TARGETS = (0.05, 0.01)  # shown beside the rate that was asked for
Scores = NDArray[np.float64]


def choose_levels(backbone: Backbone, names: Sequence[str]) -> list[Level]:
    """The backbone's levels of these names, in the backbone's order; all of them without names."""
    known = [level.name for level in backbone.levels]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"--levels: no level {unknown[0]!r} in {backbone.name}; have {','.join(known)}"
        )
    return [level for level in backbone.levels if not names or level.name in names]


def evaluate_paper(
    dataset: Dataset,
    backbone: Backbone,
    engine: FeatureEngine,
    rule: PixelRule,
    levels: Sequence[Level],
    reduction: Reduction,
    target: float,
    advance: Callable[[], None],
) -> Evaluation:
    """Fit, measure, report; `advance` is called after each image. CheckFailed when too few are left."""
    preprocessor = Preprocessor(backbone.height, backbone.width)

    def features(paths: Sequence[Path]) -> Extracted:
        found = extract(paths, engine, preprocessor, rule, advance)
        if not found.read:
            raise CheckFailed(f"{paths[0].parent}: no image can be read; first: {found.unreadable[0]}")
        return found

    train, good = features(dataset.train), features(dataset.good)
    bad = {kind: features(paths) for kind, paths in dataset.defects.items()}
    outside, method = out_of_sample_distances(train.features, levels, reduction)
    gaussians = fit_levels(train.features, levels, reduction)
    good_distances = level_distances(good.features, levels, gaussians)
    bad_distances = {k: level_distances(b.features, levels, gaussians) for k, b in bad.items()}
    good_scores = level_sum(good_distances)
    bad_scores = {kind: level_sum(d) for kind, d in bad_distances.items()}
    all_bad = np.concatenate(list(bad_scores.values()))
    points = [
        _working_point(level_sum(outside), good_scores, all_bad, rate, method)
        for rate in sorted({target, *TARGETS}, key=lambda rate: (rate != target, -rate))
    ]
    point = points[0]
    value = auroc(good_scores, all_bad)
    return Evaluation(
        name=dataset.name,
        dataset=printable(dataset.root),
        profile="paper",
        image_auroc=value,
        image_auroc_interval=auroc_interval(value, len(good_scores), len(all_bad)),
        pixel_auroc=None,
        aupro=None,
        map_note=MAP_NOTE,
        target_false_reject_rate=target,
        false_reject_rate=point.false_reject_rate,
        false_reject_interval=point.false_reject_interval,
        false_reject_inside=point.inside,
        detection_rate=point.detection_rate,
        detection_interval=point.detection_interval,
        threshold=point.threshold,
        promise=point.promise,
        promise_text=point.promise_text,
        per_defect={k: _defect(good_scores, s, point.threshold) for k, s in bad_scores.items()},
        per_level=_per_level(levels, gaussians, good_distances, bad_distances),
        working_points=points,
        chi_squared=_chi_squared(gaussians, target, good_scores, all_bad),
        ms_per_part=_ms_per_part([good, *bad.values()], good.features, levels, gaussians),
        parts=Parts(len(train.read), len(good_scores), len(all_bad)),
        reduction=reduction,
        backbone=Network(backbone.name, backbone.sha256),
        engine=engine.identity,
        preprocess=f"{rule.name}, {RULE}, {backbone.height} x {backbone.width}",
        unreadable=[line for e in (train, good, *bad.values()) for line in e.unreadable],
        empty=dataset.empty,
    )


def _working_point(
    outside: Scores, good: Scores, bad: Scores, target: float, method: str
) -> WorkingPoint:
    threshold, promise = conformal(outside, target, method)
    rejected, detected = int((good > threshold).sum()), int((bad > threshold).sum())
    low, high = predicted_interval(promise.parts, promise.index, len(good))
    rate = rejected / len(good)
    return WorkingPoint(
        target=target,
        threshold=threshold,
        promise=promise,
        promise_text=promise_text(promise),
        false_reject_rate=rate,
        false_reject_interval=(low, high),
        inside=low <= rate <= high,
        detection_rate=detected / len(bad),
        detection_interval=rate_interval(detected, len(bad)),
    )


def _defect(good: Scores, bad: Scores, threshold: float) -> Defect:
    detected, value = int((bad > threshold).sum()), auroc(good, bad)
    return Defect(
        parts=len(bad),
        image_auroc=value,
        image_auroc_interval=auroc_interval(value, len(good), len(bad)),
        detection_rate=detected / len(bad),
        detection_interval=rate_interval(detected, len(bad)),
    )


def _per_level(
    levels: Sequence[Level], gaussians: Sequence[Gaussian], good: Scores, bad: dict[str, Scores]
) -> dict[str, LevelResult]:
    all_bad = np.concatenate(list(bad.values()))
    return {
        level.name: LevelResult(
            auroc(good[:, i], all_bad[:, i]), len(g.whitening), g.shrinkage, g.condition
        )
        for i, (level, g) in enumerate(zip(levels, gaussians, strict=True))
    }


def _chi_squared(
    gaussians: Sequence[Gaussian], target: float, good: Scores, bad: Scores
) -> ChiSquared | None:
    if len(gaussians) != 1:
        return None
    dims = len(gaussians[0].whitening)
    threshold = chi2_threshold(dims, target)
    return ChiSquared(
        dims=dims,
        target=target,
        threshold=threshold,
        false_reject_rate=float((good > threshold).mean()),
        detection_rate=float((bad > threshold).mean()),
    )


def _ms_per_part(
    extracted: Sequence[Extracted],
    features: NDArray[Any],
    levels: Sequence[Level],
    gaussians: Sequence[Gaussian],
) -> float:
    """Median of preprocessing and network, plus the median of scoring one part at a time."""
    scoring = []
    for row in features[:20]:
        started = time.perf_counter_ns()
        level_sum(level_distances(row[None], levels, gaussians))
        scoring.append((time.perf_counter_ns() - started) / 1e6)
    return float(np.median(np.concatenate([e.ms for e in extracted])) + np.median(scoring))
