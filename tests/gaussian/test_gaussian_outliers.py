from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_ad.backbone.spec import Level
from edge_ad.capture.images import list_images
from edge_ad.gaussian.outliers import SURPLUS, Separation, beyond, find_outliers, gaps, separate
from edge_ad.gaussian.threshold import conformal, counted_as_good
from edge_ad.gaussian.view import Features, FitSettings, fit_view

DIM = 16
SETTINGS = FitSettings([Level("a", "x", 6, 16, 0), Level("b", "x", 10, 16, 6)])
Floats = NDArray[np.float64]


def screen(features: Features, settings: FitSettings = SETTINGS) -> Separation:
    """As a calibration does for one view."""

    def without(out: NDArray[np.bool_]) -> Floats:
        fitted = fit_view(features.take(~out), settings)
        scores = np.empty(len(out))
        scores[~out] = fitted.outside
        scores[out] = fitted.score(features.take(out)).scores
        return scores

    return find_outliers(fit_view(features, settings).outside, without)


def good_parts(rng: np.random.Generator, n: int, law: str = "normal") -> NDArray[np.float32]:
    """Features [n, 16] with correlations; "t5": Student's, each channel, "heavy": each part."""
    mixing = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0] * np.exp(rng.normal(size=DIM))
    x = rng.standard_t(5, size=(n, DIM)) if law == "t5" else rng.normal(size=(n, DIM))
    if law == "heavy":  # multivariate t with 10 degrees of freedom: some parts are wide as a whole
        x /= np.sqrt(rng.chisquare(10, size=(n, 1)) / 10)
    return (x @ mixing).astype(np.float32)


@pytest.mark.parametrize("law", ["normal", "t5", "heavy"])
@pytest.mark.parametrize(("n", "sets"), [(20, 150), (60, 100), (200, 40)])
def test_of_clean_sets_hardly_a_part_is_dropped(law: str, n: int, sets: int) -> None:
    rng = np.random.default_rng(n)
    dropped = sum(int(screen(Features(good_parts(rng, n, law))).out.sum()) for _ in range(sets))
    assert dropped <= 0.002 * n * sets


@pytest.mark.parametrize("n", [50, 300, 1000])
def test_a_continuous_tail_is_no_gap(n: int) -> None:
    """Scores themselves as heavy as Student's t with five degrees of freedom, or exponential."""
    rng = np.random.default_rng(0)
    for draw in (lambda: rng.standard_t(5, n), lambda: rng.exponential(size=n)):
        dropped = sum(int(separate(draw()).out.sum()) for _ in range(400))
        assert dropped <= 0.002 * n * 400


def test_dropping_a_share_of_clean_parts_breaks_the_promise_and_screening_does_not() -> None:
    """The upper 2 % of clean parts left out, 1 % asked for: new parts are rejected more than twice as
    often."""
    rng = np.random.default_rng(1)
    trimmed_rate, screened_rate = [], []
    for _ in range(200):
        scores, new = rng.gamma(9.0, size=300), rng.gamma(9.0, size=2000)
        trimmed, _ = conformal(np.sort(scores)[:-6], 0.01, "test")
        screened, _ = conformal(scores[~separate(scores).out], 0.01, "test")
        trimmed_rate.append((new > trimmed).mean())
        screened_rate.append((new > screened).mean())
    assert np.mean(trimmed_rate) > 0.02
    assert np.mean(screened_rate) == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize(("n", "bad"), [(100, 10), (200, 16), (200, 20)])
def test_defects_of_one_kind_that_hide_each_other_are_found(n: int, bad: int) -> None:
    rng = np.random.default_rng(2)
    x = good_parts(rng, n)
    direction = rng.normal(size=DIM)
    x[:bad] += (12 * x.std() * direction / np.linalg.norm(direction)).astype(np.float32)
    features = Features(x)
    at_first = separate(fit_view(features, SETTINGS).outside)
    assert not at_first.out.any()  # each is one of many to the fit that has seen them all
    found = screen(features)
    assert found.out[:bad].all()
    assert found.out[bad:].sum() <= 1


def test_one_part_far_out_is_found_with_positions_too() -> None:
    rng = np.random.default_rng(3)
    local = rng.normal(size=(60, 9, 4)).astype(np.float32)
    local[7, 4] += 9.0  # a defect at one position
    features = Features(good_parts(rng, 60), local)
    found = screen(features, FitSettings(SETTINGS.levels, grid=(3, 3)))
    assert np.flatnonzero(found.out).tolist() == [7]
    assert found.gap == pytest.approx(gaps(found.scores)[7])


def test_what_is_stated_of_the_gap() -> None:
    scores = np.concatenate([np.linspace(0.0, 1.0, 101), [40.0, 50.0]])
    found = separate(scores)
    assert np.flatnonzero(found.out).tolist() == [101, 102]
    median, upper = np.quantile(scores, [0.5, 0.75])
    unit = (upper - median) * (1 + 40 / 103)
    assert found.gap == pytest.approx((40.0 - median) / unit)
    tail = 103 / 2 * (1 + (2**0.2 - 1) * found.gap) ** -5
    assert found.expected == pytest.approx(tail)
    assert found.expected * SURPLUS <= 2
    # Half of the parts lie beyond the median, a quarter beyond the upper quartile.
    np.testing.assert_allclose(beyond(np.array([0.0, 1.0]), 100), [50.0, 25.0])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_unit_and_origin_of_scores_do_not_matter(scale: float) -> None:
    rng = np.random.default_rng(4)
    scores = np.concatenate([rng.normal(size=80), [15.0, 30.0, 31.0]])
    np.testing.assert_array_equal(separate(scores).out, separate(scale * (scores + 7.0)).out)


@pytest.mark.parametrize("scores", [[1.0], [1.0, 1.0, 9.0], [2.0] * 30])
def test_too_few_or_equal_scores_are_not_judged(scores: list[float]) -> None:
    values = np.array(scores)
    assert not find_outliers(values, lambda out: values).out.any()


def test_never_more_than_a_quarter_is_separated() -> None:
    scores = np.concatenate([np.linspace(0, 1, 60), np.linspace(100, 110, 30)])
    assert separate(scores).out.sum() <= 22


def test_rounds_that_do_not_agree_keep_what_both_name() -> None:
    base = np.linspace(0.0, 1.0, 100)
    turns = iter(range(100))

    def without(out: NDArray[np.bool_]) -> Floats:
        scores = base.copy()
        scores[[98, 99]] = 60.0
        scores[97] = 60.0 if next(turns) % 2 else 1.0
        return scores

    assert np.flatnonzero(find_outliers(without(base > 2), without).out).tolist() == [98, 99]


def test_the_promise_with_dropped_parts_counted_as_good() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=297)
    threshold, promise = conformal(scores, 0.01, "test")
    good = counted_as_good(promise, 3)
    assert promise.expected == pytest.approx(2 / 298)
    # Three parts above the threshold that stays: as if conformal had chosen this place among 300.
    assert good.parts == 300
    assert good.expected == pytest.approx(5 / 301)
    everything = np.concatenate([scores, [99.0] * 3])
    same, by_hand = conformal(everything, 5 / 301, "test")
    assert (same, by_hand.expected, by_hand.confident) == (threshold, good.expected, good.confident)
    assert promise.achievable
    assert not good.achievable
    assert counted_as_good(promise, 0) == promise


def test_of_the_real_good_tiles_hardly_a_part_is_dropped(shared: Path) -> None:
    """666 tiles whose good parts are partly scratched: a long tail, and no gap."""
    features = tile_features(shared / "data" / "magnetic_tile" / "train" / "good")
    dropped = int(screen(features, FitSettings([Level("a", "x", 128, 16, 0)])).out.sum())
    assert dropped <= 0.002 * len(features)


def tile_features(directory: Path) -> Features:
    """Grey values of each tile at 8 x 8 and their deviations: 128 numbers without a network."""
    rows = []
    for path in list_images(directory):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float64)
        cells = small.reshape(8, 8, 8, 8).transpose(0, 2, 1, 3).reshape(64, 64)
        rows.append(np.concatenate([cells.mean(axis=1), cells.std(axis=1)]))
    return Features(np.array(rows, np.float32))


def test_defects_far_out_do_not_drag_good_parts_along() -> None:
    body = np.linspace(0.0, 1.0, 100)
    tail = 0.5 + 0.25 * (1 + 40 / 105) * 8.0  # a gap of 8: 0.9 of 100 parts lie beyond
    scores = np.concatenate([body, [tail, 200.0, 210.0, 220.0, 230.0]])
    found = separate(scores)
    assert gaps(scores)[100] == pytest.approx(8.0, rel=0.1)
    assert np.flatnonzero(found.out).tolist() == [101, 102, 103, 104]
