"""A handshake with a PLC and a daemon that do as they are told, on a clock of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_ad.delivery.plc.codes import MAP_VERSION
from edge_ad.delivery.plc.handshake import Action, Handshake, Timing
from edge_ad.delivery.plc.signals import Inputs, Outputs
from edge_ad.delivery.wire import VERSION, Header, ScoreBody

MS = 1_000_000
TIMING = Timing(deadline_ns=500 * MS, ack_ns=2000 * MS, plc_ns=1000 * MS)


def verdict(
    part: str,
    word: str = "PASS",
    reason: str = "",
    product: str = "plate",
    advisory: bool = False,
    seq: int = 1,
    epoch: str = "e1",
) -> tuple[Header, ScoreBody]:
    header = Header(
        VERSION, "line1", epoch, seq, part, 0, 0, product, "sha", "message", advisory=advisory
    )
    return header, ScoreBody(word, reason)


class Rig:
    """`say` changes what the PLC says and lets a step pass; its heartbeat goes by itself."""

    def __init__(self, timing: Timing = TIMING, up: bool = True) -> None:
        self.handshake = Handshake(timing)
        self.now = 10_000 * MS
        self.inputs = Inputs(map_version=MAP_VERSION, enable=True)
        self.actions: list[Action] = []
        self.beating = True
        self.out = Outputs()
        if up:
            self.handshake.link_up("e1", "plate", self.now)
            self.say()
            self.say()

    def say(self, ms: float = 10, **changes: Any) -> Outputs:
        self.now += int(ms * MS)
        beat = (self.inputs.heartbeat + self.beating) & 0xFFFF
        self.inputs = replace(self.inputs, heartbeat=beat, **changes)
        self.out = self.handshake.step(self.inputs, self.now)
        self.actions += self.handshake.take()
        return self.out

    def trigger(self, part: str, answered: bool = True, **changes: Any) -> Outputs:
        count = (self.inputs.count + 1) & 0xFFFF
        self.say(part=part, count=changes.pop("count", count), trigger=True, **changes)
        if answered:
            self.handshake.replied(part, True, "", self.now)
        return self.say(trigger=False)

    def judge(self, part: str, word: str = "PASS", live: bool = True, **more: Any) -> bool:
        header, body = verdict(part, word, **more)
        return self.handshake.delivered(header, body, live, self.now)

    def take(self, part: str) -> tuple[int, int]:
        """Acknowledge the result of a part; its verdict and reason."""
        assert self.out.result_valid and self.out.part == part
        told = (int(self.out.verdict), self.out.reason)
        self.say(ack=True)
        self.say(ack=False)
        return told
