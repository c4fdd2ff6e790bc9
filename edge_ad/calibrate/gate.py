"""Whether an engine judges good parts as the reference does, each by Gaussians of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.errors import CheckFailed

LEAST_CORRELATION = 0.99  # Spearman's, of the two engines' scores
MOST_DIFFERENT = 0.01  # share of the parts that one rejects and the other does not


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """An engine's scores [n] of the parts of the sample, each by a fit without it, and its threshold."""

    engine: EngineIdentity
    scores: NDArray[np.float64]
    threshold: float


def check_alike(ours: Judged, reference: Judged) -> None:
    """Compare what two engines say of the same parts. Raises CheckFailed where their order or their
    verdicts differ too much: the engine's features are not those of the network then, which it may
    compute too coarsely."""
    correlation = rank_correlation(ours.scores, reference.scores)
    rejected, others = (one.scores > one.threshold for one in (ours, reference))
    different = float(np.mean(rejected != others))
    if correlation >= LEAST_CORRELATION and different <= MOST_DIFFERENT:
        return
    name, other = ours.engine, reference.engine
    raise CheckFailed(
        f"engine {name.key} ({name.runtime}, {name.device}) does not judge like {other.key}: Spearman "
        f"correlation of {len(ours.scores)} good parts' scores {correlation:.4f} (at least "
        f"{LEAST_CORRELATION:g}), verdicts differ on {different:.2%} (at most {MOST_DIFFERENT:.0%}); "
        "give another engine.precision or another version of its runtime"
    )


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's, ties by their mean rank; NaN where all of one are equal."""
    (x, y) = (ranks - ranks.mean() for ranks in map(_ranks, (a, b)))
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0.0 else math.nan


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], np.float64)
