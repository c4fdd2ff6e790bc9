"""AUROC, rates and intervals against scikit-learn, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from edge_ad.evaluate.metrics import auroc, auroc_interval, predicted_interval, rate_interval
from edge_ad.gaussian.threshold import conformal


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 10])
@pytest.mark.parametrize(("n_good", "n_bad"), [(1, 1), (1, 7), (40, 3), (200, 150)])
def test_auroc_is_scikit_learns_with_and_without_ties(n_good: int, n_bad: int, levels: int) -> None:
    rng = np.random.default_rng(n_good + levels)
    good, bad = rng.normal(size=n_good), rng.normal(size=n_bad) + 0.5
    if levels:  # rounding to few values makes ties; one level ties everything
        good, bad = (np.floor(x * levels / 4) if levels > 1 else np.zeros_like(x) for x in (good, bad))
    labels = np.r_[np.zeros(n_good), np.ones(n_bad)]
    assert auroc(good, bad) == pytest.approx(roc_auc_score(labels, np.r_[good, bad]), abs=1e-12)


def test_auroc_needs_both_kinds() -> None:
    for good, bad in (([], [1.0]), ([1.0], [])):
        with pytest.raises(ValueError, match="at least one good and one bad"):
            auroc(np.array(good), np.array(bad))


def test_auroc_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.5, 1.5, 2.5):
        truth = stats.norm.cdf(shift / np.sqrt(2))
        covered = []
        for _ in range(400):
            value = auroc(rng.normal(size=40), rng.normal(size=30) + shift)
            low, high = auroc_interval(value, 40, 30)
            assert 0 <= low <= value <= high <= 1
            covered.append(low <= truth <= high)
        assert 0.92 < np.mean(covered) < 0.99


def test_auroc_of_one_or_zero_does_not_claim_certainty() -> None:
    low, high = auroc_interval(1.0, 20, 20)
    assert high == 1.0
    assert 0.8 < low < 0.99
    assert auroc_interval(0.0, 20, 20) == (0.0, pytest.approx(1 - low))


@pytest.mark.parametrize(("count", "n"), [(0, 299), (299, 299), (1, 10), (5, 10), (17, 286), (0, 1)])
def test_rate_interval_is_clopper_and_pearsons(count: int, n: int) -> None:
    expected = stats.binomtest(count, n).proportion_ci(0.95, "exact")
    assert rate_interval(count, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("parts", "index", "n"), [(666, 634, 286), (99, 99, 286), (20, 20, 5), (60, 58, 1)]
)
def test_predicted_interval_is_beta_binomial(parts: int, index: int, n: int) -> None:
    law = stats.betabinom(n, parts + 1 - index, index)
    low, high = predicted_interval(parts, index, n)
    assert law.cdf(round(low * n) - 1) <= 0.025 < law.cdf(round(low * n))
    assert law.cdf(round(high * n) - 1) < 0.975 <= law.cdf(round(high * n))


def test_predicted_interval_holds_what_calibration_and_test_show_together() -> None:
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(800):
        threshold, promise = conformal(rng.normal(size=100), 0.05, "split")
        low, high = predicted_interval(promise.parts, promise.index, 150)
        inside.append(low <= (rng.normal(size=150) > threshold).mean() <= high)
    assert 0.94 < np.mean(inside) < 0.995  # at least 95 %: counts are whole numbers
