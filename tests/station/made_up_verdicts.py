"""Verdicts, rules and a fake of the verdict channel, for tests of the station at the gate."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_ad.delivery.station.events import Action, Pass, Reject, Rules
from edge_ad.delivery.station.tracker import GateTracker
from edge_ad.delivery.wire import VERSION, Header, ScoreBody

MS = 1_000_000
EPOCH = "0001-a"


def header(part: str, seq: int, **changes: Any) -> Header:
    """Of a part that was triggered as message."""
    plain = Header(VERSION, "line1", EPOCH, seq, part, 0, 0, "disc", "sha", trigger="message", count=seq)
    return msgspec.structs.replace(plain, **changes)


def body(verdict: str = "PASS", reason: str = "") -> ScoreBody:
    return ScoreBody(verdict, reason)


def rules(**changes: Any) -> Rules:
    """A gate 300 ms behind the sensor, with verdicts due after 200 ms."""
    plain: dict[str, Any] = {
        "station": "line1",
        "sources": ("main",),
        "required": frozenset({"main"}),
        "travel": 300 * MS,
        "before": 10 * MS,
        "after": 20 * MS,
        "deadline_ns": 200 * MS,
    }
    return Rules(**{**plain, **changes})


class Belt:
    """A tracker with its link up at 1 ms, and all that it asked for."""

    def __init__(self, up: bool = True, line_stop: bool = False, **changes: Any) -> None:
        self.tracker = GateTracker(rules(**changes), line_stop)
        self.actions: list[Action] = []
        if up:
            for source in self.tracker.rules.sources:
                self.up(1, source)

    def up(self, ms: float, source: str = "main", station: str = "line1", epoch: str = EPOCH) -> None:
        self.actions += self.tracker.link_up(source, station, epoch, 0, 0, int(ms * MS))

    def present(self, ms: float, key: str | None, encoder: int | None = None, **more: Any) -> None:
        now = int(ms * MS)
        self.actions += self.tracker.present(key, now, now, encoder, **more)

    def verdict(
        self, ms: float, part: str, seq: int, verdict: str = "PASS", reason: str = "",
        live: bool = True, source: str = "main", **changes: Any,
    ) -> None:  # fmt: skip
        told = header(part, seq, **changes)
        self.actions += self.tracker.verdict(source, told, body(verdict, reason), live, int(ms * MS))

    def tick(self, ms: float) -> None:
        self.actions += self.tracker.tick(int(ms * MS))

    def of(self, kind: type) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]

    @property
    def ends(self) -> list[str]:
        """Every part's end: "A pass", "B not_pass score"."""
        return [
            f"{a.key} pass" if isinstance(a, Pass) else f"{a.key} {a.why} {a.detail}".strip()
            for a in self.actions
            if isinstance(a, Pass | Reject)
        ]
