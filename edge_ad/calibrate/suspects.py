"""Parts among the good ones that are separated from the rest, over all views of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle import Screening, Suspect
from edge_ad.calibrate.job import Job, Part, Score
from edge_ad.calibrate.screen import Tell
from edge_ad.errors import CheckFailed
from edge_ad.gaussian.outliers import ROUNDS, Separation, find_outliers, gaps, separate
from edge_ad.gaussian.threshold import Promise, counted_as_good
from edge_ad.gaussian.view import Features, FitSettings, ViewFit, fit_view

Floats = NDArray[np.float64]


def view_scales(views: Sequence[ViewFit]) -> list[float]:
    """What each view's score is divided by: its median out-of-sample score where sums of distances of
    several views compete; 1 where it is alone, or has been put on the scale of good parts."""
    if len(views) == 1 or views[0].local is not None:
        return [1.0] * len(views)
    return [float(np.median(view.outside)) for view in views]


def scaled_scores(views: Sequence[ViewFit]) -> Floats:
    """Out-of-sample scores [n, V] of the fitted parts on one scale; a part's score is the largest."""
    scales = view_scales(views)
    return np.stack([view.outside / scale for view, scale in zip(views, scales, strict=True)], axis=1)


@dataclass(frozen=True, eq=False)
class Suspects:
    """out: [n], the parts that are separated. parts: those, the most unusual first, by a fit without
    them; found: the same with their gaps."""

    out: NDArray[np.bool_]
    parts: list[Score]
    found: dict[str, Suspect]
    gap: float
    expected: float


def find_suspects(
    job: Job,
    parts: Sequence[Part],
    features: Sequence[Features],
    views: Sequence[ViewFit],
    settings: FitSettings,
    tell: Tell,
) -> Suspects:
    """Screen the parts of a fit without replicates."""
    by_view = scaled_scores(views)
    done = 0

    def without(out: NDArray[np.bool_]) -> Floats:
        nonlocal by_view, done
        tell("screening", done, ROUNDS)
        done = min(done + 1, ROUNDS)
        fits = [fit_view(of_view.take(~out), settings) for of_view in features]
        by_view = np.empty((len(out), len(fits)))
        by_view[~out] = scaled_scores(fits)
        for i, (fitted, scale) in enumerate(zip(fits, view_scales(fits), strict=True)):
            by_view[out, i] = fitted.score(features[i].take(out)).scores / scale
        return np.asarray(by_view.max(axis=1))

    scores = np.asarray(by_view.max(axis=1))
    try:
        found = find_outliers(scores, without)
    except CheckFailed:  # what is left without some parts cannot be fitted: nothing to judge them by
        found = separate(scores)
    tell("screening", ROUNDS, ROUNDS)
    return _suspects(job, parts, found, by_view.argmax(axis=1))


def _suspects(job: Job, parts: Sequence[Part], found: Separation, view: NDArray[np.int64]) -> Suspects:
    gap = gaps(found.scores)
    order = np.argsort(-found.scores, kind="stable")
    places = [int(i) for i in order if found.out[i]]
    return Suspects(
        out=found.out,
        parts=[Score(parts[i], float(found.scores[i]), job.views[view[i]].name) for i in places],
        found={parts[i].id: Suspect(float(found.scores[i]), float(gap[i])) for i in places},
        gap=found.gap,
        expected=found.expected,
    )


def screening(job: Job, suspects: Suspects, promise: Promise) -> Screening:
    """What the manifest says of it."""
    dropped = job.screened + (len(suspects.parts) if job.screen == "drop" else 0)
    return Screening(
        mode=job.screen,
        suspects=suspects.found,
        gap=suspects.gap,
        expected=suspects.expected,
        dropped=dropped,
        as_good=counted_as_good(promise, dropped) if dropped else None,
    )
