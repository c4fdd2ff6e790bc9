"""Parts at a steady pace up to the gate, with all that a line does besides: a subscriber to scores, a
scrape every second, evidence of rejects, and rejects in bursts.

A part is announced to camera and station at once, as if its sensor were both sides' own.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import zmq
from prometheus_client.parser import text_string_to_metric_families

from edge_ad.bench.delivery.line import CONSUMER, BenchLine, Program
from edge_ad.bench.delivery.quiet import Keys, Wire
from edge_ad.bench.delivery.result import Loaded, spread
from edge_ad.bench.load import Load, Taken
from edge_ad.delivery.consumer import Delivered
from edge_ad.delivery.station.messages import Announcer, GateReceiver, LineMessage
from edge_ad.errors import DeviceError

BURST, BURST_EVERY = 10, 100
BEFORE_MS, AFTER_MS = 4.0, 4.0  # of the gate's PASS
SHORTEST_PERIOD_MS = 12.0  # two parts must not be at the gate together
SHORTEST_TRAVEL_MS = 150.0
_END_S = 60.0
_UNHEARD = "part not announced to the station"
_TICK_MS = 200  # the link is kept alive so often at least


@dataclass(slots=True)
class _Part:
    good: bool
    t_ns: int
    wire_ns: int = 0  # when the bench had the verdict
    promised_ns: int = 0  # when the gate had the PASS
    verdict: str = ""


@dataclass(slots=True)
class _Seen:
    """What became of the parts, by their keys."""

    parts: dict[str, _Part] = field(default_factory=dict)
    acted: dict[str, tuple[str, int]] = field(default_factory=dict)  # action, when
    dropped: Counter[str] = field(default_factory=Counter)


def measure_loaded(
    line: BenchLine, daemon: Program, pool: int, rejected: Sequence[int], frames: int, path_ms: float
) -> Loaded:
    """`path_ms`: what a part takes from trigger to verdict; parts come every 1.5 times that. Raises
    DeviceError."""
    period_ms = max(SHORTEST_PERIOD_MS, 1.5 * path_ms)
    travel_ms = max(SHORTEST_TRAVEL_MS, 10 * period_ms)
    seen = _Seen()
    load = Load()
    with ExitStack() as stack:
        gate = GateReceiver(line.gate)
        stack.callback(gate.close)
        announcer = Announcer(line.present)
        stack.callback(announcer.close)
        wire = Wire(line.trigger, line.verdicts, CONSUMER)
        stack.callback(wire.close)
        wire.connect()
        station = line.station(travel_ms, BEFORE_MS, AFTER_MS)
        stack.callback(station.close)
        status = daemon.status()
        # What was told before is told to the station again, for its log.
        daemon.wait(lambda: _fetched(daemon, wire), "has verdicts that the station does not fetch")
        if not announcer.wait(20.0):
            raise DeviceError("the station does not listen to its sensor; run the bench again")
        load.connect(status["scores"], f"ipc://{line.state}/control.sock", status["metrics"])
        runner = _Runner(wire, announcer, gate, seen, Keys(pool), pool, rejected)
        runner.run(frames, int(period_ms * 1e6))
        runner.follow(int(travel_ms * 1e6))
        heard = frames - seen.dropped[_UNHEARD]
        station.wait(lambda: runner.look(0) and _gone(station, heard), "has parts left", _END_S)
        taken = load.finish()
        _count_drops(seen.dropped, daemon, station)
    seen.acted = _actions(line.log)
    return _summary(seen, taken, period_ms, travel_ms)


def _fetched(daemon: Program, wire: Wire) -> bool:
    wire.rest(0.0)
    consumers = daemon.status().get("verdicts", {}).get("consumers", {})
    return bool(consumers) and not any(c["depth"] for n, c in consumers.items() if n != CONSUMER)


def _gone(station: Program, parts: int) -> bool:
    status = station.status()
    return bool(status.get("parts", 0) >= parts and not status["on_belt"])


class _Runner:
    """Announces parts when they are due, and notes what comes; one thread, which waits for both."""

    def __init__(
        self,
        wire: Wire,
        announcer: Announcer,
        gate: GateReceiver,
        seen: _Seen,
        keys: Keys,
        pool: int,
        rejected: Sequence[int],
    ) -> None:
        self._wire, self._announcer, self._gate, self._seen = wire, announcer, gate, seen
        self._keys = keys
        self._good = [place for place in range(pool) if place not in set(rejected)]
        self._bad = list(rejected)
        self._poller = zmq.Poller()
        for socket in (wire.client.socket, wire.consumer.socket, gate.socket):
            self._poller.register(socket, zmq.POLLIN)

    def run(self, frames: int, period_ns: int) -> None:
        """Announce so many parts, one every period."""
        due = time.monotonic_ns() + period_ns
        for number in range(frames):
            while (left_ns := due - time.monotonic_ns()) > 0:
                self.look(min(_TICK_MS, left_ns // 1_000_000))
                left_ns = due - time.monotonic_ns()
                if 0 < left_ns < 1_000_000:  # shorter than a poll can be
                    time.sleep(left_ns / 1e9)
            good = number % BURST_EVERY < BURST_EVERY - BURST
            among = self._good if good else self._bad
            key = self._keys.of(among[number % len(among)])
            now = time.monotonic_ns()
            self._seen.parts[key] = _Part(good, now)
            self._wire.client.ask(key)
            if not self._announcer.send(LineMessage(part=key, t_ns=now)):
                self._seen.dropped[_UNHEARD] += 1
            due += period_ns

    def follow(self, travel_ns: int) -> None:
        """Note what comes until the last part is past the gate, and has its verdict."""
        past, end = time.monotonic_ns() + travel_ns, time.monotonic_ns() + int(_END_S * 1e9)
        while (not self.look(20) or time.monotonic_ns() < past) and time.monotonic_ns() < end:
            pass

    def look(self, timeout_ms: int) -> bool:
        """Note what has come, after waiting for it; whether every part has its verdict."""
        self._poller.poll(timeout_ms)
        parts = self._seen.parts
        for event in self._wire.consumer.receive():
            if isinstance(event, Delivered):
                self._wire.consumer.ack(event.header.epoch, event.header.seq)
                part = parts.get(event.header.part)
                if part is not None:
                    part.wire_ns, part.verdict = time.monotonic_ns(), event.body.verdict
        for message in self._gate.receive():
            part = parts.get(message.key)
            if message.kind == "pass" and part is not None:
                part.promised_ns = time.monotonic_ns()
        for _, reply in self._wire.client.replies():
            if not reply.accepted:
                self._seen.dropped[f"trigger {reply.reason}"] += 1
        return all(part.verdict for part in parts.values())


def _actions(log: Path) -> dict[str, tuple[str, int]]:
    """What the station says it did, by its log, which it has closed."""
    with closing(sqlite3.connect(log)) as database:
        rows = database.execute("SELECT key, action, t_ns FROM actions ORDER BY number").fetchall()
    return {key: (action, t_ns) for key, action, t_ns in rows}


def _count_drops(dropped: Counter[str], *programs: Program) -> None:
    """All counters of what was dropped, by their names, but for such that are 0."""
    for program in programs:
        with urlopen(program.status()["metrics"], timeout=10) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            if not family.name.endswith(("dropped", "skipped", "overflows", "unmatched", "missed")):
                continue
            for sample in family.samples:
                label = " ".join(sample.labels.values())
                # What was told again is nothing that is missing.
                if sample.value and label != "replayed":
                    dropped[f"{family.name} {label}".strip()] += int(sample.value)


def _summary(seen: _Seen, taken: Taken, period_ms: float, travel_ms: float) -> Loaded:
    travel_ns = int((travel_ms - BEFORE_MS) * 1e6)
    parts, acted = seen.parts, seen.acted
    done = [(part, *acted[key]) for key, part in parts.items() if key in acted]
    good = [part for part in parts.values() if part.good]
    return Loaded(
        period_ms=round(period_ms, 3),
        travel_ms=round(travel_ms, 3),
        burst=BURST,
        burst_every=BURST_EVERY,
        wire_pass=spread([p.wire_ns - p.t_ns for p in parts.values() if p.verdict == "PASS"]),
        wire_reject=spread([p.wire_ns - p.t_ns for p in parts.values() if p.verdict == "REJECT"]),
        promised=spread([p.promised_ns - p.t_ns for p in good if p.promised_ns]),
        action=spread([at - part.t_ns for part, _, at in done]),
        lateness=spread([at - part.t_ns - travel_ns for part, _, at in done]),
        good=len(good),
        bad=len(parts) - len(good),
        good_missed=len(good) - sum(part.good and action == "pass" for part, action, _ in done),
        bad_passed=sum(not part.good and action == "pass" for part, action, _ in done),
        without_action=len(parts) - len(done),
        scrapes=taken.scrapes,
        scrape_ms=round(taken.scrape_ms, 1),
        dropped=dict(seen.dropped),
    )
