"""Parts among the good ones that are separated from the rest, over all tiles of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle import Screening, Suspect, all_tiles
from edge_ad.calibrate.job import Job, Part, Score
from edge_ad.calibrate.screen import Tell
from edge_ad.calibrate.stored import TileFeatures
from edge_ad.errors import CheckFailed
from edge_ad.gaussian.outliers import ROUNDS, Separation, find_outliers, gaps, separate
from edge_ad.gaussian.threshold import Promise, counted_as_good
from edge_ad.gaussian.view import FitSettings, fit_view

Floats = NDArray[np.float64]


def tile_scales(outside: Sequence[Floats], standard: bool) -> list[float]:
    """What each tile's score is divided by: the median of its out-of-sample scores [n] where sums of
    distances of several tiles compete; 1 where it is alone, or on the scale of good parts (`standard`).
    """
    if len(outside) == 1 or standard:
        return [1.0] * len(outside)
    return [float(np.median(scores)) for scores in outside]


def scaled_scores(outside: Sequence[Floats], scales: Sequence[float]) -> Floats:
    """Scores [n, T] of the parts on one scale; a part's score is the largest."""
    return np.stack([scores / scale for scores, scale in zip(outside, scales, strict=True)], axis=1)


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
    features: Sequence[TileFeatures],
    outside: Sequence[Floats],
    settings: Sequence[FitSettings],
    sampled: NDArray[np.bool_],
    tell: Tell,
) -> Suspects:
    """Screen the parts of a fit without replicates; outside: per tile the scores [n] of that fit.

    Those that are not in `sampled` [n] stay in every fit and are not judged: a person has declared them
    good.
    """
    standard = job.local is not None
    by_tile = scaled_scores(outside, tile_scales([one[sampled] for one in outside], standard))
    most, done = ROUNDS * len(features), 0

    def without(judged_out: NDArray[np.bool_]) -> Floats:
        nonlocal by_tile, done
        out = _among(sampled, judged_out)
        scored = np.empty((len(out), len(features)))
        fitted_scores = []
        for i, of_tile in enumerate(features):
            tell("screening", done, most)
            done = min(done + 1, most)
            fitted = fit_view(of_tile.take(~out).read(), settings[i], sampled[~out])
            fitted_scores.append(fitted.outside)
            scored[out, i] = fitted.score(of_tile.take(out).read()).scores
        scales = tile_scales([one[sampled[~out]] for one in fitted_scores], standard)
        scored[out] /= scales
        scored[~out] = scaled_scores(fitted_scores, scales)
        by_tile = scored
        return np.asarray(by_tile[sampled].max(axis=1))

    whole = by_tile
    scores = np.asarray(by_tile[sampled].max(axis=1))
    try:
        found = find_outliers(scores, without)
    except CheckFailed:  # what is left without some parts cannot be fitted: nothing to judge them by
        found, by_tile = separate(scores), whole
    tell("screening", most, most)
    judged = [part for part, one in zip(parts, sampled, strict=True) if one]
    suspects = _suspects(job, judged, found, by_tile[sampled].argmax(axis=1))
    return replace(suspects, out=_among(sampled, found.out))


def _among(sampled: NDArray[np.bool_], out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of the sampled parts as one of all [n]."""
    result = np.zeros(len(sampled), dtype=np.bool_)
    result[sampled] = out
    return result


def _suspects(job: Job, parts: Sequence[Part], found: Separation, tile: NDArray[np.int64]) -> Suspects:
    gap, tiles = gaps(found.scores), all_tiles(job.views)
    order = np.argsort(-found.scores, kind="stable")
    places = [int(i) for i in order if found.out[i]]
    return Suspects(
        out=found.out,
        parts=[
            Score(parts[i], float(found.scores[i]), tiles[tile[i]].view.name, tiles[tile[i]].place)
            for i in places
        ],
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
