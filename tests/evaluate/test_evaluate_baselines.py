"""Baselines and the analysis of components against plain formulas and the product's own Gaussians."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_ad.backbone.spec import Level
from edge_ad.errors import CheckFailed, ConfigError
from edge_ad.evaluate.baselines import fit_l2, fit_sed, run_baselines
from edge_ad.evaluate.components import analyse_components, cut_points, shrunk_variance
from edge_ad.evaluate.metrics import auroc
from edge_ad.gaussian.model import fit_gaussian, fit_levels
from edge_ad.gaussian.moments import Moments
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.shrinkage import ledoit_wolf
from edge_ad.gaussian.subspace import Reduction

LEVELS = [Level("a", "", 6, 2, 0), Level("b", "", 10, 4, 6)]
NAMES = [
    "L2", "SED", "one-class SVM", "Mahalanobis", "PCA 0.95", "PCA 0.99", "NPCA 0.99", "NPCA 0.999",
    "NPCA 0.9999",
]  # fmt: skip
Array = NDArray[np.float64]


def features() -> tuple[Array, Array, Array]:
    """Features of very different variance; defects move along those that vary least."""
    rng = np.random.default_rng(3)
    mixing = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    spread = 0.7 ** np.arange(16)
    train, good, bad = (rng.normal(size=(n, 16)) * spread for n in (80, 60, 50))
    bad[:, 9:] *= 4
    return train @ mixing, good @ mixing, bad @ mixing


def test_every_method_of_the_publication_is_there_with_each_level() -> None:
    found = run_baselines(*features(), LEVELS)
    assert [one.name for one in found] == NAMES
    for one in found:
        assert list(one.per_level) == ["a", "b"]
        assert one.image_auroc is not None and one.image_auroc_interval is not None
        low, high = one.image_auroc_interval
        assert low <= one.image_auroc <= high
    values = {one.name: one.image_auroc or 0.0 for one in found}
    assert values["Mahalanobis"] > values["L2"]


def test_mahalanobis_is_the_products_own_sum() -> None:
    train, good, bad = features()
    found = {one.name: one for one in run_baselines(train, good, bad, LEVELS)}
    for name, reduction in (("Mahalanobis", Reduction()), ("NPCA 0.99", Reduction("npca", 0.01))):
        gaussians = fit_levels(train, LEVELS, reduction)
        sums = [level_sum(level_distances(x, LEVELS, gaussians)) for x in (good, bad)]
        assert found[name].image_auroc == auroc(*sums)


def test_l2_and_sed_by_hand() -> None:
    train = np.array([[0.0, 10.0], [2.0, 30.0]])
    x = np.array([[4.0, 20.0], [1.0, 20.0]])
    assert fit_l2(train)(x) == pytest.approx([3 / np.sqrt(2), 0])
    std = np.sqrt(2)  # of 0 and 2, unbiased
    assert fit_sed(train)(x) == pytest.approx([3 / std / np.sqrt(2), 0])


def test_a_dead_channel_has_no_scale_and_is_left_out_of_sed() -> None:
    train = np.array([[0.0, 0.3], [2.0, 0.3]], np.float32)
    x = np.array([[4.0, 99.0], [1.0, 0.3]], np.float32)
    assert fit_sed(train)(x) == pytest.approx([3 / np.sqrt(2), 0])
    with pytest.raises(CheckFailed, match="no feature differs"):
        fit_sed(np.ones((3, 2)))


def test_a_method_that_cannot_be_fitted_says_why_and_stops_no_other() -> None:
    train, good, bad = features()
    train[:, :6] = 1.0
    found = {one.name: one for one in run_baselines(train, good, bad, LEVELS)}
    assert found["Mahalanobis"].image_auroc is None
    assert "level a: the 80 good parts have identical features" in found["Mahalanobis"].note
    assert found["L2"].image_auroc is not None


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(ConfigError, match=r"edge_ad\[evaluate\]"):
        run_baselines(*features(), LEVELS)


def test_shrinkage_in_principal_axes_is_ledoit_wolfs() -> None:
    train, _, _ = features()
    centred = train - train.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    for part in (slice(0, 4), slice(5, 16), slice(3, 4)):
        z = centred @ axes[part].T
        covariance, _ = ledoit_wolf(Moments.of(z))
        assert shrunk_variance(z) == pytest.approx(np.diagonal(covariance))


def test_curves_end_at_the_whole_gaussian_and_rise_with_the_components_that_matter() -> None:
    train, good, bad = features()
    for level, curve in zip(LEVELS, analyse_components(train, good, bad, LEVELS), strict=True):
        columns = slice(level.offset, level.offset + level.dim)
        whole = fit_gaussian(Moments.of(train[:, columns]))
        value = auroc(whole.d2(good[:, columns]), whole.d2(bad[:, columns]))
        assert curve.k[0] == 0 and curve.k[-1] == level.dim
        assert curve.first[0] is None and curve.rest[-1] is None
        assert curve.first[-1] == curve.rest[0] == pytest.approx(value)
        assert curve.variance == sorted(curve.variance)
        assert curve.variance[-1] == pytest.approx(1)


def test_curves_of_fewer_parts_than_features_stay_in_what_the_parts_span() -> None:
    train, good, bad = features()
    for curve, level in zip(analyse_components(train[:5], good, bad, LEVELS), LEVELS, strict=True):
        assert curve.k[-1] == min(4, level.dim)


@pytest.mark.parametrize("rank", [2, 3, 10, 665])
def test_cut_points_are_distinct_and_inside(rank: int) -> None:
    points = cut_points(rank)
    assert points[0] == 1 and points[-1] == rank - 1
    assert len(set(points)) == len(points) <= 24
