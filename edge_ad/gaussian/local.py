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
from edge_ad.gaussian.context import Context, Grid, coarse_view, fit_context
from edge_ad.gaussian.sharing import neighbourhood, smooth, target_weights

MIN_PARTS = 6
BLOCK = 32  # positions at a time: bounds float64 copies of features to 32 n d, beside a few [P, d, d]
# Variance that every position has at least, as a share of what the median position has: one that never
# changed in the good parts (a black background) is then sensitive, not infinitely so.
FLOOR = 0.01
# The same for the spread of its distance, as a share of the median position's: what is divided by.
SPREAD_FLOOR = 0.1
# A position with less than this share of the most restless one's variance never changed at all.
NOTHING = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LocalGaussian:
    """The Gaussians of P = rows x columns positions in d dimensions; all arrays float64.

    context_mean: [m d] and context: [q, m d] give t = context @ (coarse view - context_mean), q may be
    0. mean: [P, d]; coefficients: [P, d, q]; whitening, alone: [P, d, d], upper triangular, W and M;
    center, spread: [2, P], of d of a part that was not fitted, given the whole and by itself;
    shrinkage, shared: [P], weights of the sphere and of the neighbourhood in W.
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
    shrinkage: Floats
    shared: Floats
    n: int

    def d2(self, local: NDArray[Any]) -> Floats:
        """Squared distances [n, 2, P] of local features [n, P, d], given the whole and by itself. NaN
        and Inf stay so."""
        t = (coarse_view(local, self.grid) - self.context_mean) @ self.context.T
        result = np.empty((len(local), 2, local.shape[1]))
        for block in _blocks(local.shape[1]):
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


def fit_local(local: NDArray[Any], grid: Grid) -> tuple[LocalGaussian, Floats]:
    """Fit on local features [n, P, d]; also z [n, P] of every part, given the whole, by the fit of the
    others.

    Left out, in closed form: the part's share in mean, regression, covariance, center and spread. The
    weights of both targets, the shape of the neighbourhood and the directions of the regressors are held
    fixed.
    Raises CheckFailed with fewer than 6 parts, where all parts are the same or features are not finite.
    """
    n, positions, _ = local.shape
    if positions != grid[0] * grid[1]:
        raise ValueError(f"{positions} positions for a grid of {grid[0]} x {grid[1]}")
    if n < MIN_PARTS:
        raise CheckFailed(f"{n} good parts are too few for local Gaussians; give at least {MIN_PARTS}")
    if not all(np.isfinite(part).all() for part in local):
        raise CheckFailed("local features of good parts are not finite; drop the parts that cause it")
    context = fit_context(local, grid)
    nothing = Context(context.mean, context.axes[:0], context.basis[:, :0])
    given, alone = (_whiten_positions(local, grid, one) for one in (context, nothing))
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
    return fitted, _normalise_outside(outside[0], center[0], spread[0], float(least[0, 0]), grid)


def _blocks(positions: int) -> Iterator[slice]:
    for start in range(0, positions, BLOCK):
        yield slice(start, min(start + BLOCK, positions))


@dataclass(frozen=True, slots=True, eq=False)
class _Positions:
    """All positions given q regressors: mean [P, d], coefficients [P, d, q], whitening [P, d, d],
    shrinkage and shared [P]; outside: [n, P], distances of parts left out."""

    mean: Floats
    coefficients: Floats
    whitening: Floats
    shrinkage: Floats
    shared: Floats
    outside: Floats


def _whiten_positions(local: NDArray[Any], grid: Grid, context: Context) -> _Positions:
    """Fit all positions of [n, P, d] given the regressors. Residuals are made twice, block by block:
    targets need every position's covariance first, and [P, n, d] of them would not fit in memory."""
    n, positions, d = local.shape
    degrees = n - 1.0 - len(context.axes)
    # A residual has 1 - h times the variance of the noise in it.
    keep = np.maximum(1.0 - context.leverage, 1e-6)
    mean, coefficients = np.empty((positions, d)), np.empty((positions, d, len(context.axes)))
    covariance, fourth = np.empty((positions, d, d)), np.empty(positions)
    for block in _blocks(positions):
        mean[block], slopes, residual = _regress(local[:, block], context)
        coefficients[block] = slopes.transpose(0, 2, 1)
        covariance[block] = residual.transpose(0, 2, 1) @ residual / degrees
        fourth[block] = ((residual**2).sum(axis=2) ** 2 / keep**2).mean(axis=1)
    around = neighbourhood(covariance, grid)
    noise = np.maximum(fourth - (covariance**2).sum(axis=(1, 2)), 0.0) / degrees
    shrinkage, shared = target_weights(covariance, around, noise, d / (d + n))
    floor = FLOOR * _typical_variance(covariance, local)
    whitening, outside = np.empty((positions, d, d)), np.empty((n, positions))
    for block in _blocks(positions):
        residual = local[:, block].transpose(1, 0, 2) - mean[block, None]
        residual -= context.basis @ coefficients[block].transpose(0, 2, 1)
        targets = _Targets(shrinkage[block], shared[block], around[block], floor)
        whitening[block], d2 = _fit_positions(residual, covariance[block], keep, degrees, targets)
        outside[:, block] = np.sqrt(d2).T
    return _Positions(mean, coefficients, whitening, shrinkage, shared, outside)


def _typical_variance(covariance: Floats, local: NDArray[Any]) -> float:
    """What the regressors leave of a feature's variance at the median position."""
    typical = _typical(np.einsum("pii->p", covariance) / covariance.shape[1])
    scale = float(np.abs(local).max())
    if typical <= (1e-6 * scale) ** 2:
        raise CheckFailed(
            f"the {len(local)} good parts have identical features, so nothing can be fitted; "
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


@dataclass(frozen=True, slots=True, eq=False)
class _Targets:
    """What p covariances are shrunk towards: weights [p] of the sphere and of `around` [p, d, d], and
    the variance that every feature has at least."""

    sphere: Floats
    shared: Floats
    around: Floats
    floor: float


def _fit_positions(
    residual: Floats, covariance: Floats, keep: Floats, degrees: float, to: _Targets
) -> tuple[Floats, Floats]:
    """Whitening [p, d, d] and d2 [p, n] of each part by the others, from residuals [p, n, d].

    With e a part's residual, 1 - h = `keep` and R = r S the scatter of r degrees of freedom, the others'
    scatter is R - e e^T / (1 - h) and the part's residual by them e / (1 - h). Sherman and Morrison's
    formula gives d2 = q / (1 - c q) / (1 - h)^2 with q = e^T A^-1 e, A the shrunk R / (r - 1) and
    c = own / ((r - 1) (1 - h)), own the weight of S itself.
    """
    d = residual.shape[2]
    scale = np.trace(covariance, axis1=1, axis2=2) / d
    own = 1.0 - to.sphere - to.shared
    given = to.shared[:, None, None] * to.around
    given += (to.sphere * scale + to.floor)[:, None, None] * np.eye(d)
    weight = own[:, None, None]
    whitening = whiten_all(weight * covariance + given)
    of_others = weight * (degrees / (degrees - 1.0)) * covariance + given
    z = residual @ whiten_all(of_others).transpose(0, 2, 1)
    q = np.einsum("pnd,pnd->pn", z, z)
    rest = 1.0 - own[:, None] * q / ((degrees - 1.0) * keep)
    d2 = q / np.maximum(rest, 1e-9) / keep**2
    # Both targets scale with the others' mean variance; to first order in that.
    squared = np.einsum("pnd,pnd->pn", residual, residual) / keep
    others = (d * degrees * scale[:, None] - squared) / (d * (degrees - 1.0))
    share = (to.sphere + to.shared) / np.maximum(scale + to.floor, 1e-300)
    return whitening, d2 * np.exp(share[:, None] * (scale[:, None] - others))


def whiten_all(covariance: Floats) -> Floats:
    """Upper-triangular W [p, d, d] with W^T W = covariance^-1, for each of p."""
    upper = np.linalg.cholesky(covariance[:, ::-1, ::-1])[:, ::-1, ::-1]
    return np.asarray(np.triu(np.linalg.inv(upper)))


def _typical(variances: Floats) -> float:
    """Median of variances [P], without those that are nothing but rounding."""
    return float(np.median(variances[variances >= NOTHING * variances.max()]))


def _normalise_outside(
    outside: Floats, center: Floats, spread: Floats, least: float, grid: Grid
) -> Floats:
    """z [n, P] of distances [n, P], each part left out of center and spread as well."""
    n = len(outside)
    deviation = outside - center
    # Without one of n values the sum of squares about the mean falls by n / (n - 1) of its own.
    variance = (n * spread**2 - deviation**2 * n / (n - 1)) / (n - 1)
    others = np.maximum(smooth(np.sqrt(np.maximum(variance, 0.0)), grid), least)
    return np.asarray((outside - smooth(center - deviation / (n - 1), grid)) / others)
