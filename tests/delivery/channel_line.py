"""A verdict server in this process with a real outbox and a real socket, and consumers of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
import zmq
from prometheus_client.registry import CollectorRegistry

from edge_ad.delivery.consumer import Delivered, Event, VerdictConsumer
from edge_ad.delivery.outbox import Outbox, Record
from edge_ad.delivery.outcome import Outcome
from edge_ad.delivery.verdicts import VerdictServer
from edge_ad.metrics import Metrics
from edge_ad.verdict import Decision, Reason, Verdict

PATIENCE_S = 30.0


def record(seq: int, decision: str = "PASS", body: bytes = b"{}") -> Record:
    return Record(seq, f"P{seq}", decision, b'{"seq":%d}' % seq, body, seq)


def outcome(seq: int, decision: Decision = Decision.PASS) -> Outcome:
    """A judged part."""
    passed = decision is Decision.PASS
    verdict = Verdict(
        decision,
        Reason.NONE if passed else Reason.SCORE,
        10.0 if passed else 30.0,
        20.0,
        "top",
        np.ones((1, 9), np.float32),
    )
    now = time.monotonic_ns()
    return Outcome(
        seq, f"P{seq}", now, time.time_ns(), now, verdict, "valve", "ab" * 32, 0, (0, 0, 0, 0, 0)
    )


def open_box(path: Path, epoch: str, consumers: tuple[str, ...] = ("gate",), **options: int) -> Outbox:
    return Outbox(path / "outbox.db", epoch, consumers, time.monotonic_ns, time.time_ns, **options)


class Server:
    """Context manager around a verdict server; `offer` numbers parts from 1."""

    def __init__(
        self,
        state: Path,
        epoch: str = "e1",
        consumers: tuple[str, ...] = ("gate",),
        endpoint: str = "",
        heartbeat_ms: float = 50.0,
        lost_ms: float = 2000.0,
        **options: int,
    ) -> None:
        self.told: list[tuple[str, str]] = []
        self.fatal: list[str] = []
        self.registry = CollectorRegistry()
        self.outbox = open_box(state, epoch, consumers, **options)
        self.server = VerdictServer(
            endpoint or f"ipc://{state / 'verdicts.sock'}", self.outbox, "line1", epoch, lambda: "valve",
            Metrics(self.registry, 500.0), time.monotonic_ns, lambda *said: self.told.append(said),
            self.fatal.append, heartbeat_ms, lost_ms,
        )  # fmt: skip
        self.endpoint = self.server.endpoint
        self.seq = 0

    def __enter__(self) -> Server:
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.close()

    def offer(self, count: int, decision: Decision = Decision.PASS) -> None:
        for _ in range(count):
            self.seq += 1
            self.server.offer(outcome(self.seq, decision))

    def committed(self, seq: int) -> None:
        """Wait until this one is kept."""
        until(lambda: self.outbox.last >= (self.outbox.epoch_id, seq))


class Client:
    """A consumer that notes what it is told; `acks` at once unless told otherwise."""

    def __init__(self, endpoint: str, name: str = "gate", acks: bool = True, **options: object) -> None:
        options = {"heartbeat_ms": 50.0, "lost_ms": 2000.0, **options}
        self.consumer = VerdictConsumer(endpoint, name, **options)  # type: ignore[arg-type]
        self.acks = acks
        self.events: list[Event] = []
        self._poller = zmq.Poller()
        self._poller.register(self.consumer.socket, zmq.POLLIN)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.consumer.close()

    def step(self) -> None:
        self._poller.poll(10)
        for event in self.consumer.receive():
            self.events.append(event)
            if self.acks and isinstance(event, Delivered):
                self.consumer.ack(event.header.epoch, event.header.seq)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, self.events[-5:]
            self.step()

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def wait(self, kind: type, count: int = 1) -> list[Event]:
        """The events of this kind, once there are so many."""
        self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    @property
    def had(self) -> list[tuple[str, int, bool]]:
        """Verdicts so far: epoch, seq, live."""
        return [(e.header.epoch, e.header.seq, e.live) for e in self.events if isinstance(e, Delivered)]

    def get(self, count: int) -> list[tuple[str, int, bool]]:
        """Verdicts, once there are so many."""
        self.until(lambda: len(self.had) >= count)
        return self.had


def until(condition: Callable[[], bool]) -> None:
    """Poll until true."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
