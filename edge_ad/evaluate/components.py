"""The publication's analysis of principal components: which of them tell defects apart?

For every level, AUROC with the first k components of the good parts' features, and with the others: the
publication's finding is that those which explain least of the variance serve best.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.evaluate.metrics import auroc
from edge_ad.gaussian.model import Level
from edge_ad.gaussian.moments import centre, finite

POINTS = 24  # values of k per level


class Components(msgspec.Struct, frozen=True):
    """One level. At position i: the first k[i] components explain the share variance[i];
    `first` is the AUROC with them alone (null for none), `rest` with all others (null for none)."""

    level: str
    k: list[int]
    variance: list[float]
    first: list[float | None]
    rest: list[float | None]


def analyse_components(
    train: NDArray[Any], good: NDArray[Any], bad: NDArray[Any], levels: Sequence[Level]
) -> list[Components]:
    """The curve of every level, from pooled features [n, D]. CheckFailed when parts are identical."""
    curves = []
    for level in levels:
        columns = slice(level.offset, level.offset + level.dim)
        try:
            curves.append(_curve(level.name, train[:, columns], good[:, columns], bad[:, columns]))
        except CheckFailed as error:
            raise CheckFailed(f"level {level.name}: {error}") from error
    return curves


def _curve(name: str, train: NDArray[Any], good: NDArray[Any], bad: NDArray[Any]) -> Components:
    mean, rest, centred = centre(finite(train))
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    # As `gaussian.subspace` keeps: never what n parts cannot span, never rounding noise.
    floor = max(centred.shape) * np.finfo(np.float64).eps * float(singular[0]) ** 2
    rank = min(int((singular**2 > floor).sum()), len(train) - 1)
    if rank < 1:
        raise CheckFailed(f"the {len(train)} good parts have identical features; give different ones")
    axes = axes[:rank]
    z = centred @ axes.T
    z_good, z_bad = (((x - mean) - rest) @ axes.T for x in (good, bad))
    share = np.cumsum(singular[:rank] ** 2) / (singular[:rank] ** 2).sum()
    ks = [0, *cut_points(rank), rank] if rank > 1 else [0, 1]

    def value(part: slice) -> float | None:
        if part.start >= part.stop:
            return None
        variance = shrunk_variance(z[:, part])
        return auroc(*(((x[:, part] ** 2) / variance).sum(axis=1) for x in (z_good, z_bad)))

    return Components(
        level=name,
        k=ks,
        variance=[float(share[k - 1]) if k else 0.0 for k in ks],
        first=[value(slice(0, k)) for k in ks],
        rest=[value(slice(k, rank)) for k in ks],
    )


def cut_points(rank: int) -> list[int]:
    """At most POINTS numbers from 1 to rank - 1, denser where they are small."""
    return sorted({min(round(k), rank - 1) for k in np.geomspace(1, rank - 1, POINTS).tolist()})


def shrunk_variance(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The diagonal of the Ledoit-Wolf covariance of z [n, k], whose columns are centred and uncorrelated
    (a part's coordinates in the parts' own principal axes), so that nothing but a diagonal is there."""
    n, k = z.shape
    variance = np.asarray((z * z).mean(axis=0))
    if k == 1:
        return variance
    scale = float(variance.mean())
    delta = float(((variance - scale) ** 2).sum())
    fourth = float(((z * z).sum(axis=1) ** 2).mean())
    beta = max(0.0, min((fourth - float(variance @ variance)) / n, delta))
    rho = beta / delta if beta > 0.0 else 0.0
    return np.asarray((1.0 - rho) * variance + rho * scale)
