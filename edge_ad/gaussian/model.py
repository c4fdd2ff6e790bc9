"""A Gaussian of good parts as mean and whitening factor: d2 = |W (x - mu)|^2, never negative.

Without a reduction W is the upper-triangular factor of the precision, P = W^T W. With PCA or NPCA
(axes V) W is the k x d upper-trapezoidal QR factor of L^T V^T, L L^T the precision in the subspace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.moments import Moments
from edge_ad.gaussian.shrinkage import ledoit_wolf
from edge_ad.gaussian.subspace import Reduction, basis

NONE = Reduction()


class Level(Protocol):
    """Where a level's features lie in the backbone's vector: [offset, offset + dim)."""

    @property
    def name(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def dim(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """mean: float64 [d]; whitening: float64 [k, d], upper trapezoidal, k <= d; n: parts fitted on.

    shrinkage and condition number are of the k x k covariance that W whitens.
    """

    mean: NDArray[np.float64]
    whitening: NDArray[np.float64]
    shrinkage: float
    condition: float
    n: int

    def d2(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Squared Mahalanobis distance, [n], of x, [n, d]. NaN and Inf stay NaN or Inf."""
        z = (np.asarray(x, dtype=np.float64) - self.mean) @ self.whitening.T
        return np.asarray(np.einsum("ij,ij->i", z, z))


def fit_gaussian(
    m: Moments, reduction: Reduction = NONE, features: NDArray[Any] | None = None
) -> Gaussian:
    """Fit with Ledoit-Wolf shrinkage, in the subspace if there is a reduction.

    Shrinkage in a subspace needs sum |V^T (x - mu)|^4, which no rotation-invariant moment holds: with a
    reduction the features, [n, d], are needed a second time. (A stream too long to keep takes `basis`,
    merges the moments of its batches times V, and calls `fit_reduced`.)
    Raises CheckFailed when the covariance is singular.
    """
    if reduction.kind != "none":
        if features is None:
            raise ValueError("a fit with PCA or NPCA needs the features besides their moments")
        axes = basis(m, reduction)
        assert axes is not None
        return fit_reduced(m.mean, axes, Moments.of((features - m.mean) @ axes))
    covariance, rho = ledoit_wolf(m)
    condition = _condition(covariance, m.n)
    return Gaussian(m.mean, whiten(covariance), rho, condition, m.n)


def fit_reduced(mean: NDArray[np.float64], axes: NDArray[np.float64], projected: Moments) -> Gaussian:
    """Fit in the subspace of `axes` [d, k] from the moments of (x - mean) V."""
    covariance, rho = ledoit_wolf(projected)
    condition = _condition(covariance, projected.n)
    whitening = np.asarray(np.linalg.qr(whiten(covariance) @ axes.T, mode="r"))
    return Gaussian(mean, whitening, rho, condition, projected.n)


def fit_levels(
    features: NDArray[Any], levels: Sequence[Level], reduction: Reduction = NONE
) -> list[Gaussian]:
    """One Gaussian per level from features [n, D]. Errors name the level."""
    fitted = []
    for level in levels:
        x = np.asarray(features[:, level.offset : level.offset + level.dim], dtype=np.float64)
        try:
            fitted.append(fit_gaussian(Moments.of(x), reduction, x))
        except CheckFailed as error:
            raise CheckFailed(f"level {level.name}: {error}") from error
    return fitted


def whiten(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper-triangular W [d, d] with W^T W = covariance^-1. LinAlgError unless positive definite."""
    # Reversing rows and columns turns NumPy's lower Cholesky factor into an upper one, U U^T =
    # covariance, and then W = U^-1 without ever forming the precision.
    upper = np.linalg.cholesky(covariance[::-1, ::-1])[::-1, ::-1]
    return np.triu(np.linalg.inv(upper))


def _condition(covariance: NDArray[np.float64], n: int) -> float:
    """Condition number of a covariance; CheckFailed when it is singular to working precision."""
    values = np.linalg.eigvalsh(covariance)
    smallest, largest = float(values[0]), float(values[-1])
    if largest <= 0.0:
        raise CheckFailed(
            f"the {n} good parts have identical features, so nothing can be fitted; "
            "give different pictures of good parts"
        )
    if smallest <= len(values) * np.finfo(np.float64).eps * largest:
        raise CheckFailed(
            f"the covariance of {n} good parts in {len(values)} features is singular (too few differ "
            "from each other); give more different pictures of good parts"
        )
    return largest / smallest
