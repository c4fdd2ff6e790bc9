"""Float64 moments of feature vectors that can be merged in any order.

Ledoit-Wolf needs the sum of |x - mu|^4 besides the scatter; shifting that sum to another mean needs the
sum of |x - mu|^2 (x - mu). With both, the moments of two sets give those of their union exactly: with
delta the way from the old mean to a new one (y = x - mu_old, x - mu_new = y - delta),

    scatter' = scatter + n delta delta^T
    third'   = third - tr(scatter) delta - 2 scatter delta - n |delta|^2 delta
    fourth'  = fourth - 4 third.delta + 4 delta^T scatter delta + 2 |delta|^2 tr(scatter) + n |delta|^4

The mean is kept as the unevaluated sum of two floats. A channel at 1e6 +- 1 would otherwise lose ten of
its sixteen digits in every difference of means, and the order of merging would show in the scatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Moments of n vectors of d features. Arrays belong to the object and are never written to.

    mean: [d], mean_rest: [d], what rounding took off the mean; scatter: [d, d], sum (x-mu)(x-mu)^T;
    third: [d], sum |x-mu|^2 (x-mu); fourth: sum |x-mu|^4. All float64.
    """

    n: int
    mean: Vector
    mean_rest: Vector
    scatter: Matrix
    third: Vector
    fourth: float

    @classmethod
    def empty(cls, d: int) -> Moments:
        """The moments of no vectors: the neutral element of `merge`."""
        return cls(0, np.zeros(d), np.zeros(d), np.zeros((d, d)), np.zeros(d), 0.0)

    @classmethod
    def of(cls, features: NDArray[Any]) -> Moments:
        """The moments of `features`, [n, d], any float type. CheckFailed when one is not finite."""
        x = finite(features)
        if not len(x):
            return cls.empty(x.shape[1])
        mean, rest, centred = centre(x)
        squares = np.einsum("ij,ij->i", centred, centred)
        return cls(
            len(x), mean, rest, centred.T @ centred, centred.T @ squares, float(squares @ squares)
        )

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.mean)

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets together."""
        if self.d != other.d:
            raise ValueError(f"moments of {self.d} and of {other.d} features cannot be merged")
        if not self.n or not other.n:
            return other if not self.n else self
        n = self.n + other.n
        # The leading parts of the means are close to each other or the rests do not matter: either way
        # this difference is as precise as the features.
        delta = (other.mean - self.mean) + (other.mean_rest - self.mean_rest)
        left = _shifted(self, delta * (other.n / n))
        right = _shifted(other, delta * (-self.n / n))
        mean, rest = _two_sum(self.mean, self.mean_rest + delta * (other.n / n))
        return Moments(n, mean, rest, left[0] + right[0], left[1] + right[1], float(left[2] + right[2]))


def merge_all(parts: list[Moments]) -> Moments:
    """The moments of all `parts` (at least one) together."""
    return reduce(Moments.merge, parts)


def finite(features: NDArray[Any]) -> Matrix:
    """`features` as float64 [n, d]. CheckFailed that names the first row with NaN or Inf."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or not x.shape[1]:
        raise ValueError(f"features have shape {x.shape}; expected [n, d] with d >= 1")
    good = np.isfinite(x).all(axis=1)
    if not good.all():
        row = int(np.argmin(good))
        raise CheckFailed(
            f"features of image {row} hold NaN or Inf ({int((~good).sum())} of {len(x)} images); "
            "drop these images or export the backbone again"
        )
    return x


def centre(x: Matrix) -> tuple[Vector, Vector, Matrix]:
    """Mean [d], what rounding took off it [d], and x minus both, for x float64 [n, d], n >= 1."""
    mean = x.mean(axis=0)
    centred = x - mean
    rest = centred.mean(axis=0)
    centred -= rest
    mean, rest = _two_sum(mean, rest)
    return mean, rest, centred


def _shifted(m: Moments, delta: Vector) -> tuple[Matrix, Vector, float]:
    """Scatter, third and fourth about mean + delta. Formulas: see the module."""
    along = m.scatter @ delta
    trace, length2 = float(np.trace(m.scatter)), float(delta @ delta)
    scatter = m.scatter + m.n * np.outer(delta, delta)
    third = m.third - trace * delta - 2.0 * along - m.n * length2 * delta
    fourth = (
        m.fourth
        - 4.0 * float(m.third @ delta)
        + 4.0 * float(delta @ along)
        + 2.0 * length2 * trace
        + m.n * length2 * length2
    )
    return scatter, third, fourth


def _two_sum(a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """a + b rounded, and the rounding error, exactly (Knuth 1969)."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)
