"""The station at the gate: one thread that polls the line and the daemons, and acts.

Acting comes first and never waits: what was done is logged by a thread of its own, and only what is
logged is acknowledged to a daemon.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import zmq
from prometheus_client.registry import CollectorRegistry

from edge_ad import failpoints
from edge_ad.config.gate import Gate, VerdictSource
from edge_ad.delivery.consumer import (
    Delivered,
    Event,
    LinkDown,
    LinkUp,
    Lost,
    VerdictConsumer,
)
from edge_ad.delivery.control import Answer, ControlServer
from edge_ad.delivery.curve import client_keys
from edge_ad.delivery.endpoint import NEVER_REMOTE, check_peer
from edge_ad.delivery.lock import StateLock
from edge_ad.delivery.station.events import (
    Action,
    Alarm,
    LineStop,
    Pass,
    Promise,
    Reject,
    Resync,
    Revoke,
    Shut,
)
from edge_ad.delivery.station.inputs import Binned, Input, Kind, Seen, Signal, Turned, open_input
from edge_ad.delivery.station.log import StationLog
from edge_ad.delivery.station.metrics import StationMetrics, watch
from edge_ad.delivery.station.outputs import Output, open_output
from edge_ad.delivery.station.rules import rules_of
from edge_ad.delivery.station.tracker import GateTracker
from edge_ad.errors import DeliveryError, DeviceError
from edge_ad.metrics import MetricsServer
from edge_ad.supervisor import Supervisor

log = logging.getLogger("edge_ad.station")
_LONGEST_MS = 100.0  # between two looks at everything
_STALL_NS = 50_000_000


class Consumer(Protocol):
    """What the station needs of `VerdictConsumer`."""

    socket: Any

    def receive(self) -> list[Event]: ...

    def ack(self, epoch: str, seq: int) -> None: ...

    def close(self) -> None: ...

    @property
    def clock_offset(self) -> tuple[int, int]: ...


def connect(gate: Gate, source: VerdictSource, position: tuple[str, int] | None) -> Consumer:
    """The link to one daemon. Raises ConfigError for keys, and for a network without them."""
    keys = client_keys(gate.optional(gate.curve.secret), gate.optional(source.server_key))
    check_peer(
        gate.endpoint(source.endpoint), f"{gate.where}: source {source.name!r}: endpoint", keys,
        "set its server_key, and curve.secret ('edge-ad keys new gate -o keys/' makes it)",
    )  # fmt: skip
    return VerdictConsumer(
        gate.endpoint(source.endpoint), source.consumer, position,
        heartbeat_ms=source.heartbeat_ms, lost_ms=source.lost_ms, keys=keys,
    )  # fmt: skip


class Station:
    """One gate from `start` to the end of `run`. `stop` may be called by any thread and in a signal
    handler; everything else belongs to one thread.

    Raises DeliveryError (another station holds the state directory, an endpoint is in use) and
    DeviceError (GPIO, the log's disk). `clock` is CLOCK_MONOTONIC in ns; `wall` only labels.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        registry: CollectorRegistry | None = None,
        connect: Callable[[Gate, VerdictSource, tuple[str, int] | None], Consumer] = connect,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], int] = time.time_ns,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.gate = gate
        self._supervisor = supervisor or Supervisor()
        self._said = ""
        self.run_id = f"{wall():016x}-{secrets.token_hex(2)}"
        self.metrics = StationMetrics(registry or CollectorRegistry(), [s.name for s in gate.source])
        self._connect = connect
        self._clock = clock
        self._wall = wall
        self._rules = rules_of(gate)
        self._endpoints = {source.name: source.endpoint for source in gate.source}
        # A message that arrived while the station was not looking tells less than the gate needs.
        window = min(self._rules.before, self._rules.after)
        self._stall_ns = _STALL_NS if self._rules.by_counts else max(1_000_000, window)
        self._inbox: SimpleQueue[tuple[str, Future[Answer]]] = SimpleQueue()
        self._stopping = False
        self._event_fd = -1
        self._closing = ExitStack()
        self.consumers: dict[str, Consumer] = {}
        self._acked: dict[str, tuple[str, int]] = {}
        self._inputs: list[Input] = []
        self._beat_ns = self._looked_ns = 0

    def start(self) -> None:
        """Take the state directory, the line and the sockets; whatever was opened is closed again on an
        error."""
        with ExitStack() as stack:
            self._start(stack)
            self._closing = stack.pop_all()

    def run(self) -> None:
        """Act until `stop`. The gate is shut when this returns or raises."""
        try:
            self._looked_ns = self._clock()
            while not self._stopping:
                self._turn()
                self._supervisor.alive(0.0)
            self._supervisor.say("STOPPING=1")
        finally:
            with contextlib.suppress(DeviceError):  # it is what ends this, perhaps
                self.output.shut(self._clock())  # before the log waits for its disk
            self._closing.close()

    def stop(self) -> None:
        """Ask `run` to return. Returns at once."""
        self._stopping = True
        self._wake()

    @property
    def state(self) -> str:
        """LINE_STOP, LINK_DOWN, RESYNC or RUNNING."""
        needed = [self.tracker.links[source] for source in self._rules.required]
        if self.tracker.confirmations.line_stop:
            return "LINE_STOP"
        if not all(link.up for link in needed):
            return "LINK_DOWN"
        if self._rules.by_time and not all(link.synced for link in needed):
            return "RESYNC"
        return "RUNNING"

    def status(self) -> Answer:
        """What `edge-ad station status` shows."""
        tracker = self.tracker
        return {
            "station": self.gate.station,
            "state": self.state,
            "run": self.run_id,
            "parts": tracker.parts,
            "on_belt": tracker.on_belt,
            "line_stop": tracker.confirmations.line_stop,
            "sources": {
                name: {
                    "up": link.up,
                    "endpoint": self._endpoints[name],
                    "epoch": link.epoch,
                    "synced": link.synced,
                    "acked": self._acked.get(name),
                }
                for name, link in tracker.links.items()
            },
            "unmatched": dict(tracker.unmatched),
            "log": {"commits": self.log.commits, "failures": self.log.failures},
            "metrics": self.http.url,
        }

    def _start(self, stack: ExitStack) -> None:
        gate = self.gate
        self._inputs.clear()
        lock = StateLock(gate.state_path, "station")
        stack.callback(lock.release)
        # Before anything can act: a gate that stood open is shut.
        self.output: Output = open_output(gate.endpoint(gate.output.uri))
        stack.callback(self.output.close)
        self.log = StationLog(
            gate.state_path / "station.db", self.run_id, [s.name for s in gate.source],
            clock=self._clock, wall=self._wall, retention_hours=gate.log.retention_hours,
            max_megabytes=gate.log.max_megabytes,
        )  # fmt: skip
        stack.callback(self.log.close)
        self._rules = replace(self._rules, promises=self.output.promises)
        # A log that is damaged does not say any more whether the line was stopped: a person has to look.
        forgotten = bool(self.log.quarantined) and bool(self._rules.confirm_ns)
        self.tracker = GateTracker(self._rules, self.log.line_stop or forgotten)
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        stack.callback(self._forget_event)
        self._poller = zmq.Poller()
        for descriptor in (self._event_fd, self.log.wake):
            self._poller.register(descriptor, zmq.POLLIN)
        kinds: tuple[tuple[Kind, str], ...] = (
            ("encoder", gate.encoder.uri), ("present", gate.present.uri), ("confirm", gate.confirm.uri),
        )  # fmt: skip
        opened: set[str] = set()
        for kind, uri in kinds:
            if not uri or (uri in opened and not uri.startswith("gpio")):
                continue  # one socket takes messages of every kind
            opened.add(uri)
            line = open_input(gate.endpoint(uri), kind, f"{kind}.uri")
            stack.callback(line.close)
            self._inputs.append(line)
            self._poller.register(line.handle, zmq.POLLIN)
        for source in gate.source:
            consumer = self._connect(gate, source, self.log.positions[source.name])
            stack.callback(consumer.close)
            self.consumers[source.name] = consumer
            self._poller.register(consumer.socket, zmq.POLLIN)
        watch(self.metrics, self.tracker, self.log, self._inputs, self.output)
        self.http = MetricsServer(self.metrics.registry, gate.metrics.host, gate.metrics.port)
        stack.callback(self.http.close)
        control = ControlServer(gate.control_endpoint, self._ask, NEVER_REMOTE)
        stack.callback(control.close)
        control.start()
        now = self._clock()
        self.log.event("start", f"run {self.run_id}", now)
        self.output.shut(now)
        self.output.line_stop(self.tracker.confirmations.line_stop, now)
        log.info("%s: control %s, metrics %s", gate.station, control.endpoint, self.http.url)

    def _turn(self) -> None:
        """Wait for something, then do all that there is to do."""
        timeout_ns = self._wait_ns(self._clock())
        if timeout_ns >= 1_000_000:
            asked = self._clock()
            ready = {handle for handle, _ in self._poller.poll(timeout_ns // 1_000_000)}
            late = self._clock() - asked - timeout_ns
        else:
            time.sleep(timeout_ns / 1e9)
            ready = {handle for handle, _ in self._poller.poll(0)}
            asked, late = self._clock(), 0
        now = self._clock()
        # Between two looks nothing was read: when what is there came is not known.
        stalled = late > self._stall_ns or asked - self._looked_ns > self._stall_ns
        self._read_line(ready, now, stalled)
        for name, consumer in self.consumers.items():
            for event in consumer.receive():
                self._hear(name, event)
            if self._rules.match_ns:
                self.tracker.clock(name, *consumer.clock_offset)
        now = self._clock()
        self._do(self.tracker.tick(now), now)
        self.output.tick(now)
        if now >= self._beat_ns:
            self._beat_ns = now + int(self.gate.output.heartbeat_ms * 1e6)
            state = self.state
            self.output.beat(now, state != "LINK_DOWN", state)
            if state != self._said:
                self._said = state
                self._supervisor.say("READY=1", f"STATUS={state}")
        self._look_at_log(now)
        self._obey(now)
        self._looked_ns = self._clock()

    def _wait_ns(self, now: int) -> int:
        due = [now + int(_LONGEST_MS * 1e6), self._beat_ns]
        due += [t for t in (self.tracker.next_due(), self.output.due()) if t is not None]
        return max(0, min(due) - now)

    def _read_line(self, ready: set[Any], now: int, stalled: bool) -> None:
        signals: list[Signal] = []
        for line in self._inputs:
            if line.handle in ready:
                signals += line.read(now, stalled)
        # Where the belt was when a part was present: counts from before it go first.
        for signal in sorted(signals, key=lambda s: s.t_ns):
            if isinstance(signal, Seen):
                actions = self.tracker.present(
                    signal.key, signal.t_ns, now, signal.encoder, signal.stale
                )
            elif isinstance(signal, Turned):
                actions = self.tracker.encoder(signal.count, now)
            elif isinstance(signal, Binned):
                actions = self.tracker.confirmed(now)
            else:
                actions = [Alarm("input", signal.text), *self.tracker.desync(signal.text, now)]
            self._do(actions, now)

    def _hear(self, source: str, event: Event) -> None:
        now = self._clock()
        if isinstance(event, Delivered):
            self._do(self.tracker.verdict(source, event.header, event.body, event.live, now), now)
            self.log.verdict(source, event, now)
        elif isinstance(event, LinkUp):
            log.info("source %s: up in epoch %s", source, event.epoch)
            self._do(
                self.tracker.link_up(
                    source, event.station, event.epoch, event.offset_ns, event.uncertainty_ns, now
                ),
                now,
            )
        elif isinstance(event, LinkDown):
            self._do(self.tracker.link_down(source, event.why, now), now)
        elif isinstance(event, Lost):
            text = f"source {source!r}: verdicts {event.first} to {event.last} of {event.epoch} are lost"
            self._do([Alarm("lost", text)], now)
        else:
            text = f"source {source!r} does not talk to this station: {event.why}"
            self._do([*self.tracker.link_down(source, event.why, now), Alarm("refused", text)], now)

    def _do(self, actions: Iterable[Action], now: int) -> None:
        for action in actions:
            if isinstance(action, Pass | Reject):
                if failpoints.active:
                    failpoints.active.hit("station.act.before")
                if isinstance(action, Pass):
                    self.output.allow(action, now)
                else:
                    self.output.deny(action, now)
                if failpoints.active:
                    failpoints.active.hit("station.act.after")
                self.log.action(action, now)
                self.metrics.action(action, now)
            elif isinstance(action, Promise):
                self.output.promise(action, now)
            elif isinstance(action, Revoke):
                self.output.revoke(action, now)
            elif isinstance(action, Shut):
                self.output.shut(now, action.key)
            elif isinstance(action, LineStop):
                self.output.line_stop(action.on, now)
                on = "on" if action.on else "off"
                self.log.event("line_stop", on, now, ("line_stop", on))
            elif isinstance(action, Alarm):
                log.warning("%s", action.text)
                self.log.event(f"alarm {action.kind}", action.text, now)
                self.metrics.alarm(action.kind)
            elif isinstance(action, Resync):
                self.log.event(f"resync {action.source}", action.why, now)
                self.metrics.resync(action.source)

    def _look_at_log(self, now: int) -> None:
        if self.log.failed:
            raise DeviceError(self.log.failed)
        for source, (epoch, seq) in self.log.committed().items():
            self.consumers[source].ack(epoch, seq)
            self._acked[source] = (epoch, seq)
        for kind, text in self.log.told():
            # A log that lost what it knew proves nothing about what is on the belt.
            lost = self.tracker.desync("the log was damaged", now) if kind == "damaged" else []
            held = kind == "damaged" and self.tracker.confirmations.line_stop
            stop = [LineStop(True)] if held else []  # the new file does not know of it
            self._do([Alarm("log", text), *lost, *stop], now)

    def _ask(self, command: str, args: dict[str, Any]) -> Future[Answer]:
        """In the control thread."""
        if command not in ("status", "reset", "stop"):
            raise DeliveryError(f"no command is named {command!r}; have status, reset and stop")
        future: Future[Answer] = Future()
        self._inbox.put((command, future))
        self._wake()
        return future

    def _obey(self, now: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event_fd)
        with contextlib.suppress(Empty):
            while True:
                command, future = self._inbox.get_nowait()
                if command == "reset":
                    self.log.event("reset", "by a person", now)
                    self._do(self.tracker.reset(now), now)
                elif command == "stop":
                    self._stopping = True
                future.set_result(self.status())

    def _forget_event(self) -> None:
        """A late `stop` must not write to a descriptor that is another file's by then."""
        descriptor, self._event_fd = self._event_fd, -1
        os.close(descriptor)

    def _wake(self) -> None:
        if self._event_fd >= 0:  # else not started, or closed already
            os.eventfd_write(self._event_fd, 1)
