from __future__ import annotations

import numpy as np
import pytest

from edge_ad.backbone.spec import Level
from edge_ad.errors import CheckFailed
from edge_ad.evaluate.metrics import rate_interval
from edge_ad.gaussian.maps import anomaly_map
from edge_ad.gaussian.model import NONE, fit_levels
from edge_ad.gaussian.score import level_distances
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.threshold import conformal
from edge_ad.gaussian.view import Features, FitSettings, fit_view
from edge_ad.gaussian.zones import top_mean

LEVELS = [Level("low", "a", 4, 4, 0), Level("high", "b", 6, 16, 4)]
GRID = (3, 4)


def parts(n: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(7)
    factor = rng.normal(size=(n, 2))
    local = factor @ shared.normal(size=(2, 12 * 5)) + rng.normal(size=(n, 60))
    pooled = factor @ shared.normal(size=(2, 10)) + rng.normal(size=(n, 10))
    return Features(pooled.astype(np.float32), local.reshape(n, 12, 5).astype(np.float32))


def test_profile_paper_is_the_plain_sum() -> None:
    train, new = parts(50, 0), parts(5, 1)
    fitted = fit_view(train, FitSettings(LEVELS))
    scored = fitted.score(new)
    expected = level_distances(new.pooled, LEVELS, fit_levels(train.pooled, LEVELS))
    np.testing.assert_allclose(scored.distances, expected)
    np.testing.assert_allclose(scored.scores, expected.sum(axis=1))
    assert scored.maps is None
    assert (fitted.local, fitted.combination, fitted.method) == (None, None, "leave-one-out")
    np.testing.assert_allclose(fitted.distances.sum(axis=1), fitted.outside)
    assert (fitted.distances > fitted.score(train).distances).all()  # by fits that do not know the part
    with_positions = fit_view(train, FitSettings(LEVELS, grid=GRID))
    np.testing.assert_array_equal(with_positions.distances, fitted.distances)


def test_the_larger_of_positions_and_half_the_whole() -> None:
    train = parts(80, 0)
    fitted = fit_view(train, FitSettings(LEVELS, grid=GRID))
    how = fitted.combination
    assert how is not None
    assert how.top == 1
    assert fitted.local is not None
    usual = parts(1, 3)
    assert usual.local is not None
    odd = usual.local.copy()
    odd[0, 5] += 20
    scored = fitted.score(Features(usual.pooled, odd))
    z = fitted.local.z(np.sqrt(fitted.local.d2(odd)))
    assert scored.scores[0] == pytest.approx((z[0, 0].max() - how.local_mean) / how.local_spread)
    np.testing.assert_allclose(scored.maps, anomaly_map(z[:, 0], z[:, 1], GRID))
    assert scored.maps is not None
    assert scored.maps.shape == (1, *GRID)
    assert scored.maps[0].argmax() == 5
    far = fitted.score(Features(usual.pooled + 50, usual.local))
    whole = far.distances.sum()
    assert far.scores[0] == pytest.approx(0.5 * (whole - how.global_mean) / how.global_spread)


@pytest.mark.parametrize("where", ["pooled", "local"])
def test_nan_is_never_a_score(where: str) -> None:
    fitted = fit_view(parts(60, 0), FitSettings(LEVELS, grid=GRID))
    new = parts(2, 1)
    assert new.local is not None
    (new.pooled if where == "pooled" else new.local)[1].flat[3] = np.nan
    scores = fitted.score(new).scores
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])


def test_the_promise_of_the_whole_fit_holds() -> None:
    """150 calibrations on 60 parts, each tried on 400 new ones: the mean rate lies where the promise
    says, give or take four standard errors and the tenth that is allowed."""
    rates, expected = [], 0.0
    for seed in range(150):
        fitted = fit_view(parts(60, 2 * seed + 100), FitSettings(LEVELS, grid=GRID))
        threshold, promise = conformal(fitted.outside, 0.05, fitted.method)
        expected = promise.expected
        rates.append(float((fitted.score(parts(400, 2 * seed + 101)).scores > threshold).mean()))
    error = float(np.std(rates)) / np.sqrt(len(rates))
    assert 0.9 * expected - 4 * error < np.mean(rates) < 1.1 * expected + 4 * error
    # In-sample scores would promise the same and reject far more.
    fitted = fit_view(parts(60, 100), FitSettings(LEVELS, grid=GRID))
    inside = fitted.score(parts(60, 100)).scores
    naive, _ = conformal(inside, 0.05, "in-sample")
    rejected = int((fitted.score(parts(4000, 5)).scores > naive).sum())
    assert rate_interval(rejected, 4000)[0] > 2 * expected


@pytest.mark.parametrize("reduction", [NONE, Reduction("npca", 0.2)], ids=["all", "npca"])
def test_the_promise_holds_beside_parts_that_were_picked(reduction: Reduction) -> None:
    """80 calibrations on 60 parts and 8 odd ones that are fitted besides: for new ordinary parts the
    rate is that of the 60. With scale and quantile of all 68 the threshold lies too high."""
    settings = FitSettings(LEVELS, reduction, grid=GRID, folds=5)
    sampled = np.arange(68) < 60
    rates, naive, expected = [], [], 0.0
    for seed in range(80):
        good, odd, new = parts(60, 3 * seed), parts(8, 3 * seed + 1), parts(400, 3 * seed + 2)
        assert good.local is not None
        assert odd.local is not None
        odd.local[:, 5] += 6.0
        both = Features(
            np.concatenate([good.pooled, odd.pooled + 3.0]), np.concatenate([good.local, odd.local])
        )
        fitted = fit_view(both, settings, sampled)
        threshold, promise = conformal(fitted.outside[sampled], 0.05, fitted.method)
        expected = promise.expected
        rates.append(float((fitted.score(new).scores > threshold).mean()))
        all_alike = fit_view(both, settings)
        limit, _ = conformal(all_alike.outside, 0.05, fitted.method)
        naive.append(float((all_alike.score(new).scores > limit).mean()))
    error = float(np.std(rates)) / np.sqrt(len(rates))
    assert 0.85 * expected - 4 * error < np.mean(rates) < 1.15 * expected + 4 * error
    assert np.mean(naive) < 0.75 * expected


def test_the_largest_and_what_is_refused() -> None:
    z = np.array([[1.0, 5.0, 3.0, 2.0], [0.0, 0.0, np.nan, 0.0]])
    found = top_mean(z, 2)
    assert found[0] == 4.0
    assert np.isnan(found[1])
    with pytest.raises(ValueError, match="profile default needs local features"):
        fit_view(Features(parts(20, 0).pooled), FitSettings(LEVELS, grid=GRID))
    same = parts(1, 0)
    with pytest.raises(CheckFailed):
        fit_view(same.take(np.zeros(20, int)), FitSettings(LEVELS, grid=GRID))
