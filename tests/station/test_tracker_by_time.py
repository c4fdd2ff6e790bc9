"""A line without keys: a verdict is a part's own by time and by the agreement of the counts."""

from __future__ import annotations

from typing import Any

import pytest
from made_up_verdicts import MS, Belt

from edge_ad.delivery.station.events import Resync

TIME: dict[str, Any] = {"by_time": True, "match_ns": 5 * MS, "resync_parts": 2}


class TimedBelt(Belt):
    """Parts every 100 ms; the trigger of each was the `count`-th of the daemon's camera."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**{**TIME, **changes})
        self.seq = 0
        self.at = 0

    def until(self, ms: int) -> None:
        """Time passes."""
        while self.at < ms:
            self.at += 10
            self.tick(self.at)

    def part(
        self, ms: float, count: int | None, verdict: str = "PASS", off_ms: float = 0, seen: bool = True
    ) -> None:
        self.until(int(ms))
        if seen:
            self.present(ms, None)
        self.until(int(ms) + 20)
        self.seq += 1
        self.verdict(
            ms + 20, f"p{self.seq}", self.seq, verdict, count=count,
            t_trigger_ns=int((ms + off_ms) * MS),
        )  # fmt: skip


def run(belt: TimedBelt, *parts: dict[str, Any]) -> str:
    """100 ms between parts, and time passes between them."""
    for number, part in enumerate(parts):
        belt.part(1000 + 100 * number, **part)
    belt.until(1500 + 100 * len(parts))
    return " ".join("P" if e.split()[1] == "pass" else e.split()[1] for e in belt.ends)


def counts(*numbers: int) -> list[dict[str, Any]]:
    return [{"count": number} for number in numbers]


def test_parts_pass_once_the_counts_have_agreed_often_enough() -> None:
    assert run(TimedBelt(), *counts(7, 8, 9, 10)) == "P P P P"
    assert run(TimedBelt(resync_parts=4), *counts(7, 8, 9, 10, 11)) == "unsynced P P P P"
    assert run(TimedBelt(resync_parts=5, travel=150 * MS), *counts(7, 8, 9, 10, 11, 12)) == (
        "unsynced unsynced unsynced P P P"
    )


def test_a_trigger_that_the_camera_missed_or_counted_twice_rejects_until_both_agree_again() -> None:
    belt = TimedBelt(travel=120 * MS)
    said = run(belt, *counts(7, 8, 9, 11, 12, 13, 14))
    assert said == "unsynced P P unsynced unsynced P P"
    assert belt.of(Resync)[-1].why.startswith("count 11")


def test_a_bad_part_rejects_by_its_own_verdict() -> None:
    parts = counts(1, 2, 3, 4)
    parts[2]["verdict"] = "REJECT"
    assert run(TimedBelt(), *parts) == "P P not_pass P"


def test_a_part_that_the_station_did_not_see_costs_the_ones_behind_it() -> None:
    parts = counts(1, 2, 3, 4, 5, 6, 7, 8)
    parts[3]["seen"] = False
    belt = TimedBelt()
    said = run(belt, *parts)
    assert said.split()[-2:] == ["P", "P"] and "unsynced" in said
    assert len(said.split()) == 7 and len(belt.of(Resync)) >= 2


@pytest.mark.parametrize("off_ms", [6, -6, 9.9])
def test_a_verdict_that_is_near_but_not_near_enough_is_nobodys(off_ms: float) -> None:
    parts = counts(1, 2, 3, 4, 5, 6)
    parts[2]["off_ms"] = off_ms
    said = run(TimedBelt(), *parts).split()
    assert said[2] in ("ambiguous", "unsynced") and said[-2:] == ["P", "P"]


def test_the_link_s_uncertainty_takes_from_what_may_match() -> None:
    belt = TimedBelt()
    belt.actions += belt.tracker.link_up("main", "line1", "0001-a", 0, 4 * MS, 2 * MS)
    parts = counts(1, 2, 3, 4)
    parts[3]["off_ms"] = 2
    assert run(belt, *parts).split()[3] in ("ambiguous", "unsynced")


def test_the_daemon_s_clock_and_the_sensor_s_place_are_taken_into_account() -> None:
    belt = TimedBelt(match_offset_ns=40 * MS)
    belt.actions += belt.tracker.link_up("main", "line1", "0001-a", 5_000 * MS, 0, 2 * MS)
    parts = [{"count": n, "off_ms": 5_000 - 40} for n in (1, 2, 3)]
    assert run(belt, *parts) == "P P P"


def test_two_parts_or_two_verdicts_at_one_time_are_nobodys() -> None:
    belt = TimedBelt(before=0, after=1)
    belt.part(1000, 1)
    belt.part(1100, 2)
    belt.present(1107, None)
    belt.until(1500)
    assert [e.split()[1] for e in belt.ends] == ["pass", "ambiguous", "no_verdict"]

    belt = TimedBelt()
    belt.part(1000, 1)
    belt.part(1100, 2)
    belt.verdict(1121, "again", 99, count=3, t_trigger_ns=1103 * MS)
    belt.until(1500)
    assert [e.split()[1] for e in belt.ends] == ["unsynced", "ambiguous"]


def test_a_count_that_is_not_told_proves_nothing() -> None:
    parts: list[dict[str, Any]] = [{"count": None}] * 4
    assert "P" not in run(TimedBelt(), *parts).split()
