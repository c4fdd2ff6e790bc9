from __future__ import annotations

import numpy as np
import pytest

from edge_ad.backbone.spec import Level
from edge_ad.gaussian.replicates import fit_with_replicates
from edge_ad.gaussian.view import Features, FitSettings, fit_view

LEVELS = [Level("all", "x", 6, 16, 0)]
SETTINGS = FitSettings(LEVELS, folds=5, grid=(2, 3))


def parts(n: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    pooled = rng.normal(size=(n, 6)).astype(np.float32)
    return Features(pooled, rng.normal(size=(n, 6, 5)).astype(np.float32))


def altered(source: Features, times: int, seed: int, size: float) -> Features:
    """Replicates of every part, moved by `size`."""
    rng = np.random.default_rng(seed)
    assert source.local is not None
    pooled = np.concatenate([source.pooled] * times)
    local = np.concatenate([source.local] * times)
    return Features(
        pooled + size * rng.normal(size=pooled.shape).astype(np.float32),
        local + size * rng.normal(size=local.shape).astype(np.float32),
    )


def test_a_part_and_its_replicates_are_left_out_together() -> None:
    """Were a near copy of a part still fitted, the part would look far too usual."""
    good, new = parts(60, 0), parts(400, 1)
    fitted = fit_with_replicates(good, altered(good, 3, 2, 0.01), SETTINGS)
    assert fitted.method == "crossfit-5, with replicates"
    scores = fitted.score(new).scores
    # Fits of 48 instead of 60 parts, so a little further out than new parts by the whole fit.
    assert 0.9 < np.median(fitted.outside) + 1 < 2.5 * (np.median(scores) + 1)
    assert np.median(fitted.outside) > np.median(scores) - 0.2
    inside = fitted.score(good).scores
    assert np.median(inside) < np.median(fitted.outside) - 0.3


def test_distances_of_parts_are_those_that_their_scores_are_made_of() -> None:
    good = parts(60, 0)
    copies = altered(good, 3, 2, 0.01)
    paper = fit_with_replicates(good, copies, FitSettings(LEVELS, folds=5))
    np.testing.assert_allclose(paper.distances.sum(axis=1), paper.outside)
    with_positions = fit_with_replicates(good, copies, SETTINGS)
    np.testing.assert_array_equal(with_positions.distances, paper.distances)


def test_what_the_replicates_vary_becomes_usual() -> None:
    good = parts(60, 0)
    shifted = Features(good.pooled, None if good.local is None else good.local + np.float32(1.5))
    plain = fit_view(good, SETTINGS)
    wide = fit_with_replicates(good, altered(good, 5, 3, 1.5), SETTINGS)
    plain_share = (plain.score(shifted).scores > np.quantile(plain.outside, 0.95)).mean()
    wide_share = (wide.score(shifted).scores > np.quantile(wide.outside, 0.95)).mean()
    assert wide_share < 0.75 * plain_share


def test_replicates_belong_to_parts() -> None:
    good = parts(10, 0)
    with pytest.raises(ValueError, match="15 replicates of 10 parts"):
        fit_with_replicates(good, parts(15, 1), SETTINGS)
