"""AUROC and rates, each with the interval that says how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.gaussian.threshold import beta_quantile

Interval = tuple[float, float]
LOW, HIGH = 0.025, 0.975
Z = 1.959963984540054  # the normal law's 97.5 % quantile


def auroc(good: NDArray[Any], bad: NDArray[Any]) -> float:
    """Probability that a bad part's score exceeds a good one's, ties counting one half (exact)."""
    if not len(good) or not len(bad):
        raise ValueError("AUROC needs at least one good and one bad score")
    ordered = np.sort(np.asarray(good, dtype=np.float64))
    bad = np.asarray(bad, dtype=np.float64)
    # Twice the Mann-Whitney count is an integer, so the sum is exact.
    twice = np.searchsorted(ordered, bad, "left") + np.searchsorted(ordered, bad, "right")
    return int(twice.sum()) / (2 * len(ordered) * len(bad))


def auroc_interval(value: float, n_good: int, n_bad: int) -> Interval:
    """95 % interval of an AUROC by its score method (Newcombe 2006, method 5); never degenerate at 1."""

    def distance(theta: float) -> float:
        n = (n_good + n_bad) / 2 - 1
        tail = n * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        variance = theta * (1 - theta) * (1 + tail) / (n_good * n_bad)
        return abs(theta - value) - Z * math.sqrt(variance)

    return _root(distance, 0.0, value), _root(distance, 1.0, value)


def rate_interval(count: int, n: int) -> Interval:
    """95 % interval of a rate of which `count` in n were seen (Clopper and Pearson, 1934)."""
    low = beta_quantile(LOW, count, n + 1 - count) if count else 0.0
    high = beta_quantile(HIGH, count + 1, n - count) if count < n else 1.0
    return low, high


def lowest_threshold(good: NDArray[Any], rate: float) -> float:
    """The lowest score of a good part that at most the share `rate` of `good` exceeds."""
    ordered = np.sort(np.asarray(good, dtype=np.float64))
    # The 1e-9 undoes the rounding of, say, 100 * 0.29.
    return float(ordered[len(ordered) - 1 - math.floor(len(ordered) * rate + 1e-9)])


def predicted_interval(parts: int, index: int, n: int) -> Interval:
    """The central 95 % of false-reject rates that n new good parts will show, by the promise alone.

    A threshold at the index-th smallest of `parts` scores has a rate of law Beta(a, index),
    a = parts + 1 - index, so the count in n is beta-binomial: both samples' chance is in it.
    """
    a, b = parts + 1 - index, index
    counts = np.arange(n + 1)
    log_pmf = np.array(
        [_log_binomial(n, k) + _log_beta(k + a, n - k + b) - _log_beta(a, b) for k in counts.tolist()]
    )
    below = np.cumsum(np.exp(log_pmf))
    low = int(np.searchsorted(below, LOW, "right"))
    high = min(int(np.searchsorted(below, HIGH, "left")), n)
    return low / n, high / n


def _root(distance: Callable[[float], float], far: float, near: float) -> float:
    """Where `distance`, positive at `far` and not at `near`, changes sign."""
    if distance(far) <= 0:
        return far
    for _ in range(60):
        middle = 0.5 * (far + near)
        if distance(middle) > 0:
            far = middle
        else:
            near = middle
    return near


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
