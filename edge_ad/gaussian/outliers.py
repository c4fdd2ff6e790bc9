"""Which parts of a calibration set are separated from the rest: defects among the good ones.

A part's gap is how many times as far above the median score it lies as the upper quartile does; median
and quartile move little while fewer than a quarter of the parts are bad. Good parts are taken to have at
most the tail of a Pareto law of shape 1/5 above the upper quartile (Student's t with five degrees of
freedom has it), so of n good parts

    n / 2 (1 + (2^(1/5) - 1) gap)^-5

lie beyond a gap. Parts are separated where they are at least SURPLUS times as many as that; those so
far out that ten times fewer are expected there do not count for the ones nearer by. So one part alone
must lie far out, where many do less is enough. A tail that thins out as a heavy tail does is no gap,
however long it is. (Dropping a fixed share of the most unusual parts instead lowers the threshold of a
clean set: without the upper 2 % a target of 1 % false rejects comes out as 2.7 %.)

Bad parts of one kind hide each other: each is measured by a fit that has seen the others. So the fit is
repeated without those that are separated, until they stay the same; and it starts from one without the
highest scores (the concentration step of Rousseeuw and Van Driessen, 1999, "A fast algorithm for the
minimum covariance determinant estimator").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHAPE = 0.2  # of the heaviest tail that good parts are taken to have
SURPLUS = 2.0
WINDOW = 10.0
# Where the highest scores were left out of a fit together, each is further from it than alone, good or
# not: what only such a fit shows must be a larger surplus.
HIDDEN = 10.0
MOST = 0.25  # of the parts, at most, are separated: more are no minority
TRIM = 0.15  # share of the highest scores that the first fit is repeated without
ROUNDS = 6
# Few parts give the quartile's distance badly: it is taken (1 + FEW / n) times as large.
FEW = 40.0

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """out: [n], the parts that are separated; scores: [n], of all parts, by the fit that this was judged
    by; gap: that of the lowest part in `out`; expected: how many good parts lie beyond it. Both are 0
    where none is separated."""

    out: Mask
    scores: Floats
    gap: float
    expected: float


def gaps(scores: Floats) -> Floats:
    """Distance above the median of each of [n], in units of the upper quartile's."""
    median, upper = np.quantile(scores, [0.5, 0.75])
    unit = max(float(upper - median), 1e-12 * max(abs(float(median)), 1e-300))
    return np.asarray((scores - median) / (unit * (1.0 + FEW / len(scores))))


def beyond(gap: Floats, n: int) -> Floats:
    """How many of n good parts lie beyond a gap."""
    return np.asarray(n / 2.0 * (1.0 + (2.0**SHAPE - 1.0) * np.maximum(gap, 0.0)) ** (-1.0 / SHAPE))


def separate(scores: Floats, surplus: float = SURPLUS) -> Separation:
    """Judge out-of-sample scores [n]: the largest number of highest scores that is a surplus."""
    n = len(scores)
    gap = gaps(scores)
    order = np.argsort(-gap, kind="stable")
    most = int(MOST * n)
    expected = beyond(gap[order[:most]], n)
    far = np.searchsorted(expected, expected / WINDOW)  # how many lie further out by that much
    enough = np.flatnonzero(np.arange(1, most + 1) - far >= surplus * expected)
    out = np.zeros(n, dtype=np.bool_)
    if not len(enough):
        return Separation(out, scores, 0.0, 0.0)
    last = int(enough[-1])
    out[order[: last + 1]] = True
    return Separation(out, scores, float(gap[order[last]]), float(expected[last]))


def find_outliers(scores: Floats, without: Callable[[Mask], Floats]) -> Separation:
    """Screen n parts. scores: [n], each part by the fit of all others; without(mask): [n], by a fit on
    the parts that are not in the mask, those that are in it each by that of the others.

    A separated part is separated by a fit that has seen none of them.
    """
    n = len(scores)
    trimmed = np.zeros(n, dtype=np.bool_)
    trimmed[np.argsort(-scores, kind="stable")[: int(TRIM * n)]] = True
    found = separate(scores)
    if trimmed.any():
        hidden = separate(without(trimmed), HIDDEN)
        found = hidden if hidden.out.sum() > found.out.sum() else found
    judged = found
    for _ in range(ROUNDS):
        found, judged = judged, separate(without(judged.out) if judged.out.any() else scores)
        if np.array_equal(judged.out, found.out):
            return judged
    return _without(judged, ~found.out)


def _without(judged: Separation, spared: Mask) -> Separation:
    """The separation less some parts: where rounds disagree, the parts that both name."""
    out = judged.out & ~spared
    if not out.any():
        return Separation(out, judged.scores, 0.0, 0.0)
    gap = gaps(judged.scores)[out].min()
    return Separation(out, judged.scores, float(gap), float(beyond(np.asarray(gap), len(out))))
