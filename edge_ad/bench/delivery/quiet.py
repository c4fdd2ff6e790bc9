"""One part at a time: trigger to verdict on the wire, beside the inspector, the engine and the commit
alone.

The four take turns in blocks within one run, as the machine's speed drifts. After each measurement
there is a pause of half its time, so that neither pays for what the other left to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import zmq

from edge_ad.bench.delivery.line import CONSUMER
from edge_ad.bench.delivery.result import Quiet, Spread, spread
from edge_ad.capture.parts import part_key
from edge_ad.delivery import wire
from edge_ad.delivery.consumer import Delivered, LinkUp, VerdictConsumer
from edge_ad.delivery.outbox import Outbox, Record
from edge_ad.delivery.trigger import TriggerClient
from edge_ad.errors import DeviceError

BLOCK = 10  # parts in a turn
REJECTS = 2  # of them
PATIENCE_NS = 30_000_000_000
_SHORTEST_S = 0.001
_AT = ("p50", "p10")


class Keys:
    """Part keys, none twice, each of a picture of the camera's pool."""

    def __init__(self, pool: int) -> None:
        self._pool = pool
        self._round = 0

    def of(self, picture: int) -> str:
        """The next key whose part looks so."""
        self._round += 1
        return part_key(self._round * self._pool + picture)


class Wire:
    """Both ends of the daemon, in one thread: who announces parts, and who consumes their verdicts."""

    def __init__(self, trigger: str, verdicts: str, consumer: str) -> None:
        self.client = TriggerClient(trigger)
        self.consumer = VerdictConsumer(verdicts, consumer, credit=256)
        self._poller = zmq.Poller()
        self._poller.register(self.consumer.socket, zmq.POLLIN)

    def connect(self) -> None:
        """Wait until the daemon is heard, and would hear. Raises DeviceError."""
        end = time.monotonic_ns() + PATIENCE_NS
        while time.monotonic_ns() < end:
            self._poller.poll(50)
            up = any(isinstance(event, LinkUp) for event in self.consumer.receive())
            if up and self.client.socket.poll(int(PATIENCE_NS / 1e6), zmq.POLLOUT):
                return
        raise DeviceError("the daemon is not heard; run the bench again")

    def ask(self, key: str) -> tuple[int, Delivered]:
        """Announce a part; its verdict, and how long that took, ns. Raises DeviceError."""
        clock = time.monotonic_ns
        start = clock()
        self.client.ask(key)
        while clock() - start < PATIENCE_NS:
            self._poller.poll(200)
            for event in self.consumer.receive():
                if isinstance(event, Delivered) and event.header.part == key:
                    took = clock() - start
                    self.consumer.ack(event.header.epoch, event.header.seq)
                    return took, event
        raise DeviceError(
            f"no verdict of part {key} within {PATIENCE_NS / 1e9:g} s; run the bench again"
        )

    def rest(self, seconds: float) -> None:
        """Do nothing but keep the link alive."""
        time.sleep(seconds)
        self.consumer.receive()
        self.client.replies()

    def close(self) -> None:
        """Idempotent."""
        self.client.close()
        self.consumer.close()


class Commits:
    """Commits alone, into an outbox of their own on the same disk."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._outbox = Outbox(
            directory / "outbox.db", "bench", (CONSUMER,), time.monotonic_ns, time.time_ns
        )
        self._seq = 0

    def add(self, told: Delivered) -> int:
        """Commit once more what this verdict has in it; returns how long that took, ns."""
        self._seq += 1
        header, body = wire.encode(told.header), wire.encode(told.body)
        record = Record(self._seq, told.header.part, told.body.verdict, header, body, time.time_ns())
        start = time.monotonic_ns()
        self._outbox.add([record])
        return time.monotonic_ns() - start

    def close(self) -> None:
        """Idempotent."""
        self._outbox.close()


class QuietRun:
    """Measures in blocks; `result` has the figures. `rejected`: the pictures of the pool that do not
    pass; `inspect` tells how long it took, ns."""

    def __init__(
        self,
        wire: Wire,
        commits: Commits,
        pool: int,
        rejected: Sequence[int],
        inspect: Callable[[int], int],
        infer: Callable[[], object],
    ) -> None:
        self._wire = wire
        self._commits = commits
        self._good = [place for place in range(pool) if place not in set(rejected)]
        self._bad = list(rejected)
        self._inspect = inspect
        self._infer = infer
        self._keys = Keys(pool)
        self._turn = 0
        self._times: dict[str, list[int]] = {}

    def block(self) -> None:
        """One turn of each."""
        pictures = [self._picture(self._good, place) for place in range(BLOCK - REJECTS)]
        pictures += [self._picture(self._bad, place) for place in range(REJECTS)]
        told: list[Delivered] = []
        for picture in pictures:
            took, event = self._wire.ask(self._keys.of(picture))
            expected = "REJECT" if picture in self._bad else "PASS"
            if event.body.verdict != expected:
                raise DeviceError(
                    f"part {event.header.part} is {event.body.verdict} {event.body.reason}, not "
                    f"{expected} as its picture; run the bench again"
                )
            self._note(f"wire {expected}", took)
            self._note(f"judged {expected}", int(event.body.latency_ms * 1e6))
            told.append(event)
        for picture in pictures:
            expected = "REJECT" if picture in self._bad else "PASS"
            self._note(f"inspector {expected}", self._inspect(picture))
        for _ in pictures:
            start = time.monotonic_ns()
            self._infer()
            self._note("engine", time.monotonic_ns() - start)
        for event in told:
            self._note(f"commit {event.body.verdict}", self._commits.add(event))
        self._turn += 1

    def forget(self) -> None:
        """What was measured so far was for warming up."""
        self._times.clear()

    def result(self) -> Quiet:
        """The figures of all blocks."""
        spreads = {name: spread(times) for name, times in self._times.items()}
        added, added_p10 = (_less(spreads["wire PASS"], spreads["inspector PASS"], k) for k in _AT)
        bound, bound_p10 = (
            0.1 * getattr(spreads["engine"], k) + getattr(spreads["commit PASS"], k) for k in _AT
        )
        return Quiet(
            engine=spreads["engine"],
            inspector_pass=spreads["inspector PASS"],
            inspector_reject=spreads["inspector REJECT"],
            wire_pass=spreads["wire PASS"],
            wire_reject=spreads["wire REJECT"],
            judged_pass=spreads["judged PASS"],
            judged_reject=spreads["judged REJECT"],
            commit_pass=spreads["commit PASS"],
            commit_reject=spreads["commit REJECT"],
            added_pass=added,
            added_pass_p10=added_p10,
            added_reject=_less(spreads["wire REJECT"], spreads["inspector REJECT"], "p50"),
            bound=round(bound, 4),
            bound_p10=round(bound_p10, 4),
            within=added <= bound,
        )

    def _picture(self, among: Sequence[int], place: int) -> int:
        return among[(self._turn * BLOCK + place) % len(among)]

    def _note(self, name: str, took_ns: int) -> None:
        self._times.setdefault(name, []).append(took_ns)
        if not name.startswith("judged"):
            self._wire.rest(max(_SHORTEST_S, took_ns / 2e9))


def _less(one: Spread, other: Spread, at: str) -> float:
    return round(float(getattr(one, at) - getattr(other, at)), 4)
