"""`edge-ad plc`: one loop between the fieldbus, the daemon and the disk."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import zmq
from prometheus_client.registry import CollectorRegistry

from edge_ad import __version__, failpoints
from edge_ad.config.plc import Plc
from edge_ad.delivery.consumer import Delivered, Event, LinkDown, LinkUp, Lost, Refused, VerdictConsumer
from edge_ad.delivery.control import Answer, ControlServer
from edge_ad.delivery.curve import client_keys
from edge_ad.delivery.endpoint import NEVER_REMOTE, check_peer
from edge_ad.delivery.lock import StateLock
from edge_ad.delivery.plc.codes import Error
from edge_ad.delivery.plc.fieldbus import Fieldbus, make_fieldbus
from edge_ad.delivery.plc.handshake import (
    Announce,
    AskProduct,
    Closed,
    Handshake,
    Raised,
    Shown,
    Timing,
)
from edge_ad.delivery.plc.metrics import PlcMetrics
from edge_ad.delivery.plc.product import Making, ProductDesk
from edge_ad.delivery.plc.signals import Outputs
from edge_ad.delivery.plc.store import Heard, Recorder, Told
from edge_ad.delivery.trigger import TriggerClient, TriggerReply
from edge_ad.errors import DeliveryError
from edge_ad.metrics import MetricsServer
from edge_ad.supervisor import Supervisor

log = logging.getLogger("edge_ad")
_ROUNDS = 4  # exchanges in a row, while what is said changes what is told
_CREDIT = 64  # verdicts that may wait for the disk


def timing(plc: Plc) -> Timing:
    """The handshake's times, from the configuration."""
    times = plc.handshake
    return Timing(
        deadline_ns=int(times.deadline_ms * 1e6),
        ack_ns=int(times.ack_ms * 1e6),
        plc_ns=int(times.plc_ms * 1e6),
        beat_ns=int(times.heartbeat_ms * 1e6),
        depth=times.depth,
        keys=times.remember_keys,
    )


class Bridge:
    """One PLC's bridge, from `start` to the end of `run`. Other threads may call `stop` and `status`.
    Raises ConfigError for the fieldbus."""

    def __init__(
        self,
        plc: Plc,
        *,
        fieldbus: Fieldbus | None = None,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], int] = time.time_ns,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.plc = plc
        self._supervisor = supervisor or Supervisor()
        self._clock, self._wall = clock, wall
        self._fieldbus = fieldbus or make_fieldbus(plc.fieldbus.kind, plc.fieldbus.options, plc.where)
        self.metrics = PlcMetrics(registry or CollectorRegistry())
        self.handshake = Handshake(timing(plc))
        self._outputs = Outputs()
        self._asked: dict[str, str] = {}  # request's id -> part
        self._up: LinkUp | None = None  # as the verdict channel says
        self._linked: LinkUp | None = None  # as the handshake was told
        self._recording = True
        self._stop = threading.Event()
        self._closing = ExitStack()
        self._counts = {"triggers": 0, "results": 0, "passed": 0, "replayed": 0}
        self._last_error = ""
        self.address = self.url = ""

    def start(self) -> None:
        """Take the state directory and the ports, begin to look for PLC and daemon.

        Raises DeviceError or DeliveryError; what was opened is closed again then.
        """
        with ExitStack() as stack:
            self._start(stack)
            self._closing = stack.pop_all()
        log.info("%s: %s, metrics %s", self.plc.name, self.address, self.url)

    def run(self) -> int:
        """Until `stop`; the exit code."""
        try:
            self._supervisor.say("READY=1")
            while not self._stop.is_set():
                self.turn()
                self._supervisor.alive(0.0)
            self._supervisor.say("STOPPING=1")
            # The PLC sees at once that nobody is ready, not only when the heartbeat stands still.
            self._fieldbus.exchange(Outputs(heartbeat=self._outputs.heartbeat))
            time.sleep(2 * self.plc.handshake.poll_ms / 1000)
        finally:
            self._closing.close()
        log.info("stopped after %d triggers", self._counts["triggers"])
        return 0

    def stop(self) -> None:
        """Ask `run` to return. Returns at once; safe in a signal handler."""
        self._stop.set()

    def status(self) -> Answer:
        """What `status` on the control socket answers."""
        outputs = self._outputs
        return {
            "state": outputs.state.name,
            "name": self.plc.name,
            "pid": os.getpid(),
            "version": __version__,
            "fieldbus": self.address,
            "metrics": self.url,
            "daemon_up": self._linked is not None,
            "plc_up": self.handshake.alive,
            "product": outputs.product,
            "ready": outputs.ready,
            "error": outputs.error_code.name.lower(),
            "last_error": self._last_error,
            "recording": self._recording,
            **self._counts,
        }

    def turn(self) -> None:
        """One round: wait for at most poll_ms, hear everyone, tell everyone."""
        self._poller.poll(max(1, round(self.plc.handshake.poll_ms)))
        now = self._clock()
        for event in self._consumer.receive():
            self._hear(event, now)
        self._watch_link(now)
        for number, reply in self._triggers.replies():
            self._answered(number, reply, now)
        for news in self._desk.news():
            if isinstance(news, Making):
                self.handshake.product_is(news.product)
            else:
                self.handshake.product_refused(news.product, now)
        self._watch_records(now)
        for _ in range(_ROUNDS):
            inputs = self._fieldbus.exchange(self._outputs)
            before, self._outputs = self._outputs, self.handshake.step(inputs, self._clock())
            for action in self.handshake.take():
                self._do(action)
            if self._outputs == before:
                break
        self.metrics.outputs(self._outputs, self.handshake.alive)

    def _start(self, stack: ExitStack) -> None:
        plc = self.plc
        stack.callback(self._fieldbus.close)
        stack.callback(StateLock(plc.state_path, "bridge").release)
        self._recorder = Recorder(plc.state_path, plc.records.keep)
        stack.callback(self._recorder.close)
        keys = client_keys(plc.optional(plc.curve.secret), plc.optional(plc.daemon.server_key))
        for name in ("verdicts", "trigger", "control"):
            check_peer(
                plc.endpoint(getattr(plc.daemon, name)), f"{plc.where}: daemon.{name}", keys,
                "set daemon.server_key, and curve.secret ('edge-ad keys new plc -o keys/' makes it)",
            )  # fmt: skip
        self._consumer = VerdictConsumer(
            plc.endpoint(plc.daemon.verdicts), plc.name, self._recorder.position, credit=_CREDIT,
            heartbeat_ms=plc.daemon.heartbeat_ms, lost_ms=plc.daemon.lost_ms, clock=self._clock,
            keys=keys,
        )  # fmt: skip
        stack.callback(self._consumer.close)
        self._triggers = TriggerClient(plc.endpoint(plc.daemon.trigger), keys=keys)
        stack.callback(self._triggers.close)
        self._desk = ProductDesk(plc.endpoint(plc.daemon.control), keys)
        stack.callback(self._desk.close)
        http = MetricsServer(self.metrics.registry, plc.metrics.host, plc.metrics.port)
        stack.callback(http.close)
        self.url = http.url
        control = ControlServer(plc.control_endpoint, self._command, NEVER_REMOTE)
        stack.callback(control.close)
        self.address = self._fieldbus.open()
        self._poller = zmq.Poller()
        self._poller.register(self._consumer.socket, zmq.POLLIN)
        self._poller.register(self._triggers.socket, zmq.POLLIN)
        if self._fieldbus.fileno() >= 0:
            self._poller.register(self._fieldbus.fileno(), zmq.POLLIN)
        self._recorder.start()
        self._desk.start()
        control.start()

    def _command(self, command: str, args: dict[str, Any]) -> Answer | Future[Answer]:
        if command == "status":
            return self.status()
        if command == "stop":
            self.stop()
            return {}
        raise DeliveryError(f"unknown command {command!r}: 'edge-ad plc' knows status and stop")

    def _hear(self, event: Event, now: int) -> None:
        if isinstance(event, Delivered):
            self._delivered(event, now)
        elif isinstance(event, LinkUp):
            self._up = event
            log.info("daemon of %s: up, epoch %s", event.station, event.epoch)
        elif isinstance(event, Lost):
            number = max(1, event.last - event.first + 1)
            self.metrics.lost.inc(number)
            log.error(
                "epoch %s: the daemon no longer has verdicts %d to %s", event.epoch, event.first,
                event.last or "its end",
            )  # fmt: skip
        elif isinstance(event, (LinkDown, Refused)):
            log.warning("daemon: %s", event.why)
            self._up = None

    def _watch_link(self, now: int) -> None:
        """The daemon is there when its verdicts come and a trigger would reach it."""
        reachable = int(self._triggers.socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT
        up = self._up if reachable else None
        if up is self._linked:
            return
        self._linked = up
        self.metrics.link_up.set(up is not None)
        if up is None:
            self.handshake.link_down(now)
        else:
            self.handshake.link_up(up.epoch, up.product, now)

    def _delivered(self, event: Delivered, now: int) -> None:
        header, body = event.header, event.body
        used = self.handshake.delivered(header, body, event.live, now)
        self.metrics.verdict(used, event.live)
        self._counts["replayed"] += not event.live
        self._recorder.put(
            Heard(
                header.epoch, header.seq, header.part, body.verdict, body.reason, header.product,
                event.live, used,
            )
        )  # fmt: skip

    def _answered(self, number: str, reply: TriggerReply, now: int) -> None:
        part = self._asked.pop(number, None)
        if part is None:
            return
        if not reply.accepted:
            self.metrics.refused.inc()
            log.warning("part %s: not accepted by the daemon (%s) %s", part, reply.reason, reply.text)
        self.handshake.replied(part, reply.accepted, reply.reason, now)

    def _watch_records(self, now: int) -> None:
        if self._recorder.works != self._recording:
            self._recording = self._recorder.works
            self.handshake.recording(self._recording, now)
        committed = self._recorder.committed()
        if committed is not None:
            if failpoints.active:
                failpoints.active.hit("plc.ack")
            self._consumer.ack(*committed)

    def _do(self, action: Announce | AskProduct | Shown | Closed | Raised) -> None:
        if isinstance(action, Announce):
            self._counts["triggers"] += 1
            self.metrics.triggers.inc()
            if len(self._asked) >= 4 * self.plc.handshake.depth:  # of answers that never came
                del self._asked[next(iter(self._asked))]
            self._asked[self._triggers.ask(action.part, action.product)] = action.part
        elif isinstance(action, Shown):
            if failpoints.active:
                failpoints.active.hit("plc.shown")
            self.metrics.result(action.verdict, action.reason, action.took_ns / 1e9)
        elif isinstance(action, Closed):
            self._counts["results"] += 1
            self._counts["passed"] += action.verdict == 1
            if not action.acknowledged:
                self.metrics.withdrawn.inc()
            self._recorder.put(
                Told(
                    action.part, action.count, int(action.verdict), action.reason, action.acknowledged,
                    self._wall(),
                )
            )  # fmt: skip
        elif isinstance(action, AskProduct):
            log.info("product %r is asked for", action.product)
            self._desk.ask(action.product)
        else:
            self.metrics.error(action.error)
            self._last_error = action.error.name.lower()
            at = f" at part {action.part!r}" if action.part else ""
            if action.error is Error.DAEMON_LINK:
                at = (
                    f": {self.plc.daemon.verdicts} is not heard; is 'edge-ad run' up, does it have "
                    f"{self.plc.name!r} in verdicts.consumers, and are the keys right?"
                )
            log.warning("error %s%s", self._last_error, at)
