from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.context import coarse_view, fit_context, pooling, regressors_for
from edge_ad.gaussian.local import fit_local

GRID = (5, 6)
D = 7
F64 = NDArray[np.float64]


def parts(n: int, seed: int) -> NDArray[np.float32]:
    """Local features [n, 30, 7] that share three factors, as lighter and darker parts do."""
    rng = np.random.default_rng(seed)
    factors = np.random.default_rng(1).normal(size=(3, 30 * D))
    x = rng.normal(size=(n, 3)) @ factors + 0.5 * rng.normal(size=(n, 30 * D))
    return (x.reshape(n, 30, D) + 3).astype(np.float32)


def naive_fit(train: F64, position: int, axes: F64) -> tuple[F64, F64]:
    """Slopes of one position's regression with a constant by least squares, and residual covariance."""
    n = len(train)
    design = np.column_stack([np.ones(n), coarse_view(train, GRID) @ axes.T])
    slopes = np.linalg.lstsq(design, train[:, position], rcond=None)[0]
    residual = train[:, position] - design @ slopes
    return slopes, residual.T @ residual / (n - 1 - len(axes))


def naive_target(covariances: list[F64], position: int) -> F64:
    """Mean covariance of the neighbourhood without the nearest, with the position's own trace."""
    row, column = divmod(position, GRID[1])
    others = []
    for p, covariance in enumerate(covariances):
        distance = max(abs(p // GRID[1] - row), abs(p % GRID[1] - column))
        if 2 <= distance <= 3:
            others.append(covariance)
    mean = np.mean(others, axis=0)
    return np.asarray(mean * np.trace(covariances[position]) / np.trace(mean))


def test_distances_are_those_of_plain_formulas() -> None:
    train, new = parts(60, 0).astype(float), parts(5, 2).astype(float)
    fitted, _ = fit_local(train, GRID)
    found = fitted.d2(new)
    fits = [naive_fit(train, p, fitted.context) for p in range(30)]
    covariances = [covariance for _, covariance in fits]
    floor = 0.01 * float(np.median([np.trace(c) / D for c in covariances]))
    for p in (0, 13, 29):
        slopes, covariance = fits[p]
        sphere, shared = fitted.shrinkage, fitted.shared
        shrunk = (1 - sphere - shared) * covariance + shared * naive_target(covariances, p)
        shrunk = shrunk + (sphere * np.trace(covariance) / D + floor) * np.eye(D)
        for i in range(5):
            view = coarse_view(new[[i]], GRID)[0] @ fitted.context.T
            e = new[i, p] - np.r_[1.0, view] @ slopes
            assert found[i, 0, p] == pytest.approx(float(e @ np.linalg.solve(shrunk, e)), rel=1e-6)
    assert 0 < fitted.shrinkage + fitted.shared <= 1 + 1e-12


def test_a_part_is_scored_as_if_it_had_not_been_fitted() -> None:
    """The closed form beside a fit without the part, shrinkage and regressors its own: within 5 %, and
    within 1 % on average. In-sample distances are far below."""
    train = parts(81, 0)  # as many regressors as for 80
    fitted, outside = fit_local(train, GRID)
    inside = fitted.z(np.sqrt(fitted.d2(train)))[:, 0]
    brute = []
    for i in range(0, 81, 8):
        without, _ = fit_local(np.delete(train, i, axis=0), GRID)
        brute.append(without.z(np.sqrt(without.d2(train[[i]])))[0, 0])
    found, expected = outside[::8] + 5, np.array(brute) + 5  # z of about -2 to 4
    assert np.abs(found / expected - 1).max() < 0.05
    assert abs(float((found / expected).mean()) - 1) < 0.01
    assert float((inside[::8] + 5).mean()) < 0.8 * float(expected.mean())


def test_what_the_whole_part_shows_is_no_news_and_what_one_position_shows_is() -> None:
    train = parts(120, 0)
    fitted, _ = fit_local(train, GRID)
    factors = np.random.default_rng(1).normal(size=(3, 30 * D)).reshape(3, 30, D)
    base = parts(40, 3)
    bright = base + (5 * factors[0]).astype(np.float32)  # more of what all parts vary in
    spot = base.copy()
    spot[:, 17] += 2.5

    def z(x: NDArray[np.float32]) -> F64:
        return np.asarray(fitted.z(np.sqrt(fitted.d2(x))))

    assert z(bright)[:, 0].mean() < z(base)[:, 0].mean() + 1.0
    assert z(bright)[:, 1].mean() > z(base)[:, 1].mean() + 1.0
    assert (z(spot)[:, 0].argmax(axis=1) == 17).mean() > 0.9


@pytest.mark.parametrize("n", [6, 12])
def test_fewer_parts_than_dimensions(n: int) -> None:
    fitted, outside = fit_local(parts(n, 0), GRID)
    assert np.isfinite(fitted.d2(parts(4, 5))).all()
    assert np.isfinite(outside).all()
    assert fitted.spread.min() > 0


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(
        CheckFailed, match="5 good parts are too few for local Gaussians; give at least 6"
    ):
        fit_local(parts(5, 0), GRID)
    with pytest.raises(CheckFailed, match="the 8 good parts have identical features"):
        fit_local(np.repeat(parts(1, 0), 8, axis=0), GRID)
    with pytest.raises(ValueError, match="30 positions for a grid of 5 x 5"):
        fit_local(parts(8, 0), (5, 5))


def test_nan_reaches_every_position_it_may_have_changed() -> None:
    fitted, _ = fit_local(parts(60, 0), GRID)
    spoilt = parts(2, 4)
    spoilt[1, 3, 2] = np.nan
    d2 = fitted.d2(spoilt)
    assert np.isfinite(d2[0]).all()
    assert np.isnan(d2[1, 0]).all()
    assert np.flatnonzero(np.isnan(d2[1, 1])).tolist() == [3]


def test_regressors_are_fixed_orthonormal_and_few() -> None:
    context = fit_context(parts(60, 0), GRID)
    n, q = context.basis.shape
    assert (n, q) == (60, regressors_for(60))
    np.testing.assert_allclose(context.basis.T @ context.basis, np.eye(q), atol=1e-9)
    np.testing.assert_allclose(context.basis.sum(axis=0), 0, atol=1e-9)
    assert context.leverage.mean() == pytest.approx((q + 1) / 60)
    view = coarse_view(parts(60, 0), GRID)
    np.testing.assert_allclose((view - context.mean) @ context.axes.T, context.basis, atol=1e-8)
    assert [regressors_for(n) for n in (6, 40, 120, 300, 666, 5000)] == [0, 6, 39, 135, 347, 400]


def test_the_coarse_view_is_made_of_means() -> None:
    weights = pooling((16, 6))
    assert weights.shape == (16, 96)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert set(np.unique(weights[0][weights[0] > 0])) <= {1 / 8, 1 / 4, 1 / 2}
    assert pooling((2, 3)).shape == (6, 6)
