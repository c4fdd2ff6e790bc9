from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_ad.gaussian.local import fit_local
from edge_ad.gaussian.moments import Moments
from edge_ad.gaussian.sharing import neighbourhood, smooth, target_weights
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
    assert np.median(texture.shared) > 3 * np.median(details.shared)
    many, _ = fit_local(unlike(300, 0), GRID)
    assert np.median(many.shared) < 0.5 * np.median(details.shared)  # more parts, less borrowed


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
    found = neighbourhood(covariance, GRID)
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


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (1, 2)])
def test_without_neighbours_it_is_ledoit_wolf(grid: tuple[int, int]) -> None:
    positions = grid[0] * grid[1]
    x = unlike(20, 3)[:, :positions]
    covariance = np.stack([np.cov(x[:, p].T, bias=True) for p in range(positions)])
    around = neighbourhood(covariance, grid)
    assert not around.any()
    noise = []
    for p in range(positions):
        centred = x[:, p] - x[:, p].mean(axis=0)
        fourth = ((centred**2).sum(axis=1) ** 2).mean()
        noise.append((fourth - (covariance[p] ** 2).sum()) / 20)
    sphere, shared = target_weights(covariance, around, np.array(noise))
    expected = [ledoit_wolf(Moments.of(x[:, p]))[1] for p in range(positions)]
    np.testing.assert_allclose(sphere, expected, rtol=1e-9)
    assert not shared.any()


def test_half_borrowed_lies_half_way() -> None:
    covariance = np.stack([mixing(p) @ mixing(p).T for p in range(64)])
    around, noise = neighbourhood(covariance, GRID), np.full(64, 5.0)
    none, half, whole = (target_weights(covariance, around, noise, b) for b in (0.0, 0.5, 1.0))
    assert not none[1].any()
    for i in range(2):
        np.testing.assert_allclose(half[i], (none[i] + whole[i]) / 2)


def test_weights_minimise_the_expected_error() -> None:
    """Beside a fine search over both weights of noise (1 - 2 (u + v)) + |u a + v b|^2, a = mI - S."""
    rng, seen = np.random.default_rng(0), set()
    for scale, own in itertools.product((0.05, 0.5, 3.0), (0.0, 1.0)):
        covariance = np.stack([mixing(p) @ mixing(p).T for p in range(4)])
        around = np.stack([mixing(p + 9) @ mixing(p + 9).T + own * covariance[p] for p in range(4)])
        ratio = np.trace(covariance, axis1=1, axis2=2) / np.trace(around, axis1=1, axis2=2)
        around *= ratio[:, None, None]
        noise = scale * np.einsum("pij,pij->p", covariance - around, covariance - around)
        noise *= rng.uniform(0.5, 1.0, 4)
        sphere, shared = target_weights(covariance, around, noise)
        for p in range(4):
            mean = np.trace(covariance[p]) / D
            a, b = mean * np.eye(D) - covariance[p], around[p] - covariance[p]
            grid = np.linspace(0, 1, 201)
            u, v = np.meshgrid(grid, grid)
            error = u**2 * (a**2).sum() + v**2 * (b**2).sum() + 2 * u * v * (a * b).sum()
            error -= 2 * (u + v) * noise[p]
            error[u + v > 1] = np.inf
            best = error.min()
            x, y = sphere[p], shared[p]
            found = x**2 * (a**2).sum() + y**2 * (b**2).sum() + 2 * x * y * (a * b).sum()
            found -= 2 * (x + y) * noise[p]
            assert x >= 0 and y >= 0 and x + y <= 1 + 1e-12
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
