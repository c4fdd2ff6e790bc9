"""A running station in this process, with a scripted verdict channel, a real line and a real gate."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

import zmq
from made_up_verdicts import EPOCH, body, header

from edge_ad.config.gate import Gate, VerdictSource, parse_gate
from edge_ad.delivery.consumer import Delivered, Event, LinkDown, LinkUp
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.station.messages import Announcer, GateMessage, GateReceiver
from edge_ad.delivery.station.run import Station
from edge_ad.errors import DeliveryError

T = TypeVar("T")


class FakeConsumer:
    """Has the interface of VerdictConsumer and tells what is put into it."""

    clock_offset = (0, 0)

    def __init__(self, position: tuple[str, int] | None) -> None:
        self.position = position
        self.acked: list[tuple[str, int]] = []
        self.closed = False
        self._events: SimpleQueue[Event] = SimpleQueue()
        address = f"inproc://fake-{id(self)}"
        self.socket = zmq.Context.instance().socket(zmq.PULL)
        self.socket.bind(address)
        self._wake = zmq.Context.instance().socket(zmq.PUSH)
        self._wake.connect(address)

    def tell(self, *events: Event) -> None:
        for event in events:
            self._events.put(event)
            self._wake.send(b"")

    def receive(self) -> list[Event]:
        while self.socket.poll(0):
            self.socket.recv()
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def ack(self, epoch: str, seq: int) -> None:
        self.acked.append((epoch, seq))

    def close(self) -> None:
        self.closed = True
        self._wake.close(linger=0)
        self.socket.close(linger=0)


def gate_of(directory: Path, **tables: Any) -> Gate:
    """A gate 400 ms behind the sensor that allows for slow machines: it is open for half a second."""
    table: dict[str, Any] = {
        "schema": 1,
        "station": "line1",
        "state_dir": str(directory / "gate"),
        "source": [{"name": "main", "endpoint": f"ipc://{directory}/verdicts.sock"}],
        "belt": {"travel_ms": 1000.0, "before": 100.0, "after": 400.0, "deadline_ms": 1000.0},
        "identity": {"match_ms": 20_000.0},
        "present": {"uri": f"ipc://{directory}/present.sock"},
        "output": {"uri": f"ipc://{directory}/gate.sock", "heartbeat_ms": 20.0},
        "metrics": {"port": 0},
    }
    for name, changes in tables.items():
        table[name] = {**table.get(name, {}), **changes} if isinstance(changes, dict) else changes
    return parse_gate(table)


def patiently(make: Callable[[], T]) -> T:
    """ZeroMQ closes sockets a little after it is asked to: the next one may have to wait."""
    end = time.monotonic() + 10
    while True:
        try:
            return make()
        except DeliveryError as error:
            if "in use" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


class Rig:
    """Context manager around a station in a thread."""

    def __init__(self, directory: Path, **tables: Any) -> None:
        self.gate_toml = gate_of(directory, **tables)
        self.said: list[GateMessage] = []
        self.error: BaseException | None = None
        self._seq = 0
        self.options: dict[str, Any] = {}
        self.links: dict[str, FakeConsumer] = {}

    def _connect(
        self, gate: Gate, source: VerdictSource, position: tuple[str, int] | None
    ) -> FakeConsumer:
        self.links[source.name] = FakeConsumer(position)
        return self.links[source.name]

    def __enter__(self) -> Rig:
        self.gate = patiently(lambda: GateReceiver(self.gate_toml.output.uri, lost_ms=5000))
        self.station = Station(self.gate_toml, connect=self._connect, **self.options)
        patiently(self.station.start)
        self.announcer = Announcer(self.gate_toml.present.uri)
        assert self.announcer.wait()
        self.control = ControlClient(self.gate_toml.control_endpoint)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.station.run()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.station.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.control.close()
        self.announcer.close()
        self.gate.close()

    def up(self, source: str = "main", station: str = "line1", epoch: str = EPOCH) -> None:
        """The link comes up, and the station knows it."""
        self.links[source].tell(LinkUp(station, "disc", epoch, 0, 0))
        self.until(lambda: self.station.tracker.links[source].epoch == epoch or station != "line1")

    def down(self, source: str = "main") -> None:
        self.links[source].tell(LinkDown("no heartbeat"))

    def verdict(
        self, part: str, verdict: str = "PASS", reason: str = "", live: bool = True, **changes: Any
    ) -> int:
        """The daemon's verdict; returns its number."""
        self._seq += 1
        changes.setdefault("t_trigger_ns", time.monotonic_ns())
        told = Delivered(header(part, self._seq, **changes), body(verdict, reason), live)
        self.links["main"].tell(told)
        return self._seq

    def heard(self, number: int) -> None:
        """Wait until the station has a verdict, and has told the daemon so."""
        self.until(lambda: (EPOCH, number) in self.links["main"].acked)

    def listen(self, *kinds: str, until: Callable[[GateMessage], bool], timeout_s: float = 20) -> None:
        """Take what the gate is told, until something."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for message in self.gate.receive(0.1):
                self.said.append(message)
                if message.kind in kinds and until(message):
                    return
        raise AssertionError(
            f"the gate was not told: {[(m.kind, m.key, m.why) for m in self.said[-9:]]}"
        )

    def told(self, *kinds: str) -> list[str]:
        """What the gate was told of parts: "pass A", "reject B late"."""
        return [f"{m.kind} {m.key} {m.why}".strip() for m in self.said if m.kind in kinds]

    def ends(self, *keys: str) -> list[str]:
        """Wait until all of these parts have ended; how each did."""
        self.until(lambda: len(self.actions()) >= len(keys))
        return self.actions()

    def actions(self) -> list[str]:
        """The log's actions."""
        path = self.gate_toml.state_path / "station.db"
        database = sqlite3.connect(path)
        try:
            rows = database.execute("SELECT key, action, why FROM actions ORDER BY rowid").fetchall()
        except sqlite3.OperationalError:  # it is being made
            return []
        finally:
            database.close()
        return [" ".join(row).strip() for row in rows]

    def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Poll until true, taking what the gate is told."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            self.said += self.gate.receive(0.01)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.station.metrics.registry.get_sample_value(f"edge_ad_station_{name}", labels)
