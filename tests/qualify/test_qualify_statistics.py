"""Rates, bounds and spreads beside naive references."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ad.bundle.describe import percent_down
from edge_ad.bundle.qualification import BadPart
from edge_ad.qualify.statistics import (
    by_kind,
    detected,
    kinds_below,
    lower_bound,
    repeatability,
    repeated,
    sorted_by_margin,
)


def part(verdict: str, margin: float | None = None, kind: str = "dent", source: str = "a") -> BadPart:
    return BadPart(
        source=source, kind=kind, verdict=verdict, reason="", score=margin, margin=margin, view="top"
    )  # type: ignore[arg-type]


def at_least(count: int, n: int, p: float) -> float:
    """Probability that of n draws with chance p at least `count` succeed."""
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(count, n + 1))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_the_bound_is_where_so_many_detections_have_a_chance_of_5_percent(pair: tuple[int, int]) -> None:
    count, n = pair
    assert at_least(count, n, lower_bound(count, n)) == pytest.approx(0.05, rel=1e-9)


def test_no_miss_in_299_is_99_percent_and_no_detection_is_nothing() -> None:
    assert lower_bound(299, 299) >= 0.99 > lower_bound(298, 298)
    assert lower_bound(59, 59) >= 0.95 > lower_bound(58, 58)
    assert lower_bound(0, 7) == 0.0


def test_a_fault_is_a_part_that_was_not_detected() -> None:
    one = detected([part("REJECT", 2.0), part("REJECT", 1.5), part("PASS", 0.5), part("FAULT")])
    assert (one.parts, one.detected, one.missed, one.faults) == (4, 2, 1, 1)
    assert (one.rate, one.confident, one.smallest_margin) == (0.5, lower_bound(2, 4), 0.5)
    assert detected([part("FAULT")]).smallest_margin is None


def test_margins_come_smallest_first_and_faults_last() -> None:
    parts = [part("REJECT", 3.0), part("FAULT"), part("PASS", 0.2), part("REJECT", 1.1), part("FAULT")]
    assert [p.margin for p in sorted_by_margin(parts)] == [0.2, 1.1, 3.0, None, None]


def test_the_gate_compares_each_kind_with_the_measured_rate() -> None:
    kinds = by_kind(
        [part("REJECT" if i else "PASS", 1.0, "dent") for i in range(10)]
        + [part("REJECT", 2.0, "crack")] * 3
    )
    assert list(kinds) == ["crack", "dent"]
    assert kinds_below(kinds, 0.9) == []
    assert kinds_below(kinds, 0.900001) == ["dent"]
    assert kinds_below(kinds, 1.0) == ["dent"]
    assert kinds_below(kinds, 0.0) == []


@given(st.lists(st.floats(1, 200), min_size=2, max_size=20))
def test_spread_of_one_part(scores: list[float]) -> None:
    one = repeated("A", scores, ["PASS"] * len(scores), 100.0)
    sd = statistics.stdev(scores)
    assert one.sd == pytest.approx(sd, abs=1e-9)
    assert one.mean == pytest.approx(statistics.mean(scores))
    assert (one.low, one.high) == (min(scores), max(scores))
    if sd > 1e-6:
        assert one.distance == pytest.approx((statistics.mean(scores) - 100) / sd, rel=1e-6, abs=1e-9)


def test_verdicts_that_differ_and_pictures_without_a_score() -> None:
    one = repeated("A", [99.0, 101.0, 98.0], ["PASS", "REJECT", "PASS", "FAULT"], 100.0)
    assert (one.pictures, one.differ, one.faults) == (4, 2, 1)
    assert one.distance is not None and one.distance < 0  # it passes on average
    still = repeated("B", [50.0, 50.0], ["PASS"] * 2, 100.0)
    assert (still.sd, still.distance, still.differ) == (0.0, None, 0)


def test_all_parts_together_weigh_by_degrees_of_freedom() -> None:
    a, b, c = [10.0, 12.0, 14.0, 10.5], [200.0, 201.0], [50.0, 50.0]
    parts = [
        repeated(name, scores, ["PASS"] * len(scores), 100.0)
        for name, scores in (("a", a), ("b", b), ("c", c))
    ]
    whole = repeatability(parts)
    squares = 3 * statistics.variance(a) + 1 * statistics.variance(b)
    assert whole.sd == pytest.approx(math.sqrt(squares / 5))
    assert whole.nearest == pytest.approx(88.375 / statistics.stdev(a))
    assert (whole.pictures, whole.differ, whole.parts_differ) == (8, 0, 0)
    assert repeatability(parts[2:]).nearest is None


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (2999 / 3000, "99.9 %"), (0.57, "57 %"), (0.29, "29 %"), (0.98997, "98.9 %")],
)
def test_nearly_all_is_not_all(share: float, text: str) -> None:
    assert percent_down(share) == text
