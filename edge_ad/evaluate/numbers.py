"""From scores and maps of one class to its numbers, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.images import printable
from edge_ad.evaluate.extract import Rig
from edge_ad.evaluate.masks import Masks, read_mask
from edge_ad.evaluate.metrics import (
    auroc,
    auroc_interval,
    lowest_threshold,
    predicted_interval,
    rate_interval,
)
from edge_ad.evaluate.pixels import PixelScores, enlarge
from edge_ad.evaluate.result import (
    ChiSquared,
    Defect,
    Detection,
    Evaluation,
    LevelResult,
    MaskCount,
    Network,
    Parts,
    WorkingPoint,
)
from edge_ad.evaluate.scoring import Measured
from edge_ad.gaussian.model import Gaussian
from edge_ad.gaussian.threshold import chi2_threshold, conformal, promise_text
from edge_ad.preprocess import RULE

TARGETS = (0.05, 0.01, 0.001)  # shown beside the rate that was asked for
MEASURED_AT = (0.01, 0.001)  # false-reject rates of the test's own good parts
Scores = NDArray[np.float64]


def numbers(m: Measured, rig: Rig, masks: Masks | None, profile: str, target: float) -> Evaluation:
    """Everything `--json` says about one class, but for baselines."""
    good, bad = m.good.scores, m.bad_scores
    points = [
        _working_point(m.fit.outside, good, bad, rate, m.fit.method)
        for rate in sorted({target, *TARGETS}, key=lambda rate: (rate != target, -rate))
    ]
    point, value = points[0], auroc(good, bad)
    promised = [(p.target, p.threshold) for p in points]
    at = [(rate, lowest_threshold(good, rate)) for rate in MEASURED_AT]
    pixel_auroc, aupro, count = _pixel_numbers(m, masks)
    return Evaluation(
        name=m.dataset.name,
        dataset=printable(m.dataset.root),
        split=m.dataset.split,
        profile=profile,
        image_auroc=value,
        image_auroc_interval=auroc_interval(value, len(good), len(bad)),
        pixel_auroc=pixel_auroc,
        aupro=aupro,
        map_note=_map_note(m, profile, count),
        masks=count,
        target_false_reject_rate=target,
        false_reject_rate=point.false_reject_rate,
        false_reject_interval=point.false_reject_interval,
        false_reject_inside=point.inside,
        detection_rate=point.detection_rate,
        detection_interval=point.detection_interval,
        threshold=point.threshold,
        promise=point.promise,
        promise_text=point.promise_text,
        per_defect={kind: _defect(good, g.scores, promised, at) for kind, g in m.bad.items()},
        per_level=_per_level(m),
        working_points=points,
        detection_at=[_detection(good, bad, *one) for one in at],
        chi_squared=_chi_squared(m.fit.gaussians, target, good, bad) if profile == "paper" else None,
        ms_per_part=m.ms_per_part,
        parts=Parts(len(m.train), len(good), len(bad)),
        reduction=m.settings.reduction,
        backbone=Network(rig.backbone.name, rig.backbone.sha256),
        engine=rig.engine.identity,
        preprocess=f"{rig.rule.name}, {RULE}, {rig.backbone.height} x {rig.backbone.width}",
        unreadable=m.train_unreadable
        + [line for group in (m.good, *m.bad.values()) for line in group.unreadable],
        empty=m.dataset.empty,
        train_other=m.dataset.train_other,
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


def _detection(good: Scores, bad: Scores, target: float, threshold: float) -> Detection:
    detected = int((bad > threshold).sum())
    return Detection(
        target=target,
        threshold=threshold,
        false_rejects=int((good > threshold).sum()),
        good=len(good),
        detected=detected,
        parts=len(bad),
        detection_rate=detected / len(bad),
        detection_interval=rate_interval(detected, len(bad)),
    )


def _defect(
    good: Scores, bad: Scores, promised: list[tuple[float, float]], at: list[tuple[float, float]]
) -> Defect:
    value, by_promise = auroc(good, bad), [_detection(good, bad, *one) for one in promised]
    return Defect(
        parts=len(bad),
        image_auroc=value,
        image_auroc_interval=auroc_interval(value, len(good), len(bad)),
        detection_rate=by_promise[0].detection_rate,
        detection_interval=by_promise[0].detection_interval,
        promised=by_promise,
        detection_at=[_detection(good, bad, *one) for one in at],
    )


def _per_level(m: Measured) -> dict[str, LevelResult]:
    good = m.good.scored.distances
    bad = np.concatenate([group.scored.distances for group in m.bad.values()])
    return {
        level.name: LevelResult(auroc(good[:, i], bad[:, i]), len(g.whitening), g.shrinkage, g.condition)
        for i, (level, g) in enumerate(zip(m.settings.levels, m.fit.gaussians, strict=True))
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


def _pixel_numbers(
    m: Measured, masks: Masks | None
) -> tuple[float | None, float | None, MaskCount | None]:
    """Pixel AUROC, AUPRO, and which masks they come from; None each without masks or maps."""
    scores = _pixel_scores(m, masks) if masks is not None else None
    if masks is None or scores is None:
        return None, None, None
    used = sum(path in masks.files for group in m.bad.values() for path in group.paths)
    count = MaskCount(used, scores.regions, masks.empty, masks.missing, masks.unreadable)
    return scores.auroc(), scores.aupro(), count


def _pixel_scores(m: Measured, masks: Masks) -> PixelScores | None:
    """Every pixel of the good parts and of the defects with a usable mask; None without maps."""
    groups = (m.good, *m.bad.values())
    lowest = [float(g.scored.maps.min()) for g in groups if g.scored.maps is not None]
    if not lowest:
        return None
    scores = PixelScores(min(lowest))
    for group in groups:
        assert group.scored.maps is not None
        for path, shape, cells in zip(group.paths, group.shapes, group.scored.maps, strict=True):
            if group is m.good:
                scores.add(enlarge(cells, shape))
            elif path in masks.files:
                scores.add(enlarge(cells, shape), read_mask(masks.files[path]))
    return scores


def _map_note(m: Measured, profile: str, count: MaskCount | None) -> str:
    maps = m.good.scored.maps
    if maps is None:
        return f"profile {profile} scores pooled features: one score per image, no anomaly map"
    rows, columns = maps.shape[1:]
    note = f"anomaly map of {rows} x {columns} cells, enlarged bilinearly to each image's size"
    if count is None:
        return f"{note}; no ground_truth folder, so no pixel numbers"
    if not count.used:
        return f"{note}; no usable mask, so no pixel numbers"
    return f"{note}; {count.used} masks, {count.regions} regions"
