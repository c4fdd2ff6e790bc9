"""The judge of the chaos run sees everything that must not happen: each is made to happen here."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_ad.chaos.checker import (
    SETTLING_NS,
    Acted,
    Action,
    Row,
    Triggered,
    Verdicts,
    Window,
    check,
    read_rows,
)
from edge_ad.chaos.plan import Part

MS = 1_000_000
TRAVEL = 100 * MS


@dataclass
class Run:
    """Ten parts, 50 ms apart, of which number 3 is bad; everything went well."""

    parts: list[Part] = field(default_factory=lambda: [Part(i, f"S{i}", i == 3) for i in range(10)])
    triggers: list[Triggered] = field(
        default_factory=lambda: [Triggered(i, 50 * MS * i, 50 * MS * i + TRAVEL) for i in range(10)]
    )
    actions: list[Action] = field(
        default_factory=lambda: [
            Action(i, 50 * MS * i + TRAVEL, i != 3, "" if i == 3 else f"S{i}") for i in range(10)
        ]
    )
    windows: list[Window] = field(default_factory=list)
    outbox: list[Row] = field(
        default_factory=lambda: [
            ("e1", i + 1, f"S{i}", "REJECT" if i == 3 else "PASS") for i in range(10)
        ]
    )
    log: list[Row] | None = None
    acted: list[Acted] = field(
        default_factory=lambda: [Acted(f"S{i}", [("s", "e1", i + 1)]) for i in range(10) if i != 3]
    )
    replayed: list[tuple[str, int]] = field(default_factory=list)

    def check(self) -> Verdicts:
        log = self.outbox if self.log is None else self.log
        return check(
            self.parts, self.triggers, self.actions, self.windows, self.outbox, log, self.acted,
            self.replayed,
        )  # fmt: skip

    def reject(self, number: int) -> None:
        self.actions[number] = Action(number, self.actions[number].t_ns, False, "")
        self.acted = [one for one in self.acted if one.key != f"S{number}"]


def found(result: Verdicts) -> dict[str, int]:
    assert result.ok == (not result.examples)
    return {kind: len(examples) for kind, examples in result.examples.items()}


def test_a_run_in_which_nothing_happened() -> None:
    result = Run().check()
    assert found(result) == {}
    assert (result.triggers, result.gate_actions, result.passed, result.bad_parts) == (10, 10, 9, 1)


def test_a_bad_part_that_passed() -> None:
    run = Run()
    run.actions[3] = Action(3, 1, True, "S3")
    assert found(run.check()) == {"bad_passed": 1, "wrong_part": 1}
    run.outbox[3] = ("e1", 4, "S3", "PASS")  # the daemon was wrong
    assert found(run.check()) == {"bad_passed": 1}


def test_a_pass_that_was_another_parts() -> None:
    run = Run()
    run.actions[3] = Action(3, 1, True, "S2")
    assert found(run.check()) == {"bad_passed": 1, "wrong_part": 1}
    run.actions[3] = Run().actions[3]
    run.actions[5] = Action(5, 1, True, "S4")
    assert found(run.check()) == {"wrong_part": 1}


def test_triggers_without_an_action_or_with_two() -> None:
    run = Run()
    del run.actions[4]
    run.actions.append(run.actions[0])
    assert found(run.check()) == {"unanswered": 2}
    del run.triggers[7]  # and an action of a part that did not come
    assert found(run.check()) == {"unanswered": 3}


def test_a_committed_verdict_that_the_station_never_got() -> None:
    run = Run()
    run.log = run.outbox[:4] + run.outbox[5:]
    assert found(run.check()) == {"lost": 1}


def test_one_that_it_has_twice_and_some_out_of_order() -> None:
    run = Run()
    run.log = [*run.outbox, run.outbox[9]]
    assert found(run.check()) == {"duplicated": 1}
    run.log = [*run.outbox[:4], run.outbox[5], run.outbox[4], *run.outbox[6:]]
    assert found(run.check()) == {"reordered": 1}
    run.outbox[5:] = [("e2", i + 1, f"S{i + 5}", "PASS") for i in range(5)]
    run.log = [*run.outbox[5:], *run.outbox[:5]]
    run.acted = []
    assert found(run.check()) == {"reordered": 1}


def test_one_that_it_has_otherwise_or_that_nobody_committed() -> None:
    run = Run()
    run.log = [*run.outbox[:3], ("e1", 4, "S3", "PASS"), *run.outbox[4:], ("e1", 11, "S10", "PASS")]
    assert found(run.check()) == {"altered": 2}


def test_a_pass_that_no_daemon_gave() -> None:
    run = Run()
    run.outbox[5] = ("e1", 6, "S5", "FAULT")
    run.acted = []
    assert found(run.check()) == {"wrong_part": 1}


@pytest.mark.parametrize(
    ("acted", "kinds"),
    [
        (Acted("S3", [("s", "e1", 4)]), {"wrong_part": 1}),  # a REJECT
        (Acted("S3", []), {"wrong_part": 1}),
        (Acted("S3", [("s", "e1", 3)]), {"wrong_part": 1, "duplicated": 1}),  # of the part before
        (Acted("S5", [("s", "e1", 6)]), {"duplicated": 1}),  # twice
        (Acted("S5", [("s", "e0", 6)]), {"wrong_part": 1}),
    ],
)
def test_the_station_says_that_it_acted_on_what_it_must_not(acted: Acted, kinds: dict[str, int]) -> None:
    run = Run()
    run.acted.append(acted)
    assert found(run.check()) == kinds


def test_the_station_says_that_it_acted_on_what_it_was_told_again() -> None:
    run = Run()
    run.replayed = [("e1", 4), ("e1", 6)]
    assert found(run.check()) == {"wrong_part": 1}


def test_a_good_part_that_was_rejected_outside_of_windows() -> None:
    run = Run()
    run.reject(6)
    assert found(run.check()) == {"good_rejected_outside_windows": 1}
    assert run.check().examples["good_rejected_outside_windows"] == ["S6 PASS (e1 7)"]
    del run.outbox[6]
    assert found(run.check()) == {"good_rejected_outside_windows": 1, "unexplained_rejects": 1}


@pytest.mark.parametrize(
    ("killed", "ready"),
    [
        (399 * MS, 600 * MS),  # the kill came while it was on the belt, from 300 to 400
        (200 * MS, 320 * MS),  # it was triggered while the victim was down
        (-2000 * MS, 301 * MS - SETTLING_NS),  # or within a second of readiness
    ],
)
def test_in_a_window_it_may_be_rejected(killed: int, ready: int) -> None:
    run = Run()
    run.reject(6)
    run.windows = [Window("daemon", "", killed, ready)]
    assert found(run.check()) == {}
    assert run.check().kills == {"daemon": 1}
    run.windows.append(Window("daemon", "", killed, ready, deaths=2))
    assert run.check().kills == {"daemon": 3}


def test_a_window_excuses_no_part_before_or_after_it() -> None:
    run = Run()
    run.reject(6)
    run.windows = [
        Window("daemon", "", 401 * MS, 402 * MS),
        Window("station", "", -900 * MS, 299 * MS - SETTLING_NS),
    ]
    assert found(run.check()) == {"good_rejected_outside_windows": 1}


def test_a_window_excuses_no_bad_part_that_passed() -> None:
    run = Run()
    run.actions[3] = Action(3, 1, True, "S3")
    run.windows = [Window("daemon", "", 0, 10_000 * MS)]
    assert found(run.check()) == {"bad_passed": 1, "wrong_part": 1}


def test_a_part_whose_trigger_went_wrong_may_be_rejected_but_not_unanswered() -> None:
    run = Run()
    run.parts[6] = Part(6, "S6", False, camera=0)
    run.reject(6)
    del run.outbox[6]
    assert found(run.check()) == {}
    assert run.check().wrong_triggers == 1
    del run.actions[6]
    assert found(run.check()) == {"unanswered": 1}


def test_a_part_that_the_station_did_not_see_has_a_verdict_nevertheless() -> None:
    run = Run()
    run.parts[6] = Part(6, "S6", False, station=0)
    run.reject(6)
    assert found(run.check()) == {}
    run.outbox[6] = ("e1", 7, "", "PASS")
    assert found(run.check()) == {"unexplained_rejects": 1}


def test_rows_are_read_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE t (a, b)")
        database.execute("INSERT INTO t VALUES ('e', 1)")
    database.close()
    before = path.read_bytes()
    assert read_rows(path, "SELECT a, b FROM t") == [("e", 1)]
    assert path.read_bytes() == before
