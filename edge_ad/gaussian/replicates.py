"""A fit on parts and on slightly altered replicates of them, for what a line varies and few parts show.

Replicates are no parts: they follow from one. So a part and its replicates are on the same side of
every split, the threshold comes from parts as they were seen, and n is the number of parts. Leaving out
several rows at once has no closed form here: the whole fit is repeated on folds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_ad.gaussian.context import LocalFeatures
from edge_ad.gaussian.view import Features, FitSettings, ViewFit, fit_view


def fit_with_replicates(
    parts: Features,
    replicates: Features,
    settings: FitSettings,
    seed: int = 0,
    sampled: NDArray[np.bool_] | None = None,
) -> ViewFit:
    """Fit on n parts and r n replicates (those of part i at i, n + i, ...); `outside` and `distances`
    are of the parts, `sampled` [n] those that scales are taken from, see `fit_view`.

    Raises CheckFailed as `fit_view` does, ValueError when the replicates are no multiple of the parts.
    """
    n = len(parts)
    if not n or len(replicates) % n:
        raise ValueError(f"{len(replicates)} replicates of {n} parts")
    everything = _joined(parts, replicates)
    part_of = np.arange(len(everything)) % n
    counted = None if sampled is None else sampled[part_of]
    folds = min(settings.folds, n)
    fold = np.empty(n, np.int64)
    fold[np.random.default_rng(seed).permutation(n)] = np.arange(n) % folds
    outside, distances = np.empty(n), np.empty((n, len(settings.levels)))
    for one in range(folds):
        others = fold[part_of] != one
        fitted = fit_view(
            everything.take(others), settings, None if counted is None else counted[others]
        )
        scored = fitted.score(parts.take(fold == one))
        outside[fold == one], distances[fold == one] = scored.scores, scored.distances
    whole = fit_view(everything, settings, counted)
    method = f"crossfit-{folds}, with replicates"
    return replace(whole, outside=outside, distances=distances, method=method)


def _joined(a: Features, b: Features) -> Features:
    local: LocalFeatures | None = None
    if isinstance(a.local, np.ndarray) and isinstance(b.local, np.ndarray):
        local = np.concatenate([a.local, b.local])
    elif a.local is not None and not isinstance(a.local, np.ndarray):
        local = a.local.joined(b.local)
    return Features(np.concatenate([a.pooled, b.pooled]), local)
