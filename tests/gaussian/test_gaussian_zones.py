"""Zones in a tile: scores of their own, one threshold for all."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.backbone.spec import Level
from edge_ad.errors import CheckFailed
from edge_ad.gaussian.scale import TileScale
from edge_ad.gaussian.threshold import conformal
from edge_ad.gaussian.view import Combination, Features, FitSettings, fit_view
from edge_ad.gaussian.zones import (
    IGNORED,
    PatchFit,
    by_zone,
    fit_patches,
    on_one_scale,
    part_scores,
    top_count,
    zone_scales,
    zones_in,
)

LEVELS = [Level("all", "x", 5, 16, 0)]
GRID = (6, 6)


def parts(n: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    return Features(
        rng.normal(size=(n, 5)).astype(np.float32), rng.normal(size=(n, 36, 4)).astype(np.float32)
    )


def labels() -> np.ndarray:
    found = np.zeros(GRID, np.int16)
    found[:2, :3] = 1
    found[4:, 4:] = 2
    found[5, 0] = IGNORED
    return found.ravel()


def test_each_zone_is_scored_by_its_own_positions() -> None:
    # Without regressors: what is ignored is painted over, so that it reaches no other position.
    settings = FitSettings(LEVELS, grid=GRID, regressors=0, labels=labels())
    fitted = fit_view(parts(60), settings)
    assert [patch.zone for patch in fitted.patches] == zones_in(labels()) == [1, 2]
    assert len(fitted.rows) == 3
    for row in fitted.rows[1:]:
        assert row.mean() == pytest.approx(0.0, abs=1e-9)
        assert row.std() == pytest.approx(1.0)
    np.testing.assert_array_equal(fitted.outside, np.max(fitted.rows, axis=0))
    usual = parts(1, 5)
    assert usual.local is not None
    base = fitted.score(usual).scores[0]
    for position, seen in ((0, True), (35, True), (20, True), (30, False)):  # zones 1, 2, rest, ignored
        odd = np.array(usual.local)
        odd[0, position] += 40
        assert (fitted.score(Features(usual.pooled, odd)).scores[0] > base + 5) == seen


def test_rows_of_tiles_are_those_of_the_fit() -> None:
    """The inspector's scores of one tile with zones and one without, against each fit's own."""
    zoned = FitSettings(LEVELS, grid=GRID, labels=labels())
    plain = FitSettings(LEVELS, grid=GRID, labels=np.zeros(36, np.int16))
    fits = [fit_view(parts(60, 1), zoned), fit_view(parts(60, 2), plain)]
    new = parts(7, 3)
    assert new.local is not None
    combinations, distances, whole = [], [], []
    for fit in fits:
        assert fit.local is not None
        assert fit.combination is not None
        combinations.append(fit.combination)
        distances.append(np.sqrt(fit.local.d2(new.local))[:, 0])
        whole.append(fit.score(new).distances.sum(axis=1))
    scale = TileScale.of(
        combinations,
        [fit.patches for fit in fits],
        np.stack([labels(), np.zeros(36, np.int16)]),
        np.stack([fit.local.center[0] for fit in fits if fit.local]),
        np.stack([fit.local.spread[0] for fit in fits if fit.local]),
    )
    assert scale.tile.tolist() == [0, 0, 0, 1]
    assert scale.zone.tolist() == [0, 1, 2, 0]
    rows, _ = scale.scores(np.stack(whole, axis=-1), np.stack(distances, axis=1))
    np.testing.assert_allclose(rows[:, :3].max(axis=1), fits[0].score(new).scores, rtol=1e-9)
    np.testing.assert_allclose(rows[:, 3], fits[1].score(new).scores, rtol=1e-9)
    spoilt = np.stack(distances, axis=1)
    spoilt[0, 0, 35] = np.nan
    rows, _ = scale.scores(np.stack(whole, axis=-1), spoilt)
    assert np.isnan(rows[0]).any()


def test_rows_may_average_different_numbers() -> None:
    """The rest of a tile has 250 positions, its zone 50, the other tile 300."""
    where = np.zeros((2, 300), np.int16)
    where[0, :50] = 1
    combinations = [Combination(top_count(n), 0.0, 1e9, 0.0, 1.0) for n in (250, 300)]
    patches = [[PatchFit(1, top_count(50), 0.0, 1.0)], []]
    scale = TileScale.of(combinations, patches, where, np.zeros((2, 300)), np.ones((2, 300)))
    cells = np.random.default_rng(0).normal(size=(2, 300))
    rows, z = scale.scores(np.zeros(2), cells)
    np.testing.assert_array_equal(z, cells)
    for row, values, top in ((0, cells[0, 50:], 3), (1, cells[0, :50], 1), (2, cells[1], 3)):
        assert rows[row] == pytest.approx(np.sort(values)[-top:].mean())


def test_an_ignored_tile_is_far_from_nothing() -> None:
    settings = FitSettings(LEVELS, grid=GRID, labels=np.full(36, IGNORED, np.int16))
    constant = Features(np.ones((30, 5), np.float32), np.ones((30, 36, 4), np.float32))
    fitted = fit_view(constant, settings)
    assert fitted.outside.tolist() == [0.0] * 30
    assert fitted.score(constant.take(np.arange(3))).scores.tolist() == [0.0] * 3


def test_a_tile_that_is_all_zone_keeps_the_part_as_a_whole() -> None:
    fitted = fit_view(parts(60), FitSettings(LEVELS, grid=GRID, labels=np.ones(36, np.int16)))
    assert np.isfinite(fitted.outside).all()
    far = parts(1, 4)
    scores = fitted.score(Features(far.pooled + 40, far.local)).scores
    assert scores[0] > fitted.outside.max() + 5


@pytest.mark.parametrize("shares", [(0.5,), (0.1,), (0.3, 0.3)])
def test_the_split_is_conformal_as_a_whole(shares: tuple[float, ...]) -> None:
    """Zones of other laws, of which one is heavy-tailed: 400 calibrations on 199 parts for 5 %."""
    rng = np.random.default_rng(1)
    rejected, by_own = [], []
    for _ in range(400):
        scores = rng.normal(size=(399, len(shares) + 1))
        scores[:, 0] = rng.standard_t(4, 399) * 3 + 10
        scores[:, -1] += scores[:, 0] / 5  # zones are not independent of each other
        scales = zone_scales(scores[:199], shares, 0.05)
        threshold, _ = conformal(on_one_scale(scores[:199], scales).max(axis=1), 0.05, "")
        new = on_one_scale(scores[199:], scales)
        rejected.append((new.max(axis=1) > threshold).mean())
        by_own.append((new[:, 1:] > threshold).mean(axis=0))
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.004)
    # A zone with a larger share may be rejected for more often.
    assert np.argmax(np.mean(by_own, axis=0)) == np.argmax(shares)


def test_rows_to_zones_to_parts() -> None:
    rows = np.array([[1.0, 5.0, 2.0, 3.0]])
    assert by_zone(rows, [0, 1, 0, 1], 2).tolist() == [[2.0, 5.0]]
    assert part_scores(rows, [0, 1, 0, 1], []).tolist() == [5.0]
    scales = zone_scales(np.random.default_rng(0).normal(size=(50, 2)), (0.5,), 0.1)
    assert [one.rate for one in scales] == [0.05, 0.05]
    assert part_scores(rows, [0, 1, 0, 1], scales)[0] == pytest.approx(
        max(
            (2.0 - scales[0].median) / (scales[0].limit - scales[0].median),
            (5.0 - scales[1].median) / (scales[1].limit - scales[1].median),
        )
    )


def test_parts_that_are_all_the_same_have_no_scale() -> None:
    with pytest.raises(CheckFailed, match="in a zone are all the same"):
        zone_scales(np.ones((40, 2)), (0.5,), 0.1)
    with pytest.raises(CheckFailed, match="the same distance in a zone"):
        fit_patches(np.ones((40, 36)), labels())
    assert PatchFit(1, 1, 0.0, 1.0).zone == 1
