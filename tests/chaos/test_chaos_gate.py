"""The gate of the chaos run rejects whatever has no PASS that is live."""

from __future__ import annotations

import io

import msgspec
import pytest

from edge_ad.chaos.checker import Action, Triggered
from edge_ad.chaos.gate import Gate, Signal

MS = 1_000_000
DUE = 1000 * MS


def acted(*signals: Signal, late_ns: int = 0) -> Action:
    log = io.BytesIO()
    gate = Gate(log, beat_ns=100 * MS)
    gate.come(Triggered(7, 0, DUE))
    for signal in signals:
        gate.hear(signal)
    gate.act(DUE - 1)
    assert log.getvalue() == b""
    gate.act(DUE + late_ns)
    assert gate.left == 0
    return msgspec.json.decode(log.getvalue(), type=Action)


def beat(before_ns: int = 10 * MS) -> Signal:
    return Signal("beat", "r1", DUE - before_ns)


def pass_(key: str = "S7", start: int = -5, end: int = 5, sent: int = -300, run: str = "r1") -> Signal:
    return Signal("pass", run, DUE + sent * MS, key, DUE + start * MS, DUE + end * MS)


def test_a_live_pass() -> None:
    assert acted(pass_(), beat()) == Action(7, DUE, True, "S7")


def test_nothing_was_said() -> None:
    assert not acted().passed
    assert not acted(beat()).passed


def test_a_pass_of_before_or_after() -> None:
    assert not acted(pass_(start=-9, end=-1), beat()).passed
    assert not acted(pass_(start=1, end=9), beat()).passed


def test_a_station_that_is_not_heard_of_any_more() -> None:
    assert not acted(pass_()).passed
    assert not acted(pass_(), beat(before_ns=101 * MS)).passed
    assert acted(pass_(), beat(before_ns=99 * MS)).passed


def test_a_station_that_was_started_again_has_promised_nothing() -> None:
    assert not acted(pass_(run="r0"), beat()).passed


@pytest.mark.parametrize("kind", ["shut", "revoke", "reject"])
def test_a_pass_that_was_taken_back(kind: str) -> None:
    assert not acted(pass_(), Signal(kind, "r1", DUE - 20 * MS, "S7"), beat()).passed


def test_two_at_once() -> None:
    assert not acted(pass_("S6"), pass_("S7"), beat()).passed


def test_a_gate_that_is_late_knows_nothing_more() -> None:
    assert not acted(beat(), pass_(sent=1, start=-5, end=60), late_ns=50 * MS).passed
    assert not acted(pass_(), beat(before_ns=-5 * MS), late_ns=50 * MS).passed
    assert acted(pass_(), beat(), late_ns=50 * MS).passed
