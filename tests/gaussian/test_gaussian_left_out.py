from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_ad.gaussian.left_out import Shrunk, left_out_distances
from edge_ad.gaussian.local import whiten_all
from edge_ad.gaussian.sharing import neighbourhood

GRID = (5, 6)
D, FLOOR = 6, 0.01
F64 = NDArray[np.float64]


def residuals(n: int, seed: int = 0) -> F64:
    """[n, 30, 6], alike where positions are near; some parts are restless everywhere."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(np.arange(5), np.arange(6), indexing="ij"), -1).reshape(-1, 2)
    apart = ((place[:, None] - place) ** 2).sum(-1)
    smoothing = np.linalg.cholesky(np.exp(-apart / 6.0) + 0.1 * np.eye(30))
    e = smoothing @ rng.normal(size=(n, 30, D)) * np.geomspace(2.0, 0.3, D)
    return np.asarray(e * rng.gamma(40.0, 0.025, (n, 1, 1)))


def shrunk(e: F64, sphere: float, shared: float) -> Shrunk:
    degrees = float(len(e))
    covariance = np.einsum("npi,npj->pij", e, e) / degrees
    around, factor = neighbourhood(covariance, GRID)
    return Shrunk(GRID, covariance, around, factor, sphere, shared, FLOOR, degrees)


def naive(e: F64, part: int, sphere: float, shared: float) -> F64:
    """Distances [30] of one part by covariances that do not know it."""
    without = shrunk(np.delete(e, part, axis=0), sphere, shared).matrix(slice(None))
    x = e[part]
    return np.asarray(np.sqrt(np.einsum("pi,pij,pj->p", x, np.linalg.inv(without), x)))


@pytest.mark.parametrize(("n", "mean", "most"), [(12, 0.012, 0.03), (60, 0.002, 0.0015)])
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_a_part_is_in_no_covariance_that_judges_it(
    n: int, mean: float, most: float, shared: float
) -> None:
    """With weights held fixed. Were it still in the ring of its neighbours, the furthest tenth would
    seem 4 % (12 parts) and 0.25 % (60) too near."""
    e = residuals(n)
    fit = shrunk(e, 0.1, shared)
    whitening = whiten_all(fit.matrix(slice(None)))
    found = left_out_distances(lambda some: e[some], np.ones(n), fit, whitening)
    expected = np.stack([naive(e, part, 0.1, shared) for part in range(n)])
    # But for a factor common to all: the others' covariance has one degree of freedom less.
    ratio = found / expected / np.median(found / expected)
    assert np.abs(ratio - 1).mean() < mean
    far = expected > np.quantile(expected, 0.9)
    assert abs(float(ratio[far].mean()) - 1) < most
    inside = np.sqrt(np.einsum("npi,pij,npj->np", e, np.linalg.inv(fit.matrix(slice(None))), e))
    assert float((inside / expected)[far].mean()) < 1 - 1.5 / n  # what would be seen otherwise
