from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom

from edge_ad.capture.parts import part_key
from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.demo.progress import Options
from edge_ad.demo.tally import Record, Tally, agree, judged_by, promised_interval, wrong_engine
from edge_ad.gaussian.threshold import conformal


def record(
    seq: int, verdict: str = "PASS", bundle: str = "b", reason: str = "", part: int = -1
) -> Record:
    key = part_key(seq if part < 0 else part)
    header = Header("1.0", "demo", "e", seq, key, seq, seq, "plate", bundle)
    return header, ScoreBody(verdict, reason, 1.0, 2.0, latency_ms=float(seq))


def test_equal_records_agree_from_the_handshake_on() -> None:
    journal = [record(n) for n in range(1, 9)]
    found = agree(journal[2:], journal, synced_at=2)
    assert (found.daemon, found.consumer, found.difference) == (6, 6, "")


@pytest.mark.parametrize(
    ("heard", "said", "difference"),
    [
        ([3, 4, 5], [3, 4, 5, 6], "never received part 6"),
        ([4, 5, 6], [3, 4, 5, 6], "has part 4 .* where the journal has 3"),
        ([3, 5, 6], [3, 4, 5, 6], "has part 5 .* where the journal has 4"),
        ([3, 4, 5, 6], [3, 4, 5], "1 parts that the journal does not have"),
        ([3, 4, 4, 5], [3, 4, 5], "has part 4 .* where the journal has 5"),
        ([4, 5], [4, 5], "has part 4 where 3 belongs"),
        ([3, 4], [], "journal is empty"),
    ],
)
def test_every_difference_is_found(heard: list[int], said: list[int], difference: str) -> None:
    import re

    found = agree([record(n) for n in heard], [record(n) for n in said], synced_at=2)
    assert re.search(difference, found.difference), found.difference


def test_another_verdict_on_the_same_part_is_a_difference() -> None:
    found = agree([record(1), record(2, "REJECT")], [record(1), record(2)], synced_at=0)
    assert "part 2" in found.difference


@pytest.mark.parametrize("n", [40, 120, 300])
@pytest.mark.parametrize("good", [0, 30, 1400])
def test_interval_is_the_beta_binomials(n: int, good: int) -> None:
    _, promise = conformal(np.arange(float(n)), 0.01, "leave-one-out")
    law = betabinom(good, n + 1 - promise.index, promise.index)
    low, high = promised_interval(promise, good, surprise=0.01)
    assert law.cdf(low - 1) <= 0.005 < law.cdf(low) or low == 0
    assert law.cdf(high) >= 0.995 and (high == 0 or law.cdf(high - 1) < 0.995)


def test_interval_holds_for_simulated_lines() -> None:
    rng = np.random.default_rng(0)
    _, promise = conformal(np.arange(120.0), 0.05, "leave-one-out")
    low, high = promised_interval(promise, 300, surprise=0.1)
    scores = np.sort(rng.normal(size=(4000, 120)), axis=1)[:, promise.index - 1]
    rejected = (rng.normal(size=(4000, 300)) > scores[:, None]).sum(axis=1)
    assert 0.87 < ((rejected >= low) & (rejected <= high)).mean() < 0.97


def test_only_parts_that_a_bundle_judged_are_counted() -> None:
    options = Options(good_parts=20, fps=10, defect_rate=0.5)
    tally = Tally(options.truth)
    bad = next(i for i in range(options.good_first, 10_000) if options.truth(part_key(i)) == "dent")
    assert not tally.add(*record(1, "FAULT", bundle="", reason="uncalibrated"))
    assert not tally.add(*record(2, "FAULT", reason="calibrating"))
    assert tally.bad_collected == 0
    assert not tally.add(*record(3, "FAULT", reason="calibrating", part=bad))
    assert tally.bad_collected == 1
    assert tally.add(*record(4)) and tally.add(*record(5, "REJECT"))
    assert tally.add(*record(6, part=bad)) and tally.add(*record(7, "FAULT", reason="late", part=bad))
    assert tally.late == 1
    assert tally.verdicts() == {"PASS": 2, "REJECT": 1, "FAULT": 1}
    assert tally.judged == 4 and len(tally.records) == 7
    assert tally.of("good", "REJECT") == 1 and tally.of("dent", "PASS") == 1 and tally.total("dent") == 2
    assert tally.latency() == {"p50": 5.5, "p99": pytest.approx(6.97), "max": 7.0}


def by(engine: str, verdict: str = "PASS", reason: str = "", degraded: bool = False) -> Record:
    header, _ = record(1)
    return header, ScoreBody(verdict, reason, 1.0, 2.0, engine=engine, degraded=degraded)


def test_engines_are_counted_by_the_verdicts_that_they_gave() -> None:
    journal = [
        by("", "FAULT", "calibrating"), by("a"), by("b", "REJECT"), by("b"), by("b", "FAULT", "late"),
        by("a", "FAULT", "engine"), by("a", "FAULT", "missing_view"),
    ]  # fmt: skip
    assert list(judged_by(journal).items()) == [("b", 3), ("a", 1)]
    assert judged_by(journal[:1]) == {}


@pytest.mark.parametrize(
    ("journal", "problem"),
    [
        ([by("", "FAULT", "uncalibrated"), by("gpu"), by("gpu", "FAULT", "late")], ""),
        (
            [by("gpu"), by("cpu", degraded=True), by("cpu", "REJECT", degraded=True)],
            "2 parts .*2 to cpu",
        ),
        ([by("gpu"), by("cpu")], "1 parts? did not go to gpu but 1 to cpu"),
        ([by("gpu"), by("cpu", "FAULT", "late")], "1 to cpu"),
        ([by("gpu"), by("cpu", "FAULT", "missing_view", degraded=True)], "1 to cpu"),
        ([by("cpu"), by("npu"), by("npu")], "3 parts did not go to gpu but 2 to npu, 1 to cpu"),
        ([by("gpu", "FAULT", "engine"), by("", "FAULT", "calibrating")], "gpu judged no part"),
        ([], "gpu judged no part"),
    ],
)
def test_parts_that_another_engine_answered_are_a_problem(journal: list[Record], problem: str) -> None:
    import re

    found = wrong_engine(journal, "gpu")
    assert re.fullmatch(f".*{problem}.*" if problem else "", found), found
