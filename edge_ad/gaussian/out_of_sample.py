"""How far each good part lies from Gaussians that were fitted without it.

Scores of the parts a Gaussian was fitted on are too small to set a threshold with. Scores by the fit of
the others are too large: a new part that lies as far out as part i is scored by a fit that knows part i,
and such a part widens the Gaussian. (With 60 parts a threshold promised 1.6 % and rejected 1.4 %; with
PCA 1.2 %.) So each part's place is taken by a stand-in: a part that lies as far out, in the direction
of others. To a new part at the threshold the fit is then what it is to part i, which is what makes the
two exchangeable and the promise hold.

Without a reduction that has a closed form. With PCA or NPCA it has not: the subspace itself was chosen
on the parts (for NPCA as the directions in which they vary least), so the whole fit is repeated on
folds. A fold's fit has seen fewer parts than the final one, and no stand-ins. Where parts are fewer than
features, NPCA then keeps fewer components, distances come out too small, and 20 folds gave up to 12 %
false rejects for 5 %. So K parts are replaced one by one as well: half of them those that lie furthest
out, of which the threshold will mostly be one, the others spread evenly over the rest, whose distances
are multiplied by the ratio that those show. (The furthest ones change more when they are replaced: their
ratio for all gave 5.7 % for 5 % on real parts, where 4.2 to 5.4 % are to be expected.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.model import Level, whiten
from edge_ad.gaussian.moments import Moments, centre, finite
from edge_ad.gaussian.shrinkage import ledoit_wolf
from edge_ad.gaussian.subspace import Reduction, basis_of

MIN_PARTS = 3
REPLACED = 20  # parts, at least, that a stand-in takes the place of
MIXED = 4  # parts that a stand-in is a mixture of


def out_of_sample_distances(
    features: NDArray[Any],
    levels: Sequence[Level],
    reduction: Reduction,
    folds: int = 20,
    seed: int = 0,
    sampled: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], str]:
    """Distances [n, L] of features [n, D], each by Gaussians fitted without its part, and the method.

    The method is "leave-one-out" (closed form) or "crossfit-K" (K folds, at most n of them; at least 20
    parts are replaced one by one as well, and those that are not in `sampled` [n], where not all are a
    random sample). CheckFailed with fewer than 3 parts or where leaving a part out makes a covariance
    singular; it names the level.
    """
    n = len(features)
    if n < MIN_PARTS:
        raise CheckFailed(f"{n} good parts are too few; a fit without one needs at least {MIN_PARTS}")
    folds = min(folds, n)
    rng = np.random.default_rng(seed)
    assignment = np.empty(n, np.int64)
    assignment[rng.permutation(n)] = np.arange(n) % folds
    columns = []
    for level, x in zip(levels, _by_level(features, levels), strict=True):
        with _level_named(level):
            if reduction.kind == "none":
                columns.append(np.sqrt(leave_one_out_d2(x)))
            else:
                columns.append(np.sqrt(crossfit_d2(x, reduction, assignment)))
    distances = np.stack(columns, axis=1)
    if reduction.kind != "none":
        # Few folds are too few parts to take a ratio from.
        sampled = np.ones(n, np.bool_) if sampled is None else sampled
        count = min(int(sampled.sum()), max(folds, REPLACED))
        _replace_some(features, levels, reduction, distances, sampled, count, rng)
    return distances, "leave-one-out" if reduction.kind == "none" else f"crossfit-{folds}"


def leave_one_out_d2(features: NDArray[Any]) -> NDArray[np.float64]:
    """d2 [n] of each of features [n, d] by the Gaussian of the others and a stand-in for it; the
    shrinkage rho and m = tr(S)/d held fixed.

    With S the covariance that divides by n, delta = x - mu and q = delta^T A^-1 delta in the fit's own
    A = (1-rho) S + rho m I, the Sherman-Morrison formula gives, without the part,

        Q = (n/(n-1))^2 q / (1 - (1-rho)/(n-1) q)

    and with a stand-in at the same distance, kappa the mean squared cosine between the part and others,

        d2 = Q (1 - kappa c Q / (1 + c Q)),  c = (1-rho) (n-1) / n^2
    """
    moments = Moments.of(features)
    n, d = moments.n, moments.d
    covariance, rho = ledoit_wolf(moments)
    try:
        whitening = whiten(covariance)
    except np.linalg.LinAlgError:
        raise _singular(n, d) from None
    delta = (np.asarray(features, dtype=np.float64) - moments.mean) - moments.mean_rest
    z = delta @ whitening.T
    q = np.einsum("ij,ij->i", z, z)
    rest = 1.0 - (1.0 - rho) / (n - 1) * q
    # Zero where the other parts alone do not span the features.
    if rest.min() <= 1e-9:
        raise _singular(n, d)
    without = (n / (n - 1)) ** 2 * q / rest
    weight = (1.0 - rho) * (n - 1) / n**2 * without
    return np.asarray(without * (1.0 - _mean_cosine2(z, q) * weight / (1.0 + weight)))


def _mean_cosine2(z: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared cosine between each of z [n, d] and the others; q: their squared lengths."""
    n = len(z)
    unit = z / np.sqrt(np.maximum(q, np.finfo(np.float64).tiny))[:, None]
    with_itself = np.einsum("ij,jk,ik->i", unit, unit.T @ unit, unit, optimize=True)
    return np.asarray(np.clip((with_itself - 1.0) / (n - 1), 0.0, 1.0))


def crossfit_d2(
    features: NDArray[Any], reduction: Reduction, assignment: NDArray[np.int64]
) -> NDArray[np.float64]:
    """d2 [n] of features [n, d] with mean, subspace and shrinkage all fitted on the other folds."""
    x = finite(features)
    d2 = np.empty(len(x))
    for fold in range(int(assignment.max()) + 1):
        out = assignment == fold
        d2[out] = _reduced_d2(x[~out], x[out], reduction)
    return d2


def _reduced_d2(
    fitted: NDArray[np.float64], new: NDArray[np.float64], reduction: Reduction
) -> NDArray[np.float64]:
    """d2 of `new` by a fit in a subspace. The fitted parts' covariance is diagonal in their own
    principal axes, so no factorisation follows the eigenvectors."""
    mean, rest, centred = centre(fitted)
    axes = basis_of(centred, reduction)
    covariance, _ = ledoit_wolf(Moments.of(centred @ axes))
    z = ((new - mean) - rest) @ axes
    return np.asarray((z * z / np.diagonal(covariance)).sum(axis=1))


def _replace_some(
    features: NDArray[Any],
    levels: Sequence[Level],
    reduction: Reduction,
    distances: NDArray[np.float64],
    sampled: NDArray[np.bool_],
    count: int,
    rng: np.random.Generator,
) -> None:
    """Correct `distances` [n, L] by folds, in place: those of `count` parts of a random sample, half of
    them the outermost, become distances with a stand-in, and the others are multiplied by the ratio of
    both that the other half shows. Parts outside of the sample may lie anywhere: all are replaced."""
    n = len(distances)
    outermost = count // 2
    order = np.argsort(-distances.sum(axis=1))
    order = order[sampled[order]]
    last = len(order) - 1
    ranks = np.r_[:outermost, np.linspace(outermost, last, count - outermost).round()].astype(int)
    parts = np.concatenate([order[ranks], np.flatnonzero(~sampled)])
    mixed = np.stack([rng.permutation(n - 1)[:MIXED] for _ in parts])
    mixed += mixed >= parts[:, None]  # never the part itself
    signs = rng.choice(np.array([-1.0, 1.0]), mixed.shape)
    for i, (level, x) in enumerate(zip(levels, _by_level(features, levels), strict=True)):
        d = distances[:, i]
        with _level_named(level):
            replaced = _replaced(finite(x), reduction, d, parts, mixed, signs)
        if by_folds := float(d[parts[outermost:count]].sum()):
            d *= float(replaced[outermost:count].sum()) / by_folds
        d[parts] = replaced


def _replaced(
    x: NDArray[np.float64],
    reduction: Reduction,
    d: NDArray[np.float64],
    parts: NDArray[np.int64],
    mixed: NDArray[np.int64],
    signs: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Distance of each of K parts of x [n, d] when a stand-in has taken its place: a mixture of the
    parts `mixed` [K, m] with `signs`, as far out as the part is by `d` [n]."""
    total = x.sum(axis=0)
    result = []
    for i, others, weights in zip(parts, mixed, signs, strict=True):
        length = float(np.sqrt((d[others] ** 2).sum()))
        mean = (total - x[i]) / (len(x) - 1)  # nothing of the part may stay
        fitted = x.copy()
        fitted[i] = mean + weights @ (x[others] - mean) * (d[i] / length if length else 1.0)
        result.append(float(np.sqrt(_reduced_d2(fitted, x[i : i + 1], reduction)[0])))
    return np.array(result)


def _by_level(features: NDArray[Any], levels: Sequence[Level]) -> Iterator[NDArray[Any]]:
    for level in levels:
        yield features[:, level.offset : level.offset + level.dim]


@contextmanager
def _level_named(level: Level) -> Iterator[None]:
    try:
        yield
    except CheckFailed as error:
        raise CheckFailed(f"level {level.name}: {error}") from error


def _singular(n: int, d: int) -> CheckFailed:
    return CheckFailed(
        f"without one of the {n} good parts the covariance of {d} features is singular (too few differ "
        "from each other); give more different pictures of good parts"
    )
