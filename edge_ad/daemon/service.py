"""The daemon of one station: wires the threads, keeps the states, obeys signals and commands."""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import cv2
from prometheus_client.registry import CollectorRegistry

from edge_ad.capture.plausible import make_plausible
from edge_ad.capture.shots import make_dealer
from edge_ad.capture.source import Source, open_source
from edge_ad.config import Camera, Station
from edge_ad.daemon import process
from edge_ad.daemon.active import Active, PartInspector
from edge_ad.daemon.beside import Beside
from edge_ad.daemon.cameras import BACKOFF_S, CameraFeed
from edge_ad.daemon.changing import Changes
from edge_ad.daemon.channels import Channels
from edge_ad.daemon.commands import Desk
from edge_ad.daemon.fallback import Failed
from edge_ad.daemon.inspection import InspectionLoop
from edge_ad.daemon.loading import Build, build_inspector
from edge_ad.daemon.readings import describe, watch, watch_scores, watch_triggers
from edge_ad.daemon.triggered import TriggeredParts
from edge_ad.daemon.triggering import TriggerDesk, make_parts, make_period, make_presence, make_timing
from edge_ad.delivery.control import Answer
from edge_ad.delivery.lock import StateLock
from edge_ad.evidence.score_keeper import ScoreKeeper
from edge_ad.evidence.writer import EvidenceWriter
from edge_ad.metrics import Metrics, MetricsServer
from edge_ad.supervisor import Supervisor

log = logging.getLogger("edge_ad")
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

DRAIN_S = 5.0  # after a stop, queued parts are inspected for so long; the rest is FAULT `stopped`
COLLECT_PERIOD_S = 10.0


class Daemon:
    """One station from `start` to the end of `run`. Other threads may call `stop`, `reload`, `status`.

    `build` makes the inspector of a configuration (None: no bundle yet), `make_source` a camera's
    source, `make_loop` what the inspection thread runs. With `own_process` the interpreter is tuned for
    this one purpose; `supervisor` is told what the daemon does; `backoff_s` are the first and the
    longest pause before a camera or an engine that failed is opened again. Raises ConfigError for a
    camera's URI that is wrong.
    """

    def __init__(
        self,
        station: Station,
        journal: Path | None = None,
        *,
        registry: CollectorRegistry | None = None,
        build: Build = build_inspector,
        make_source: Callable[[Camera, Path], Source] = open_source,
        make_loop: Callable[..., InspectionLoop] = InspectionLoop,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], int] = time.time_ns,
        rng: random.Random | None = None,
        backoff_s: tuple[float, float] = BACKOFF_S,
        drain_s: float = DRAIN_S,
        own_process: bool = False,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.station = station
        self.epoch = f"{wall():016x}-{secrets.token_hex(2)}"
        self.metrics = Metrics(registry or CollectorRegistry(), station.deadline_ms)
        self._journal = journal
        self._build = build
        self._make_loop = make_loop
        self.clock = clock
        self._wall = wall
        self._drain_s = drain_s
        self._own_process = own_process
        self._supervisor = supervisor or Supervisor()
        self._started = self.stopping = False
        self._failing: PartInspector | None = None  # what asked to be built anew last
        self._state = ""
        self._reloads = 0  # asked for by a signal, and not done
        self._desk = Desk(self)
        self._inbox: SimpleQueue[tuple[str, str]] = SimpleQueue()  # put is safe in signal handlers
        self._closing = ExitStack()
        base = Path(station.path).parent if station.path else Path()
        sources = [make_source(camera, base) for camera in station.camera]
        self.parts, lanes = make_parts(station, sources, clock)
        rng = rng or random.Random()
        self.feeds = [
            CameraFeed(
                camera,
                lambda camera=camera: make_source(camera, base),  # type: ignore[misc]
                lane, self.parts, self.tell, clock, wall, rng, backoff_s,
                make_dealer(camera, source.live, station), make_presence(station),
                make_timing(station, camera), make_plausible(camera, source.live),
            )
            for camera, lane, source in zip(station.camera, lanes, sources, strict=True)
        ]  # fmt: skip
        announced = isinstance(self.parts, TriggeredParts)
        self.triggers = TriggerDesk(self, clock, wall) if announced else None
        self.changes = Changes(self, build, backoff_s)
        self.beside = Beside(station, self.epoch, clock, wall, self.tell)

    def start(self) -> None:
        """Take the state directory and the ports, open cameras and bundle, begin to judge.

        Raises DeviceError or DeliveryError (state directory, port, journal) and ArtifactError (bundle);
        whatever was opened is closed again then.
        """
        with ExitStack() as stack:
            self._start(stack)
            self._closing = stack.pop_all()

    def run(self) -> int:
        """Supervise until `stop`, or until every camera has ended; returns the exit code."""
        tick_s = min(0.1, max(0.01, min(c.stale_ms for c in self.station.camera) / 5000))
        collect_at = time.monotonic() + COLLECT_PERIOD_S
        code: int | None = None
        while code is None:
            with suppress(Empty):
                code = self._obey(*self._inbox.get(timeout=tick_s))
            for feed in self.feeds:
                feed.supervise()
            self.changes.supervise()
            self.beside.supervise()
            self._say_state()
            self.channels.say_stolen()
            self._supervisor.alive(self.loop.progress_age_s())
            if self._own_process and time.monotonic() >= collect_at:
                process.collect()
                collect_at = time.monotonic() + COLLECT_PERIOD_S
        return self._shut_down(code)

    def stop(self) -> None:
        """Ask `run` to drain and return. Returns at once; safe in a signal handler."""
        self._inbox.put(("stop", ""))

    def request_reload(self) -> None:
        """Ask for a reload whose outcome goes to the log. Returns at once; safe in a signal handler."""
        self._inbox.put(("reload", ""))

    def reload(self, who: str = "", reason: str = "") -> Future[Answer]:
        """Read the station file again, build its inspector, swap it in between two parts. `who` asks
        for it, and why, is for the audit list.

        The future fails with the reason in words when the old configuration and bundle stay in use.
        """
        return self.changes.reload(who, reason)

    def change_product(self, product: str, since_ns: int | None = None) -> Future[Answer]:
        """Make another product from now on: swap its bundle in between two parts, and say which.

        Parts triggered before `since_ns` (None: this call) are FAULT `changeover`, but for those that
        named their product. The future fails for a product that the station does not know; its parts
        are FAULT `unknown_product` then.
        """
        return self.changes.change_product(product, self.clock() if since_ns is None else since_ns)

    @property
    def state(self) -> str:
        """STARTING, LEARNING, COLLECTING, RUNNING, DEGRADED, FAILED or STOPPING."""
        if self.stopping:
            return "STOPPING"
        if not self._started:
            return "STARTING"
        if self.loop.collector is not None and self.loop.collector.active:
            return "COLLECTING"
        if self.why:
            return "FAILED"
        if self.loop.active.inspector is None:
            return "LEARNING"
        return "DEGRADED" if self.loop.active.degraded else "RUNNING"

    @property
    def why(self) -> str:
        """Why nothing passes, in words, where that is a failure. Once started."""
        verdicts, active = self.channels.verdicts, self.loop.active
        if verdicts is not None and verdicts.full:
            return verdicts.full
        return active.inspector.why if isinstance(active.inspector, Failed) else active.why

    def status(self) -> Answer:
        """What `status` on the control socket answers."""
        return self._desk.status()

    def _start(self, stack: ExitStack) -> None:
        station = self.station
        lock = StateLock(station.state_path)
        stack.callback(lock.release)
        pictures = {
            picture: lambda feed=feed: feed.pixel_rule
            for feed in self.feeds
            for picture in feed.pictures
        }
        self.evidence = EvidenceWriter(
            station.state_path, station.evidence, station.station, self.epoch, pictures, self.tell
        )
        stack.callback(self.evidence.close)  # last but for the lock: no other daemon may write there
        self.score_keeper = ScoreKeeper(station.state_path, station.evidence, self.epoch, self.tell)
        stack.callback(self.score_keeper.close)
        self.channels = channels = Channels(
            self, stack, self._desk, self._journal, self._product, self._wall,
            lambda why: self._inbox.put(("outbox", why)),
        )  # fmt: skip
        watch(self.metrics, self.feeds, channels.publisher, self.evidence, lambda: self.state)
        self.http = MetricsServer(self.metrics.registry, station.metrics.host, station.metrics.port)
        stack.callback(self.http.close)
        self._say_state()
        channels.start()
        for feed in self.feeds:
            feed.start()
            stack.callback(feed.stop)
        active = Active(self._build(station), station.product, self.feeds)
        self.loop = self._make_loop(
            self.parts, channels.publisher, active, station.station, self.epoch,
            int(station.deadline_ms * 1e6), self.clock,
            self._ask_rebuild,
        )  # fmt: skip
        self.loop.evidence = self.evidence
        self.loop.verdicts = channels.verdicts
        self.loop.line_stop_after = station.trigger.line_stop_after
        watch_triggers(self.metrics, self)
        watch_scores(self.metrics, self.score_keeper)
        self.beside.connect(self, stack)
        self.in_use(active)
        if self._own_process:
            cv2.setNumThreads(1)
            process.settle()
        self._inspection = threading.Thread(target=self._inspect, name="inspect", daemon=True)
        self._started = True
        channels.start_giving()
        self.evidence.start()
        self.score_keeper.start()
        self._inspection.start()
        for feed in self.feeds:
            feed.go()
        if (period := make_period(station, self.triggers)) is not None:
            stack.callback(period.stop)
            period.start(self.clock)
        self.changes.fill_stock()
        log.info(
            "%s: scores %s, control %s, metrics %s",
            station.station, channels.scores.endpoint, channels.control.endpoint, self.http.url,
        )  # fmt: skip
        self._say_state()

    def in_use(self, active: Active) -> None:
        """Say what judges parts from now on, and watch it. One thread at a time."""
        describe(self.metrics, active)
        self.beside.follow(self.station, active)

    def _product(self) -> str:
        """What is made now. Any thread."""
        return self.loop.active.product if self._started else self.station.product

    def _inspect(self) -> None:
        try:
            self.loop.run()
        except Exception as error:  # noqa: BLE001 - the thread's top: nothing would judge any more
            self._inbox.put(("fatal", repr(error)))
        else:
            self._inbox.put(("ended", ""))

    def _ask_rebuild(self, failing: PartInspector, why: str) -> None:
        """In the inspection thread."""
        self._failing = failing
        self._inbox.put(("rebuild", why))

    def _obey(self, order: str, text: str) -> int | None:
        """Do what the inbox says; an exit code ends the daemon."""
        if order in _LEVELS:
            log.log(_LEVELS[order], "%s", text)
        elif order == "reload":
            self._reloads += 1
            self._supervisor.reloading()
            self.reload().add_done_callback(lambda _: self._inbox.put(("reloaded", "")))
        elif order == "reloaded":
            self._reloads -= 1
            if not self._reloads:
                self._supervisor.say("READY=1")
        elif order == "rebuild" and self._failing is not None:
            self.changes.rebuild(self._failing, text)
        elif order == "stop":
            return 0
        elif order == "ended":
            log.info("every camera has ended")
            return 0
        elif order == "outbox":
            log.critical("%s; no verdict would reach its consumers, so the daemon ends", text)
            return 5
        elif order == "fatal":
            log.critical("the inspection thread died: %s", text)
            return 1
        return None

    def _shut_down(self, code: int) -> int:
        """Drain within bounds, answer every part that was triggered, close everything."""
        self.stopping = True
        self._say_state()
        self.parts.close()
        for feed in self.feeds:
            feed.stop()
        end = time.monotonic() + 1.0
        for feed in self.feeds:
            if not feed.join(max(0.0, end - time.monotonic())):
                log.warning("camera %s: its source does not return; left behind", feed.name)
        self._inspection.join(self._drain_s)
        if self._inspection.is_alive():
            self.loop.abandon()
            self._inspection.join(1.0)
        if self._inspection.is_alive():
            log.error("the engine does not return; the parts at hand are FAULT stopped")
            code = 5
        if code:
            self.loop.take_over()
        self.changes.end()
        self.beside.end()
        if self.loop.collector is not None:
            self.loop.collector.cancel()
            self.loop.collector.join(2.0)
        self._closing.close()
        self.changes.close()
        if not self._inspection.is_alive() and self.loop.active.inspector is not None:
            self.loop.active.inspector.close()
        verdicts = self.channels.verdicts
        if verdicts is not None and verdicts.failed:
            log.critical("%s; verdicts were not kept", verdicts.failed)
            code = 5
        while not self._inbox.empty():  # it is too late for orders
            order, text = self._inbox.get()
            if order in _LEVELS:
                log.log(_LEVELS[order], "%s", text)
        log.info("stopped after %d parts, %d rejected", self.loop.seq, self.loop.rejects)
        return code

    def tell(self, level: str, text: str) -> None:
        """Have the main thread log a line, for threads that must not wait for the log."""
        self._inbox.put((level, text))

    def _say_state(self) -> None:
        state = self.state
        if state != self._state:
            self._state = state
            log.info("%s: %s", self.station.station, state)
            ready = self._started and not self._reloads
            said = "STOPPING=1" if self.stopping else "READY=1" if ready else ""
            self._supervisor.say(*filter(None, (said, f"STATUS={state}")))
