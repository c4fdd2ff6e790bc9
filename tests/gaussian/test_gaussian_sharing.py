from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_ad.gaussian.local import fit_local
from edge_ad.gaussian.moments import Moments
from edge_ad.gaussian.sharing import neighbourhood, rings, smooth, target_weights
from edge_ad.gaussian.shrinkage import ledoit_wolf

GRID = (8, 8)
D = 12
F64 = NDArray[np.float64]


def mixing(seed: int) -> F64:
    """[D, D], what turns white noise into features with a covariance of their own."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(D, D)) * np.geomspace(2.0, 0.1, D))


def alike(n: int, seed: int) -> F64:
    """Local features [n, 64, D] with one law at every position, as a texture has."""
    return np.asarray(np.random.default_rng(seed).normal(size=(n, 64, D)) @ mixing(0).T)


def unlike(n: int, seed: int) -> F64:
    """Each position with a covariance of its own, as a part with many details has."""
    noise = np.random.default_rng(seed).normal(size=(n, 64, D))
    return np.stack([noise[:, p] @ mixing(p + 1).T for p in range(64)], axis=1)


def test_positions_that_are_alike_share_and_others_do_not() -> None:
    texture, _ = fit_local(alike(30, 0), GRID)
    details, _ = fit_local(unlike(30, 0), GRID)
    assert texture.shared > 3 * details.shared
    many, _ = fit_local(unlike(300, 0), GRID)
    assert many.shared < 0.5 * details.shared  # more parts, less borrowed


def test_sharing_brings_a_texture_nearer_to_its_law() -> None:
    """Distances of new parts agree better with those by the true covariance than without neighbours."""
    train = alike(12, 0)
    fitted, _ = fit_local(train, GRID)
    covariance = mixing(0) @ mixing(0).T
    new = alike(200, 1)
    true = np.einsum("npi,ij,npj->np", new, np.linalg.inv(covariance), new)
    shared = fitted.d2(new)[:, 1]
    alone = np.empty_like(shared)
    for p in range(64):
        own, _ = ledoit_wolf(Moments.of(train[:, p]))
        x = new[:, p] - train[:, p].mean(axis=0)
        alone[:, p] = np.einsum("ni,ij,nj->n", x, np.linalg.inv(own), x)

    def agreement(d2: F64) -> float:
        return float(np.corrcoef(np.sqrt(d2).ravel(), np.sqrt(true).ravel())[0, 1])

    assert agreement(shared) > agreement(alone) + 0.05


def test_the_neighbourhood_is_a_ring_inside_the_grid() -> None:
    covariance = np.random.default_rng(0).normal(size=(64, 3, 5))
    covariance = covariance @ covariance.transpose(0, 2, 1)
    found, factor = neighbourhood(covariance, GRID)
    for p in (0, 27, 63):
        row, column = divmod(p, 8)
        ring = [
            covariance[8 * r + c]
            for r in range(8)
            for c in range(8)
            if 2 <= max(abs(r - row), abs(c - column)) <= 3
        ]
        mean = np.mean(ring, axis=0)
        np.testing.assert_allclose(found[p], mean * np.trace(covariance[p]) / np.trace(mean), rtol=1e-9)
        np.testing.assert_allclose(found[p], factor[p] * np.sum(ring, axis=0), rtol=1e-9)


def test_rings_are_those_of_the_neighbourhood() -> None:
    covariance = np.random.default_rng(0).normal(size=(30, 3, 3))
    covariance = covariance @ covariance.transpose(0, 2, 1)
    found, factor = neighbourhood(covariance, (6, 5))
    seen = np.zeros(30, bool)
    for cells, near, ring in rings((6, 5)):
        summed = np.einsum("pq,qij->pij", ring, covariance[near])
        np.testing.assert_allclose(found[cells], factor[cells, None, None] * summed, rtol=1e-9)
        seen[cells] = True
    assert seen.all()


def test_a_ring_that_never_changes_is_no_target() -> None:
    covariance = np.stack([mixing(p) @ mixing(p).T for p in range(64)])
    covariance[np.arange(64) % 8 > 1] = 0.0  # a black background with a part at its left
    found, factor = neighbourhood(covariance, GRID)
    assert factor[0] > 0.0 and factor[56] > 0.0
    covariance = np.stack([mixing(p) @ mixing(p).T for p in range(64)])
    covariance[np.arange(64) != 27] = 0.0
    found, factor = neighbourhood(covariance, GRID)
    assert not factor.any()
    np.testing.assert_allclose(found[27], np.eye(D) * np.trace(covariance[27]) / D)
    assert not found[np.arange(64) != 27].any()
    sphere, shared = target_weights(covariance, found, np.full(64, 1.0))
    assert 0.0 < sphere < 1.0 and shared == 0.0


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (1, 2), (3, 3), (1, 7)])
def test_without_neighbours_it_is_ledoit_wolf(grid: tuple[int, int]) -> None:
    positions = grid[0] * grid[1]
    x = unlike(20, 3)[:, :positions]
    covariance = np.stack([np.cov(x[:, p].T, bias=True) for p in range(positions)])
    around, factor = neighbourhood(covariance, grid)
    assert not factor.any()
    for p in range(positions):
        centred = x[:, p] - x[:, p].mean(axis=0)
        fourth = ((centred**2).sum(axis=1) ** 2).mean()
        noise = np.array([(fourth - (covariance[p] ** 2).sum()) / 20])
        sphere, shared = target_weights(covariance[[p]], around[[p]], noise)
        assert sphere == pytest.approx(ledoit_wolf(Moments.of(x[:, p]))[1], rel=1e-9)
        assert shared == 0.0


def test_half_borrowed_lies_half_way() -> None:
    covariance = np.stack([mixing(p) @ mixing(p).T for p in range(64)])
    around, noise = neighbourhood(covariance, GRID)[0], np.full(64, 5.0)
    none, half, whole = (target_weights(covariance, around, noise, b) for b in (0.0, 0.5, 1.0))
    assert none[1] == 0.0
    for i in range(2):
        np.testing.assert_allclose(half[i], (none[i] + whole[i]) / 2)


def test_weights_minimise_the_expected_error() -> None:
    """Beside a fine search over both weights of noise (1 - 2 (u + v)) + |u a + v b|^2, with a = mI - S,
    in units of m."""
    rng, seen = np.random.default_rng(0), set()
    u, v = np.meshgrid(np.linspace(0, 1, 201), np.linspace(0, 1, 201))
    for scale, own in itertools.product((0.05, 0.5, 3.0), (0.0, 1.0)):
        covariance = np.stack([mixing(p) @ mixing(p).T for p in range(4)])
        around = np.stack([mixing(p + 9) @ mixing(p + 9).T + own * covariance[p] for p in range(4)])
        ratio = np.trace(covariance, axis1=1, axis2=2) / np.trace(around, axis1=1, axis2=2)
        around *= ratio[:, None, None]
        noise = scale * np.einsum("pij,pij->p", covariance - around, covariance - around)
        noise *= rng.uniform(0.5, 1.0, 4)
        x, y = target_weights(covariance, around, noise)
        mean = np.trace(covariance, axis1=1, axis2=2)[:, None, None] / D
        a, b = (mean * np.eye(D) - covariance) / mean, (around - covariance) / mean
        aa, bb, ab = (float((one * other).sum()) for one, other in ((a, a), (b, b), (a, b)))
        total = float((noise / mean[:, 0, 0] ** 2).sum())
        error = u**2 * aa + v**2 * bb + 2 * u * v * ab - 2 * (u + v) * total
        best = float(error[u + v <= 1].min())
        assert x >= 0 and y >= 0 and x + y <= 1 + 1e-12
        found = x**2 * aa + y**2 * bb + 2 * x * y * ab - 2 * (x + y) * total
        assert found <= best + 1e-6 * abs(best)
        seen.add("border" if x + y > 1 - 1e-9 else "one" if min(x, y) == 0 else "inside")
    assert seen == {"border", "inside", "one"}


def test_smoothing_leaves_the_border_a_mean() -> None:
    values = np.arange(30, dtype=float)
    grid = (5, 6)
    found = smooth(values, grid).reshape(grid)
    field = values.reshape(grid)
    assert found[0, 0] == pytest.approx(field[:2, :2].mean())
    assert found[2, 3] == pytest.approx(field[1:4, 2:5].mean())
    assert found[4, 5] == pytest.approx(field[3:, 4:].mean())
