"""Whether an engine judges good parts as the reference does, each by Gaussians of its own.

With few parts the highest score is the threshold, and no part is above that in either engine. So
verdicts are compared by thresholds that are set without the part, too, each in both engines: the part
that sets the threshold is above the one that the others set. At a rate of 1 % that is one part of each
engine with 20 to 198 parts, and three from 299 on. Both engines must mean the same ones, near things
aside; below 200 parts one other is more than 1 % in all. Engines that have nothing in common pass that
with a chance of 1 in n. Parts that are judged otherwise elsewhere show in the order of the scores alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.errors import CheckFailed
from edge_ad.reference import REFERENCE_TOLERANCE

LEAST_CORRELATION = 0.99  # Spearman's, of the two engines' scores
MOST_DIFFERENT = 0.01  # share of the parts that one rejects and the other does not
# A near thing: in how far the part is above or below, in thresholds, the engines differ by no more than
# a reference part may move under another runtime. Which of two alike parts is the highest is chance.
# float16 moves the shipped network's by 0.7 % at most (calibration/studies/gate.py).
NEAR = REFERENCE_TOLERANCE


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
    different = different_verdicts(ours, reference)
    if correlation >= LEAST_CORRELATION and different <= MOST_DIFFERENT:
        return
    name, other = ours.engine, reference.engine
    raise CheckFailed(
        f"engine {name.key} ({name.runtime}, {name.device}) does not judge like {other.key}: Spearman "
        f"correlation of {len(ours.scores)} good parts' scores {correlation:.4f} (at least "
        f"{LEAST_CORRELATION:g}), verdicts differ on {different:.2%} (at most {MOST_DIFFERENT:.0%}); "
        "give another engine.precision or another version of its runtime"
    )


def different_verdicts(ours: Judged, reference: Judged) -> float:
    """The share of parts that one engine rejects and the other does not: by their thresholds, or by
    thresholds set without the part, near things left out, if that is more."""
    rejected, others = (one.scores > one.threshold for one in (ours, reference))
    excess, other = without_the_part(ours), without_the_part(reference)
    clearly = ((excess > 0.0) != (other > 0.0)) & (np.abs(excess - other) > NEAR)
    return max(float(np.mean(rejected != others)), float(np.mean(clearly)))


def without_the_part(judged: Judged) -> NDArray[np.float64]:
    """How far each part [n] is above the threshold that the others set, with as many of them above it,
    in units of the engine's threshold. A threshold that is none of the scores stays."""
    scores, threshold = judged.scores, judged.threshold
    below = scores[scores < threshold]
    if not len(below) or not (scores == threshold).any():
        return (scores - threshold) / threshold
    return (scores - np.where(scores < threshold, threshold, below.max())) / threshold


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's, ties by their mean rank; NaN where all of one are equal."""
    (x, y) = (ranks - ranks.mean() for ranks in map(_ranks, (a, b)))
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0.0 else math.nan


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], np.float64)
