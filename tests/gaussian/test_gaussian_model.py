"""The fitted Gaussian: the publication's distances, a whitening factor of the right shape, refusals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.model import Gaussian, fit_gaussian, fit_levels, fit_reduced
from edge_ad.gaussian.moments import Moments, merge_all
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.subspace import Reduction, basis

F64 = NDArray[np.float64]
NPCA = Reduction("npca", 0.01)
PCA99 = Reduction("pca", 0.99)


class Level(NamedTuple):
    name: str
    offset: int
    dim: int


def data(n: int, d: int, seed: int = 0) -> F64:
    """Correlated features with a decaying spectrum, away from the origin."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(d).normal(size=(d, d)) / np.arange(1, d + 1)[:, None]
    return np.asarray(rng.normal(size=(n, d)) @ mix + 2.0)


def naive_d2(train: F64, x: F64, reduction: Reduction) -> F64:
    """The publication, step by step: project with scikit-learn's PCA, fit Ledoit-Wolf, invert, score."""
    z_train, z = train - train.mean(0), x - train.mean(0)
    if reduction.kind != "none":
        pca = PCA(n_components=None, svd_solver="full").fit(train)
        share = np.cumsum(pca.explained_variance_ratio_)
        rank = min(train.shape[1], len(train) - 1)  # the last of n <= d components is arbitrary
        target = reduction.share if reduction.kind == "pca" else 1 - reduction.share
        k = int(np.argmax(share > target))
        kept = slice(0, k + 1) if reduction.kind == "pca" else slice(max(k - 1, 0), rank)
        axes = pca.components_[kept].T
        z_train, z = z_train @ axes, z @ axes
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(z_train).covariance_)
    return np.array([row @ precision @ row for row in z])


@pytest.mark.parametrize("reduction", [Reduction(), NPCA, PCA99, Reduction("npca", 0.3)], ids=str)
@pytest.mark.parametrize(("n", "d"), [(3, 5), (8, 8), (9, 8), (30, 90), (90, 30), (300, 40)])
def test_d2_is_the_publications(n: int, d: int, reduction: Reduction) -> None:
    train, test = data(n, d), data(50, d, seed=1)
    fitted = fit_gaussian(Moments.of(train), reduction, train)
    for x in (train, test):
        expected = naive_d2(train, x, reduction)
        np.testing.assert_allclose(fitted.d2(x), expected, rtol=1e-8, atol=1e-8 * expected.max())


@pytest.mark.parametrize(("n", "d"), [(3, 40), (100, 7), (40, 40), (300, 150)])
def test_d2_is_scikit_learns(n: int, d: int) -> None:
    train, test = data(n, d), data(50, d, seed=1)
    expected = LedoitWolf().fit(train).mahalanobis(test)
    np.testing.assert_allclose(fit_gaussian(Moments.of(train)).d2(test), expected, rtol=1e-8)


@pytest.mark.parametrize("reduction", [Reduction(), NPCA, PCA99], ids=str)
def test_whitening_is_upper_trapezoidal_and_the_reported_numbers_are_its_own(
    reduction: Reduction,
) -> None:
    train = data(60, 25)
    g = fit_gaussian(Moments.of(train), reduction, train)
    k, d = g.whitening.shape
    assert d == 25
    assert (k == d) == (reduction.kind == "none")
    assert not np.tril(g.whitening, -1).any()
    singular = np.linalg.svd(g.whitening, compute_uv=False)
    assert g.condition == pytest.approx((singular[0] / singular[-1]) ** 2, rel=1e-6)
    assert 0 < g.shrinkage < 1
    assert g.n == 60


def test_d2_is_never_negative_for_an_almost_singular_fit() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4000, 2)) @ np.array([[1.0, 1.0], [0.0, 1e-6]]) + 1e3
    g = fit_gaussian(Moments.of(x))
    assert g.d2(np.concatenate([x, g.mean[None]])).min() >= 0
    assert g.d2(g.mean[None])[0] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_never_gets_a_finite_distance(bad: float) -> None:
    g = fit_gaussian(Moments.of(data(20, 4)))
    x = np.full((1, 4), bad)
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(g.d2(x)).any()


def test_dead_channels_do_not_make_distances_infinite() -> None:
    train = data(50, 12)
    train[:, [2, 5]] = 0.0
    test = data(20, 12, seed=1)
    plain = fit_gaussian(Moments.of(train))
    np.testing.assert_allclose(plain.d2(test), LedoitWolf().fit(train).mahalanobis(test), rtol=1e-8)
    reduced = fit_gaussian(Moments.of(train), NPCA, train)
    moved = test.copy()
    moved[:, [2, 5]] += 100
    np.testing.assert_allclose(
        reduced.d2(moved), reduced.d2(test), rtol=1e-9
    )  # no part ever varied there


def test_duplicates_are_fitted_like_weights() -> None:
    train, test = data(12, 6), data(9, 6, seed=1)
    expected = LedoitWolf().fit(np.repeat(train, 3, axis=0)).mahalanobis(test)
    fitted = fit_gaussian(Moments.of(np.repeat(train, 3, axis=0)))
    np.testing.assert_allclose(fitted.d2(test), expected, rtol=1e-8)


def test_one_feature() -> None:
    x = np.array([[1.0], [2.0], [3.0], [6.0]])
    for reduction in (Reduction(), NPCA, PCA99):
        g = fit_gaussian(Moments.of(x), reduction, x)
        np.testing.assert_allclose(g.d2(x), (x[:, 0] - 3) ** 2 / 3.5, rtol=1e-12)


@pytest.mark.parametrize("reduction", [Reduction(), NPCA, PCA99], ids=str)
@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 8), (2, 1), (6, 1), (6, 8)])
def test_identical_parts_are_refused(n: int, d: int, reduction: Reduction) -> None:
    x = np.full((n, d), 0.1)
    with pytest.raises(CheckFailed, match=r"identical.*; give different"):
        fit_gaussian(Moments.of(x), reduction, x)


@pytest.mark.parametrize("copies", [1, 5])
def test_two_different_parts_cannot_span_many_features(copies: int) -> None:
    with pytest.raises(CheckFailed, match=r"singular.*give more"):
        fit_gaussian(Moments.of(np.repeat(data(2, 8), copies, axis=0)))


def test_a_reduction_needs_the_features() -> None:
    with pytest.raises(ValueError, match="needs the features"):
        fit_gaussian(Moments.of(data(9, 4)), NPCA)


def test_a_stream_can_be_fitted_in_two_passes_of_merged_batches() -> None:
    train, test = data(200, 30), data(20, 30, seed=1)
    batches = np.array_split(train, 9)
    m = merge_all([Moments.of(b) for b in batches])
    axes = basis(m, NPCA)
    assert axes is not None
    fitted = fit_reduced(m.mean, axes, merge_all([Moments.of((b - m.mean) @ axes) for b in batches]))
    np.testing.assert_allclose(fitted.d2(test), naive_d2(train, test, NPCA), rtol=1e-8)


def test_levels_are_slices_and_the_score_is_the_plain_sum_of_their_distances() -> None:
    train, test = data(50, 12).astype(np.float32), data(7, 12, seed=1).astype(np.float32)
    levels = [Level("stem", 0, 5), Level("head", 5, 7)]
    fitted = fit_levels(train, levels)
    distances = level_distances(test, levels, fitted)
    a, b = LedoitWolf().fit(train[:, :5].astype(float)), LedoitWolf().fit(train[:, 5:].astype(float))
    expected = np.stack([np.sqrt(a.mahalanobis(test[:, :5])), np.sqrt(b.mahalanobis(test[:, 5:]))], 1)
    np.testing.assert_allclose(distances, expected, rtol=1e-8)
    np.testing.assert_allclose(level_sum(distances), expected.sum(1), rtol=1e-8)


def test_errors_name_the_level() -> None:
    x = data(20, 6)
    x[:, 3:] = 7.0
    with pytest.raises(CheckFailed, match=r"level head: .*identical"):
        fit_levels(x, [Level("stem", 0, 3), Level("head", 3, 3)])


def test_distances_need_one_gaussian_per_level() -> None:
    g: list[Gaussian] = []
    with pytest.raises(ValueError, match="1 levels but 0"):
        level_distances(data(3, 3), [Level("stem", 0, 3)], g)
