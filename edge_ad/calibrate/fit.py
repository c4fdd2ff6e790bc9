"""From kept frames to Gaussians, threshold and promise, and the proof that the engine agrees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import ScoreEngine
from edge_ad.backbone.openvino import open_features, open_scorer
from edge_ad.backbone.spec import Backbone
from edge_ad.bundle import (
    CameraRule,
    Chi2,
    Section,
    level_fits,
    level_head,
    level_tensors,
    local_fit,
    local_head,
    local_tensors,
)
from edge_ad.bundle.tensors import Tensors
from edge_ad.calibrate.agree import Answers, check_engine, view_scores
from edge_ad.calibrate.augment import replicate
from edge_ad.calibrate.job import Job, Outcome, Part, Score, Skipped
from edge_ad.calibrate.screen import Tell, check_enough
from edge_ad.calibrate.suspects import find_suspects, scaled_scores, screening, view_scales
from edge_ad.calibration_set import read_frame
from edge_ad.errors import CaptureError, CheckFailed
from edge_ad.frame import Image
from edge_ad.gaussian.replicates import fit_with_replicates
from edge_ad.gaussian.threshold import (
    CHI2,
    CONFIDENCE,
    Promise,
    beta_quantile,
    chi2_threshold,
    conformal,
)
from edge_ad.gaussian.view import Features, FitSettings, ViewFit, fit_view
from edge_ad.preprocess import Preprocessor

REFERENCE_FRAMES = 8
LEAST_THRESHOLD = 0.01
# Of one part: pooled [V, D] and, with positions, local [V, P, d].
_Row = tuple[NDArray[np.float32], NDArray[np.float32] | None]


def fit(
    job: Job,
    backbone: Backbone,
    parts: Sequence[Part],
    skipped: Sequence[Skipped],
    rules: dict[str, CameraRule],
    tell: Tell,
) -> tuple[Outcome, Tensors]:
    """Fit every view on `parts`. Raises CheckFailed (too few parts, nothing to fit) and DeviceError."""
    used, damaged, features, replicates = extract(job, backbone, parts, tell)
    left_out = [*skipped, *damaged]
    check_enough(len(used), left_out, job)
    settings = fit_settings(job)
    views = _fit_views(features, settings, tell)
    suspects = find_suspects(job, used, features, views, settings, tell)
    if suspects.out.any() and job.screen == "drop":
        kept = ~suspects.out
        used = [used[i] for i in np.flatnonzero(kept)]
        check_enough(len(used), left_out, job)
        features = [of_view.take(kept) for of_view in features]
        replicates = [of_view.take(np.tile(kept, job.augment)) for of_view in replicates]
        views = _fit_views(features, settings, tell)
    if job.augment:
        views = _fit_views(features, settings, tell, replicates)
    scales, scaled = view_scales(views), scaled_scores(views)
    scores = scaled.max(axis=1)
    threshold, promise, chi2 = _threshold(job, scores, views)
    _check_threshold(job, threshold, scores, used)
    tensors = _tensors(job, views)
    engine = _open_scorer(job, backbone, tensors)
    picked = np.unique(
        np.linspace(0, len(used) - 1, min(REFERENCE_FRAMES, len(used))).round().astype(int)
    )
    names = [used[i].id for i in picked]
    answers = _reference(job, engine, [used[i] for i in picked], tell)
    check_engine(job, names, answers, [of_view.take(picked) for of_view in features], views)
    section = Section(
        identity=engine.identity,
        scales=scales,
        threshold=threshold,
        promise=promise,
        levels=[level_fits(job.levels, view.gaussians) for view in views],
        reference_scores={},
        chi2=chi2,
        local=[
            local_fit(view.local, view.combination)
            for view in views
            if view.local is not None and view.combination is not None
        ],
        screening=screening(job, suspects, promise),
    )
    engine.close()
    results = [
        Score(part, float(score), job.views[view].name)
        for part, score, view in zip(used, scores, scaled.argmax(axis=1), strict=True)
    ]
    reference = (view_scores(answers, views) / scales).max(axis=1)
    found = dict(zip(names, map(float, reference), strict=True))
    return Outcome(results, suspects.parts, left_out, rules, section, found), tensors


def fit_settings(job: Job) -> FitSettings:
    """What is fitted in every view."""
    grid = None if job.local is None else (job.local.rows, job.local.columns)
    return FitSettings(job.levels, job.reduction, job.folds, grid)


def _fit_views(
    features: Sequence[Features],
    settings: FitSettings,
    tell: Tell,
    replicates: Sequence[Features] | None = None,
) -> list[ViewFit]:
    """Each view's fit, with replicates where they are given."""
    views = []
    for i, of_view in enumerate(features):
        tell("fitting", i, len(features))
        if replicates is None:
            views.append(fit_view(of_view, settings))
        else:
            views.append(fit_with_replicates(of_view, replicates[i], settings))
    tell("fitting", len(features), len(features))
    return views


def extract(
    job: Job, backbone: Backbone, parts: Sequence[Part], tell: Tell
) -> tuple[list[Part], list[Skipped], list[Features], list[Features]]:
    """The parts whose kept frames are whole, those that are not, and per view the features of the first
    and of their replicates, those of part i at i, n + i, ...; a part's views are one batch."""
    engine = open_features(
        backbone, len(job.views), job.threads, job.precision, local=job.local is not None
    )
    prepare = Preprocessor(backbone.height, backbone.width)
    rows: list[list[_Row]] = [[] for _ in range(1 + job.augment)]
    used: list[Part] = []
    damaged: list[Skipped] = []
    for i, part in enumerate(parts):
        tell("features", i, len(parts))
        try:
            images = _images(job, part)
        except CaptureError as error:
            damaged.append(Skipped(f"{part.id} {part.source}", "damaged", str(error)))
            continue
        rng = np.random.default_rng(len(used))
        for turn, kept in enumerate(rows):
            altered = {k: replicate(v, rng) for k, v in images.items()} if turn else images
            _fill(job, altered, prepare, engine.input)
            pooled = engine.infer().copy()
            kept.append((pooled, None if engine.local is None else engine.local.copy()))
        used.append(part)
    tell("features", len(parts), len(parts))
    engine.close()
    views = range(len(job.views))
    flat = [row for kept in rows[1:] for row in kept]
    return used, damaged, [_of_view(rows[0], v) for v in views], [_of_view(flat, v) for v in views]


def _of_view(rows: Sequence[_Row], view: int) -> Features:
    """The features of one view of every row."""
    if not rows:
        return Features(np.empty((0, 0), np.float32))
    local = [near[view] for _, near in rows if near is not None]
    return Features(np.stack([pooled[view] for pooled, _ in rows]), np.stack(local) if local else None)


def _images(job: Job, part: Part) -> dict[str, Image]:
    """A part's kept frames by camera. Raises CaptureError when one is damaged."""
    return {name: read_frame(Path(job.directory), stored) for name, stored in part.files.items()}


def _fill(job: Job, images: dict[str, Image], prepare: Preprocessor, rows: NDArray[np.uint8]) -> None:
    """Write a part's views into the engine's input."""
    for view, row in zip(job.views, rows, strict=True):
        prepare.prepare(images[view.camera], view.roi, row)


def _threshold(
    job: Job, scores: NDArray[np.float64], views: Sequence[ViewFit]
) -> tuple[float, Promise, Chi2 | None]:
    """Conformal, or the paper's chi-squared whose rate is then counted on the out-of-sample scores."""
    threshold, promise = conformal(scores, job.rate, views[0].method)
    if len(views) > 1 or len(job.levels) > 1 or job.local is not None:
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


def _check_threshold(
    job: Job, threshold: float, scores: NDArray[np.float64], used: Sequence[Part]
) -> None:
    """Standardised scores are about 0 for an ordinary good part. A threshold there would be no unit for
    margins and tolerances, which are shares of it; a part very far out can stretch the scale so."""
    if threshold >= LEAST_THRESHOLD:
        return
    furthest = int(scores.argmax())
    raise CheckFailed(
        f"{len(used)} good parts: the threshold for a false-reject rate of {job.rate:g} is "
        f"{threshold:.4g}, where ordinary good parts are (it takes {LEAST_THRESHOLD:g}); look at "
        f"{used[furthest].source}, which lies furthest out (score {scores[furthest]:.4g}): leave it out "
        f"(--drop {used[furthest].id} for a kept part) if it is defective, else ask for a lower rate"
    )


def _tensors(job: Job, views: Sequence[ViewFit]) -> Tensors:
    tensors: Tensors = {}
    for rule, view in zip(job.views, views, strict=True):
        tensors |= level_tensors(job.key, rule.name, job.levels, view.gaussians)
        if view.local is not None:
            tensors |= local_tensors(job.key, rule.name, view.local)
    return tensors


def _open_scorer(job: Job, backbone: Backbone, tensors: Tensors) -> ScoreEngine:
    """The engine that will inspect, from the tensors that it will inspect with."""
    heads = [[level_head(tensors, job.key, v.name, level) for level in job.levels] for v in job.views]
    local = None if job.local is None else [local_head(tensors, job.key, v.name) for v in job.views]
    return open_scorer(backbone, heads, job.threads, job.precision, local)


def _reference(job: Job, engine: ScoreEngine, parts: Sequence[Part], tell: Tell) -> Answers:
    """What the engine that will inspect says of some parts."""
    prepare = Preprocessor(*engine.input.shape[1:3])
    distances, cells = [], []
    for i, part in enumerate(parts):
        tell("reference", i, len(parts))
        _fill(job, _images(job, part), prepare, engine.input)
        distances.append(engine.infer().copy())
        if engine.cells is not None:
            cells.append(engine.cells.copy())
    tell("reference", len(parts), len(parts))
    return Answers(np.stack(distances), np.stack(cells) if cells else None)
