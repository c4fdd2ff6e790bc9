"""Thresholds, quantiles without scipy, and the words of the promise."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.threshold import (
    Promise,
    beta_quantile,
    chi2_cdf,
    chi2_quantile,
    chi2_threshold,
    confident_rate,
    conformal,
    counted_as_good,
    parts_needed,
    promise_text,
)


@pytest.mark.parametrize(
    ("n", "rate", "index"),
    [
        (99, 0.01, 99),
        (100, 0.01, 100),
        (199, 0.01, 198),
        (19, 0.05, 19),
        (666, 0.05, 634),
        (99, 0.29, 71),
    ],
)
def test_conformal_takes_the_indexth_smallest_score(n: int, rate: float, index: int) -> None:
    scores = np.random.default_rng(0).permutation(n) + 1.0
    threshold, promise = conformal(scores, rate, "leave-one-out")
    assert (threshold, promise.index) == (index, index)
    assert promise.achievable
    assert promise.expected == pytest.approx((n + 1 - index) / (n + 1))
    assert promise.expected <= rate + 1e-12
    assert (promise.method, promise.parts, promise.target) == ("leave-one-out", n, rate)


def test_too_few_parts_take_the_highest_score_and_say_so() -> None:
    threshold, promise = conformal(np.arange(60.0), 0.01, "leave-one-out")
    assert threshold == 59.0
    assert not promise.achievable
    assert promise.expected == pytest.approx(1 / 61)
    assert promise.confident == pytest.approx(1 - 0.05 ** (1 / 60))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_never_become_a_threshold(bad: float) -> None:
    with pytest.raises(CheckFailed, match="not all finite"):
        conformal(np.array([1.0, bad, 2.0]), 0.01, "x")


def test_no_scores() -> None:
    with pytest.raises(CheckFailed, match="at least 1 part"):
        conformal(np.empty(0), 0.01, "x")


def test_parts_needed() -> None:
    assert parts_needed(0.01) == (99, 299)
    assert parts_needed(0.05) == (19, 59)
    assert parts_needed(0.001) == (999, 2995)


@pytest.mark.parametrize("rate", [0.3, 0.05, 0.01, 0.003])
def test_parts_needed_are_the_fewest(rate: float) -> None:
    expected, confident = parts_needed(rate)
    assert conformal(np.arange(float(expected)), rate, "x")[1].achievable
    assert not conformal(np.arange(expected - 1.0), rate, "x")[1].achievable
    assert conformal(np.arange(float(confident)), 1 / (confident + 1), "x")[1].confident <= rate
    assert conformal(np.arange(confident - 1.0), 1 / confident, "x")[1].confident > rate


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (
            60,
            "60 parts: 1.6 % false rejects expected, at most 4.9 % with 95 % confidence; "
            "99 parts for 1 %; 299 for 1 % with 95 % confidence",
        ),
        (
            99,
            "99 parts: 1 % false rejects expected, at most 3 % with 95 % confidence; "
            "299 for 1 % with 95 % confidence",
        ),
        (
            1000,
            "1000 parts: 1 % false rejects expected, at most 1.6 % with 95 % confidence; "
            "ask for --false-reject-rate 0.005495 to hold 1 % with 95 % confidence",
        ),
    ],
)
def test_promise_in_words(n: int, text: str) -> None:
    assert promise_text(conformal(np.arange(float(n)), 0.01, "leave-one-out")[1]) == text


@pytest.mark.parametrize(("parts", "target"), [(299, 0.01), (300, 0.01), (666, 0.01), (5000, 0.3)])
def test_the_rate_to_ask_for_holds_with_confidence_and_no_higher_one_does(
    parts: int, target: float
) -> None:
    rate = float(f"{confident_rate(parts, target):.4g}")
    scores = np.arange(1.0, parts + 1)
    assert conformal(scores, rate, "x")[1].confident <= target
    assert conformal(scores, rate + 1 / (parts + 1), "x")[1].confident > target


@pytest.mark.parametrize(("above", "parts", "expected"), [(0, 300, True), (30, 300, False)])
def test_a_chi_squared_promise_offers_no_parts(above: int, parts: int, expected: bool) -> None:
    rate = (above + 1) / (parts + 1)
    text = promise_text(Promise("chi2, checked x", parts, 0.01, parts - above, rate, 0.2, expected))
    assert " for 1 %" not in text
    assert ("no number of parts" in text) is not expected


def test_the_two_promises_hold_over_many_calibrations() -> None:
    """Scores are uniform, so a threshold t has the true rate 1 - t."""
    rng = np.random.default_rng(1)
    for n, rate in ((99, 0.01), (60, 0.01), (666, 0.05)):
        promise = conformal(rng.random(n), rate, "split")[1]
        true = np.array([1 - conformal(rng.random(n), rate, "split")[0] for _ in range(1500)])
        spread = stats.beta(n + 1 - promise.index, promise.index).std() / np.sqrt(1500)
        assert true.mean() == pytest.approx(promise.expected, abs=4 * spread)
        assert 0.93 < (true <= promise.confident).mean() < 0.97


@pytest.mark.parametrize("p", [0.025, 0.5, 0.95, 0.975])
@pytest.mark.parametrize(
    ("a", "b"), [(1, 1), (1, 99), (3, 297), (34, 633), (99, 1), (500, 500), (101, 9900)]
)
def test_beta_quantile_is_scipys(a: int, b: int, p: float) -> None:
    assert beta_quantile(p, a, b) == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-9)


@pytest.mark.parametrize("p", [1e-6, 0.05, 0.683, 0.9545, 0.9973, 1 - 5.7e-7])
@pytest.mark.parametrize("k", [1, 2, 3, 16, 272, 1792, 5000])
def test_chi2_quantile_is_scipys(k: int, p: float) -> None:
    assert chi2_quantile(p, k) == pytest.approx(stats.chi2.ppf(p, k), rel=1e-9)
    assert chi2_cdf(chi2_quantile(p, k), k) == pytest.approx(p, rel=1e-9)


def test_chi2_threshold_is_the_publications_working_point() -> None:
    found = [chi2_threshold(272, 1 - stats.chi2.cdf(s * s, 1)) for s in (1, 2, 3, 4, 5)]
    np.testing.assert_allclose(found, [16.81, 17.68, 18.48, 19.25, 20.02], atol=0.005)


@pytest.mark.parametrize(("p", "k"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_chi2_quantile_refuses_what_has_none(p: float, k: int) -> None:
    with pytest.raises(ValueError, match="no chi-squared quantile"):
        chi2_quantile(p, k)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(0, 30), st.floats(0.002, 0.45))
def test_parts_that_cannot_be_judged_count_as_rejected(n: int, faults: int, rate: float) -> None:
    """The k-th smallest of all, as if the faults had the highest scores; never one of those."""
    scores = np.random.default_rng(n).normal(size=n)
    threshold, promise = conformal(scores, rate, "x", faults)
    assert (promise.parts, promise.faults) == (n + faults, faults)
    wanted, plain = conformal(np.concatenate([scores, scores.max() + 1 + np.arange(faults)]), rate, "x")
    assert promise.index == min(plain.index, n)
    assert threshold == min(wanted, scores.max())
    assert promise.expected == pytest.approx(1 - promise.index / (n + faults + 1))
    assert promise.achievable == (promise.expected <= rate + 1e-9)


def test_a_promise_says_what_no_threshold_makes_up_for() -> None:
    text = promise_text(conformal(np.arange(90.0), 0.05, "x", 20)[1])
    assert text.startswith("110 parts: 18.9 % false rejects expected")
    assert text.endswith(
        "of which 20 cannot be judged (see those skipped for their position); no threshold makes up "
        "for those"
    )


def test_parts_that_were_picked_are_told_apart() -> None:
    _, promise = conformal(np.arange(99.0), 0.01, "leave-one-out")
    plain = promise_text(promise)
    one = promise_text(msgspec.structs.replace(promise, declared=1))
    assert one.startswith(
        plain + "; 1 more part was declared good by a person: fitted, but no random sample"
    )
    more = msgspec.structs.replace(promise, declared=3)
    assert "; 3 more parts were declared good by a person" in promise_text(more)
    assert counted_as_good(more, 2).declared == 3


def test_a_target_that_is_met_in_spite_of_faults_is_no_complaint() -> None:
    threshold, promise = conformal(np.arange(198.0), 0.01, "x", 1)
    assert promise.achievable
    assert "no threshold makes up" not in promise_text(promise)
    assert threshold == 197.0
