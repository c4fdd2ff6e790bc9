"""Where a value lies among those of the good parts that a bundle was calibrated with."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import NormalDist

MOST = 250  # values of a reference; more are thinned out evenly

_NORMAL = NormalDist()


def thinned(values: Sequence[float]) -> list[float]:
    """In order, at most MOST of them, smallest and largest among these, to 6 digits."""
    ordered = sorted(map(_rounded, values))
    last = len(ordered) - 1
    if last < MOST:
        return ordered
    return [ordered[round(i * last / (MOST - 1))] for i in range(MOST)]


class Reference:
    """Values of good parts, in order; at least one.

    `z` is distribution-free: a further good part's rank among n others is each of 0 to n with equal
    probability, whatever their distribution. It is bounded, so that one part that is far out, a bad one
    say, weighs no more than the best of the good ones.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self.parts = len(values)
        self._values = values
        self._normal = [
            _NORMAL.inv_cdf((half / 2 + 0.5) / (self.parts + 1)) for half in range(2 * self.parts + 1)
        ]

    def z(self, value: float) -> float:
        """The normal score of the value's rank, the middle one among equals."""
        value = _rounded(value)  # as these are: a statistic may hardly vary
        return self._normal[bisect_left(self._values, value) + bisect_right(self._values, value)]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
