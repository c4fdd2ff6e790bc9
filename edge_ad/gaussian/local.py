"""One Gaussian per position of a grid, given the part as a whole, and how unusual a position is.

    d2_p = |W_p (x_p - mu_p - B_p t)|^2,   z_p = (d_p - center_p) / spread_p

and by itself, with a whitening factor M_p of its own: |M_p (x_p - mu_p)|^2, normalised the same way.

t are the part's regressors (see `context`), W_p whitens what they leave of x_p, with shrinkage for each
position towards a sphere and towards its neighbourhood (see `sharing`). (Defard et al., 2020, "PaDiM",
fit x_p alone. Given the part as a whole the same features separate good from defective parts better,
because what all positions have in common is no news.) center and spread are mean and deviation of d_p of
good parts that were left out, averaged over neighbours, so that a restless position needs more to stand
out.

A large defect is in t too, and so disturbs what is expected elsewhere: given the whole, parts are judged
better and defects located worse than by themselves. So the score takes z given the whole, and the map
the smaller of the two z. (Development data: image AUROC 0.983 given the whole, 0.959 by itself; AUPRO
0.67 and 0.77, of the smaller 0.76.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.context import (
    MOST,
    Context,
    Grid,
    LocalFeatures,
    coarse_view,
    fit_context,
)
from edge_ad.gaussian.left_out import Shrunk, left_out_distances
from edge_ad.gaussian.sharing import NOTHING, neighbourhood, smooth, target_weights

MIN_PARTS = 6
BLOCK = 32  # positions at a time, at most
# Numbers of a float64 copy of the features of all parts at some positions: memory does not grow with n.
BLOCK_SIZE = 1 << 21
# Variance that every position has at least, as a share of what the median position has: one that never
# changed in the good parts (a black background) is then sensitive, not infinitely so.
FLOOR = 0.01
# The same for the spread of its distance, as a share of the median position's: what is divided by.
SPREAD_FLOOR = 0.1

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LocalGaussian:
    """The Gaussians of P = rows x columns positions in d dimensions; all arrays float64.

    context_mean: [m d] and context: [q, m d] give t = context @ (coarse view - context_mean), q may be
    0. mean: [P, d]; coefficients: [P, d, q]; whitening, alone: [P, d, d], upper triangular, W and M;
    center, spread: [2, P], of d of a part that was not fitted, given the whole and by itself;
    shrinkage, shared: weights of the sphere and of the neighbourhood in W.
    """

    grid: Grid
    context_mean: Floats
    context: Floats
    mean: Floats
    coefficients: Floats
    whitening: Floats
    alone: Floats
    center: Floats
    spread: Floats
    shrinkage: float
    shared: float
    n: int

    def d2(self, local: LocalFeatures) -> Floats:
        """Squared distances [n, 2, P] of local features [n, P, d], given the whole and by itself. NaN
        and Inf stay so."""
        t = (coarse_view(local, self.grid) - self.context_mean) @ self.context.T
        result = np.empty((len(local), 2, local.shape[1]))
        for block in _blocks(local.shape):
            x = local[:, block].transpose(1, 0, 2).astype(np.float64) - self.mean[block, None]
            z = x @ self.alone[block].transpose(0, 2, 1)
            result[:, 1, block] = np.einsum("pnd,pnd->np", z, z)
            x -= t @ self.coefficients[block].transpose(0, 2, 1)
            z = x @ self.whitening[block].transpose(0, 2, 1)
            result[:, 0, block] = np.einsum("pnd,pnd->np", z, z)
        return result

    def z(self, d: NDArray[Any]) -> NDArray[Any]:
        """Normalised distances [..., 2, P] of distances d (not squared)."""
        return np.asarray((d - self.center) / self.spread)


def fit_local(local: LocalFeatures, grid: Grid, regressors: int = MOST) -> tuple[LocalGaussian, Floats]:
    """Fit on local features [n, P, d], with at most so many regressors; also z [n, P] of every part,
    given the whole, by the fit of the others.

    Left out, in closed form: the part's share in mean, regression, covariance, neighbourhood (nearly,
    see `left_out`) and spread. The weights of both targets and the directions of the regressors are held
    fixed.
    Raises CheckFailed with fewer than 6 parts, where all parts are the same or features are not finite.
    """
    n, positions, _ = local.shape
    if positions != grid[0] * grid[1]:
        raise ValueError(f"{positions} positions for a grid of {grid[0]} x {grid[1]}")
    if n < MIN_PARTS:
        raise CheckFailed(f"{n} good parts are too few for local Gaussians; give at least {MIN_PARTS}")
    largest = _largest(local)
    context = fit_context(local, grid, regressors)
    nothing = Context(context.mean, context.axes[:0], context.basis[:, :0])
    given, alone = (_whiten_positions(local, grid, one, largest) for one in (context, nothing))
    outside = np.stack([given.outside, alone.outside])
    center, spread = outside.mean(axis=1), outside.std(axis=1)
    least = np.array([[SPREAD_FLOOR * math.sqrt(_typical(one**2))] for one in spread])
    fitted = LocalGaussian(
        grid=grid,
        context_mean=context.mean,
        context=context.axes,
        mean=given.mean,
        coefficients=given.coefficients,
        whitening=given.whitening,
        alone=alone.whitening,
        center=smooth(center, grid),
        spread=np.maximum(smooth(spread, grid), least),
        shrinkage=given.shrinkage,
        shared=given.shared,
        n=n,
    )
    return fitted, _normalise_outside(outside[0], float(least[0, 0]), grid)


def _largest(local: LocalFeatures) -> float:
    """The largest absolute value of [n, P, d]; CheckFailed where one is not finite."""
    found = [float(np.abs(local[i : i + 1]).max()) for i in range(len(local))]
    if not math.isfinite(sum(found)):  # NaN is neither hidden by a maximum of an array nor by a sum
        raise CheckFailed("local features of good parts are not finite; drop the parts that cause it")
    return max(found)


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Positions of [n, P, d] that fit into memory together."""
    n, positions, d = shape
    step = max(1, min(BLOCK, BLOCK_SIZE // max(1, n * d)))
    for start in range(0, positions, step):
        yield slice(start, min(start + step, positions))


@dataclass(frozen=True, slots=True, eq=False)
class _Positions:
    """All positions given q regressors: mean [P, d], coefficients [P, d, q], whitening [P, d, d],
    weights of both targets; outside: [n, P], distances of parts left out."""

    mean: Floats
    coefficients: Floats
    whitening: Floats
    shrinkage: float
    shared: float
    outside: Floats


def _whiten_positions(local: LocalFeatures, grid: Grid, context: Context, largest: float) -> _Positions:
    """Fit all positions of [n, P, d] (`largest`: of its absolute values) given the regressors.

    Residuals are made twice, block by block: targets need every position's covariance first, and
    [P, n, d] of them would not fit in memory.
    """
    n, positions, d = local.shape
    degrees = n - 1.0 - len(context.axes)
    # A residual has 1 - h times the variance of the noise in it.
    keep = np.maximum(1.0 - context.leverage, 1e-6)
    mean, coefficients = np.empty((positions, d)), np.empty((positions, d, len(context.axes)))
    covariance, fourth = np.empty((positions, d, d)), np.empty(positions)
    for block in _blocks(local.shape):
        mean[block], slopes, residual = _regress(local[:, block], context)
        coefficients[block] = slopes.transpose(0, 2, 1)
        covariance[block] = residual.transpose(0, 2, 1) @ residual / degrees
        fourth[block] = ((residual**2).sum(axis=2) ** 2 / keep**2).mean(axis=1)
    around, factor = neighbourhood(covariance, grid)
    noise = np.maximum(fourth - (covariance**2).sum(axis=(1, 2)), 0.0) / degrees
    sphere, shared = target_weights(covariance, around, noise, d / (d + n))
    floor = FLOOR * _typical_variance(covariance, n, largest)
    shrunk = Shrunk(grid, covariance, around, factor, sphere, shared, floor, degrees)
    whitening = np.empty((positions, d, d))
    for block in _blocks(local.shape):
        whitening[block] = whiten_all(shrunk.matrix(block))

    def residuals(parts: slice) -> Floats:
        explained = context.basis[parts] @ coefficients.transpose(0, 2, 1)  # [P, k, d]
        return np.asarray(local[parts] - mean - explained.transpose(1, 0, 2))

    outside = left_out_distances(residuals, keep, shrunk, whitening)
    return _Positions(mean, coefficients, whitening, sphere, shared, outside)


def _typical_variance(covariance: Floats, n: int, largest: float) -> float:
    """What the regressors leave of a feature's variance at the median position."""
    typical = _typical(np.einsum("pii->p", covariance) / covariance.shape[1])
    if typical <= (1e-6 * largest) ** 2:
        raise CheckFailed(
            f"the {n} good parts have identical features, so nothing can be fitted; "
            "give different pictures of good parts"
        )
    return typical


def _regress(local: NDArray[Any], context: Context) -> tuple[Floats, Floats, Floats]:
    """Of local [n, p, d]: mean [p, d], slopes [p, q, d] and residuals [p, n, d]."""
    x = local.transpose(1, 0, 2).astype(np.float64)
    mean = x.mean(axis=1)
    x -= mean[:, None]
    slopes = context.basis.T @ x
    x -= context.basis @ slopes
    return mean, slopes, x


def whiten_all(covariance: Floats) -> Floats:
    """Upper-triangular W [p, d, d] with W^T W = covariance^-1, for each of p."""
    upper = np.linalg.cholesky(covariance[:, ::-1, ::-1])[:, ::-1, ::-1]
    return np.asarray(np.triu(np.linalg.inv(upper)))


def _typical(variances: Floats) -> float:
    """Median of variances [P], without those that are nothing but rounding."""
    return float(np.median(variances[variances >= NOTHING * variances.max()]))


def _normalise_outside(outside: Floats, least: float, grid: Grid) -> Floats:
    """z [n, P] of distances [n, P], each part left out of spread as well.

    Not of center: what the mean of the others loses with a part they gain by not being scored with it,
    for the mean of squared distances by a covariance of their own is the same for any parts. By as much
    their spread grows.
    """
    n = len(outside)
    center = outside.mean(axis=0)
    deviation = outside - center
    # Without one of n values the sum of squares about the mean falls by n / (n - 1) of its own.
    squares = (deviation**2).sum(axis=0) - deviation**2 * n / (n - 1)
    others = np.sqrt(np.maximum(squares / (n - 1), 0.0))
    left = np.maximum(center - deviation / (n - 1), 0.5 * center)
    others *= np.divide(center, left, out=np.ones_like(left), where=left > 0.0)
    return np.asarray((outside - smooth(center, grid)) / np.maximum(smooth(others, grid), least))
