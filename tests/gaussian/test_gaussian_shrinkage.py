"""Ledoit-Wolf from moments is scikit-learn's, over shapes and degenerate data."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf as reference

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.moments import Moments, merge_all
from edge_ad.gaussian.shrinkage import ledoit_wolf

F64 = NDArray[np.float64]


def data(n: int, d: int, kind: str) -> F64:
    rng = np.random.default_rng(n * 1000 + d)
    x = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) / np.arange(1, d + 1))
    if kind == "skewed":
        x = np.exp(x / np.abs(x).max() * 3)
    elif kind == "dead channels":
        x[:, ::3] = 0.25
    elif kind == "far":
        x += 1e4
    elif kind == "duplicates":
        x = np.repeat(x[: max(n // 3, 3)], 4, axis=0)
    return x


@pytest.mark.parametrize("kind", ["normal", "skewed", "dead channels", "far", "duplicates"])
@pytest.mark.parametrize(
    ("n", "d"), [(3, 2), (3, 40), (10, 10), (9, 10), (20, 200), (200, 20), (400, 31), (60, 1100)]
)
def test_equals_scikit_learn(n: int, d: int, kind: str) -> None:
    x = data(n, d, kind)
    covariance, rho = ledoit_wolf(Moments.of(x))
    expected, expected_rho = reference(x)
    assert rho == pytest.approx(expected_rho, rel=1e-10)
    assert np.abs(covariance - expected).max() <= 1e-10 * np.abs(expected).max()


def test_merged_moments_have_the_same_shrinkage() -> None:
    x = data(120, 30, "skewed")
    merged = merge_all([Moments.of(x[i::7]) for i in range(7)])
    covariance, rho = ledoit_wolf(merged)
    expected, expected_rho = reference(x)
    assert rho == pytest.approx(expected_rho, rel=1e-10)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_equal_scatter_does_not_mean_equal_shrinkage() -> None:
    """Why the fourth-order sum is kept: same scatter, different tails, different shrinkage."""
    flat = np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]])
    peaked = np.array([[np.sqrt(2), 0], [-np.sqrt(2), 0], [0, 2 * np.sqrt(2)], [0, -2 * np.sqrt(2)]])
    a, b = Moments.of(np.tile(flat, (2, 1))), Moments.of(np.concatenate([peaked, np.zeros((4, 2))]))
    np.testing.assert_allclose(a.scatter, b.scatter)
    assert ledoit_wolf(b)[1] > 1.5 * ledoit_wolf(a)[1] > 0


def test_one_feature_is_not_shrunk() -> None:
    x = data(30, 1, "normal")
    covariance, rho = ledoit_wolf(Moments.of(x))
    assert rho == 0.0
    np.testing.assert_allclose(covariance, reference(x)[0], rtol=1e-12)


def test_two_parts_have_shrinkage_zero_up_to_rounding() -> None:
    x = data(2, 30, "normal")
    covariance, rho = ledoit_wolf(Moments.of(x))
    assert 0.0 <= rho < 1e-12
    np.testing.assert_allclose(covariance, reference(x)[0], atol=1e-12 * covariance.max())


def test_isotropic_scatter_stays_isotropic() -> None:
    x = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    covariance, rho = ledoit_wolf(Moments.of(x))
    np.testing.assert_allclose(covariance, np.eye(2) / 2)
    assert 0.0 <= rho <= 1.0


def test_identical_parts_give_a_zero_covariance_not_nan() -> None:
    covariance, rho = ledoit_wolf(Moments.of(np.full((6, 4), 0.1)))
    assert rho == 0.0
    assert not covariance.any()


def test_no_parts_is_an_error() -> None:
    with pytest.raises(CheckFailed, match="no good parts"):
        ledoit_wolf(Moments.empty(3))
