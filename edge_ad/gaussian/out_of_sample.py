"""How far each good part lies from Gaussians that were fitted without it.

Scores of the parts a Gaussian was fitted on are too small to set a threshold with. Without a reduction
leaving one part out has a closed form. With PCA or NPCA it has not: the subspace itself was chosen on
the parts (for NPCA as the directions in which they vary least), so the whole fit is repeated on folds.

A fold's fit has seen fewer parts than the final one. Where parts are fewer than features NPCA then keeps
fewer components, distances come out too small, and 20 folds gave up to 12 % false rejects for 5 %. So a
sample of parts is left out one by one as well, and each level's distances are multiplied by the ratio
that these parts show: simulated rates are then 4.2 to 6.7 % for 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.model import Level, whiten
from edge_ad.gaussian.moments import Moments, centre, finite
from edge_ad.gaussian.shrinkage import ledoit_wolf, shrink
from edge_ad.gaussian.subspace import Reduction, basis_of

MIN_PARTS = 3


def out_of_sample_distances(
    features: NDArray[Any],
    levels: Sequence[Level],
    reduction: Reduction,
    folds: int = 20,
    seed: int = 0,
) -> tuple[NDArray[np.float64], str]:
    """Distances [n, L] of features [n, D], each by Gaussians fitted without its part, and the method.

    The method is "leave-one-out" (closed form) or "crossfit-K" (K folds, at most n of them, scaled by K
    parts left out one by one). CheckFailed with fewer than 3 parts or where leaving a part out makes a
    covariance singular; it names the level.
    """
    n = len(features)
    if n < MIN_PARTS:
        raise CheckFailed(f"{n} good parts are too few; a fit without one needs at least {MIN_PARTS}")
    folds = min(folds, n)
    order = np.random.default_rng(seed).permutation(n)
    assignment, singles = np.empty(n, np.int64), np.full(n, -1)
    assignment[order] = np.arange(n) % folds
    if folds < n:  # one part of each fold is also left out alone
        singles[order[:folds]] = np.arange(folds)
    distances = np.empty((n, len(levels)))
    for i, level in enumerate(levels):
        x = features[:, level.offset : level.offset + level.dim]
        try:
            if reduction.kind == "none":
                d2 = leave_one_out_d2(x)
            else:
                d2 = crossfit_d2(x, reduction, assignment)
                d2 *= _fold_ratio(x, reduction, singles, d2) ** 2
        except CheckFailed as error:
            raise CheckFailed(f"level {level.name}: {error}") from error
        distances[:, i] = np.sqrt(d2)
    return distances, "leave-one-out" if reduction.kind == "none" else f"crossfit-{folds}"


def leave_one_out_d2(features: NDArray[Any]) -> NDArray[np.float64]:
    """d2 [n] of each of features [n, d] by the Gaussian of the others; rho and m = tr(S)/d held fixed.

    With S the covariance that divides by n and delta = x - mu, the others' shrunk covariance is
    A - c delta delta^T with A = (1-rho) n/(n-1) S + rho m I and c = (1-rho) n/(n-1)^2, so with
    q = delta^T A^-1 delta the Sherman-Morrison formula gives d2 = (n/(n-1))^2 q / (1 - c q).
    """
    moments = Moments.of(features)
    n, d = moments.n, moments.d
    _, rho = ledoit_wolf(moments)
    covariance = moments.scatter / n
    trace_mean = float(np.trace(covariance)) / d
    enlarged = shrink(covariance * (n / (n - 1)), rho, trace_mean)
    try:
        whitening = whiten(enlarged)
    except np.linalg.LinAlgError:
        raise _singular(n, d) from None
    delta = (np.asarray(features, dtype=np.float64) - moments.mean) - moments.mean_rest
    z = delta @ whitening.T
    q = np.einsum("ij,ij->i", z, z)
    rest = 1.0 - (1.0 - rho) * n / (n - 1) ** 2 * q
    # Zero where the other parts alone do not span the features.
    if rest.min() <= 1e-9:
        raise _singular(n, d)
    return np.asarray((n / (n - 1)) ** 2 * q / rest)


def crossfit_d2(
    features: NDArray[Any], reduction: Reduction, assignment: NDArray[np.int64]
) -> NDArray[np.float64]:
    """d2 [n] of features [n, d] with mean, subspace and shrinkage all fitted on the other folds.

    Parts of fold -1 are always fitted on and their d2 is NaN. The good parts' covariance is diagonal in
    their own principal axes, so no factorisation follows the eigenvectors.
    """
    x = finite(features)
    d2 = np.full(len(x), np.nan)
    for fold in range(int(assignment.max()) + 1):
        out = assignment == fold
        mean, rest, centred = centre(x[~out])
        axes = basis_of(centred, reduction)
        covariance, _ = ledoit_wolf(Moments.of(centred @ axes))
        z = ((x[out] - mean) - rest) @ axes
        d2[out] = (z * z / np.diagonal(covariance)).sum(axis=1)
    return d2


def _fold_ratio(
    x: NDArray[Any], reduction: Reduction, singles: NDArray[np.int64], d2: NDArray[np.float64]
) -> float:
    """Mean distance of the parts in `singles` by fits without that part only, over that by folds."""
    picked = singles >= 0
    by_folds = float(np.sqrt(d2[picked]).sum())
    if not by_folds:
        return 1.0
    return float(np.sqrt(crossfit_d2(x, reduction, singles)[picked]).sum()) / by_folds


def _singular(n: int, d: int) -> CheckFailed:
    return CheckFailed(
        f"without one of the {n} good parts the covariance of {d} features is singular (too few differ "
        "from each other); give more different pictures of good parts"
    )
