"""What makes a part, by `[trigger]`: how frames become parts, and who answers triggers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edge_ad.capture.presence import Presence
from edge_ad.capture.source import AskedSource, Source
from edge_ad.config import Camera, Station
from edge_ad.daemon.announced import Call, TriggeredLane
from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.parts import PartQueue
from edge_ad.daemon.timing import TriggerTime
from edge_ad.daemon.triggered import TriggeredParts
from edge_ad.delivery.trigger import (
    LONGEST_KEY,
    LONGEST_PRODUCT,
    TriggerReply,
    TriggerRequest,
    clock_name,
)
from edge_ad.errors import DeliveryError
from edge_ad.verdict import Reason

if TYPE_CHECKING:
    from edge_ad.daemon.service import Daemon

ANNOUNCED = ("message", "software")
STALE = "stale"  # the request came later than a frame may
RESULTS = (
    "accepted", "not_ready", STALE,
    Reason.OVERFLOW.value, Reason.KEY_REUSED.value, Reason.UNKNOWN_PRODUCT.value,
)  # fmt: skip


def make_parts(
    station: Station, sources: Sequence[Source], clock: Callable[[], int]
) -> tuple[PartQueue | TriggeredParts, Sequence[Lane]]:
    """The queue of the station's kind of trigger, and its lane for each camera."""
    trigger = station.trigger
    live = [source.live for source in sources]
    if trigger.kind in ANNOUNCED:
        announced = [
            TriggeredLane(c.name, len(c.pictures), isinstance(source, AskedSource), 2 * trigger.queue)
            for c, source in zip(station.camera, sources, strict=True)
        ]
        limits = trigger.queue, int(trigger.frame_ms * 1e6), int(trigger.early_ms * 1e6)
        return TriggeredParts(announced, *limits, clock, trigger.kind), announced
    if trigger.kind == "line":
        lanes = [Lane(trigger.queue, False, len(c.pictures), every=True) for c in station.camera]
    else:
        lanes = [_lane(c, alive, len(live)) for c, alive in zip(station.camera, live, strict=True)]
    timed = any(live) or trigger.kind == "line"
    parts = PartQueue(lanes, int(station.join_ms * 1e6), timed, clock, station.join_by == "key")
    parts.trigger = trigger.kind
    parts.advisory = trigger.kind == "free" and trigger.present is None
    return parts, lanes


def make_presence(station: Station) -> Presence | None:
    """Where a free-running camera tells whether there is a part."""
    present = station.trigger.present
    return None if present is None else Presence(present)


def make_timing(station: Station, camera: Camera) -> TriggerTime | None:
    """Where the line triggers the cameras."""
    return None if station.trigger.kind == "free" else TriggerTime(camera)


def _lane(camera: Camera, live: bool, cameras: int) -> Lane:
    """Free-running cameras skip, the others wait; several cameras never skip, lest parts are mixed."""
    skip = camera.overflow == "skip" or (camera.overflow == "auto" and live and cameras == 1)
    return Lane(camera.queue, skip, len(camera.pictures))


class TriggerDesk:
    """Announces the parts of a daemon, whoever asks: a message, a command, or its own period. Thread
    safe. `counts`: triggers by what became of them."""

    def __init__(self, daemon: Daemon, clock: Callable[[], int], wall: Callable[[], int]) -> None:
        self.counts = dict.fromkeys(RESULTS, 0)
        self._daemon = daemon
        self._clock = clock
        self._wall = wall
        self._clock_name = clock_name()
        self._frame_ns = int(daemon.station.trigger.frame_ms * 1e6)
        self._lock = threading.Lock()
        self._own = 0  # keys given here

    def answer(self, request: TriggerRequest) -> TriggerReply:
        """One message, in the thread of the trigger channel."""
        now = self._clock()
        same = bool(self._clock_name) and request.clock == self._clock_name
        at = min(now, request.t_ns) if same else now - request.age_ns
        return self.announce(request.part, request.product, request.encoder, at)

    def announce(
        self, part: str = "", product: str = "", encoder: int | None = None, at_ns: int | None = None
    ) -> TriggerReply:
        """A part was seen at `at_ns`, None: now. Without a key it gets one that no other ever has."""
        with self._lock:
            reply = self._announce(part, product, encoder, at_ns)
            self.counts[reply.reason or "accepted"] += 1
            return reply

    def _announce(self, part: str, product: str, encoder: int | None, at_ns: int | None) -> TriggerReply:
        daemon, parts = self._daemon, self._daemon.parts
        assert isinstance(parts, TriggeredParts)
        if daemon.state in ("STARTING", "STOPPING"):
            return TriggerReply(False, "not_ready", f"the daemon is {daemon.state}", parts.count)
        now = self._clock()
        at = now if at_ns is None else at_ns
        if now - at > self._frame_ns:
            text = f"seen {(now - at) / 1e6:.0f} ms ago, more than trigger.frame_ms allows for its frame"
            return TriggerReply(False, STALE, text, parts.count)
        if not part:
            self._own += 1
            part = f"{daemon.station.station}-{daemon.epoch}-T{self._own:08d}"
        fault, detail = Reason.NONE, ""
        if product and product not in daemon.station.known_products:
            fault = Reason.UNKNOWN_PRODUCT
            detail = f"product {product!r} is not among {list(daemon.station.known_products)}"
        if product:
            self._change_over(product, at)
        answer = parts.trigger(Call(part, at, self._wall(), product, encoder, fault, detail))
        return TriggerReply(not answer.reason, answer.reason, answer.text, parts.count)

    def _change_over(self, product: str, at_ns: int) -> None:
        """Before the part that names another product than the last one did."""
        daemon = self._daemon
        collector = daemon.loop.collector
        if not daemon.changes.makes(product) and not (collector is not None and collector.active):
            daemon.change_product(product, at_ns)


class Period:
    """Announces a part every `period_ms`, in a thread of its own, by the monotonic clock."""

    def __init__(self, period_ms: float, announce: Callable[[], object]) -> None:
        self._period_ns = int(period_ms * 1e6)
        self._announce = announce
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="period", daemon=True)

    def start(self, clock: Callable[[], int]) -> None:
        """The first part is one period away."""
        self._clock = clock
        self._thread.start()

    def stop(self) -> None:
        """Announce nothing more. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        due = self._clock() + self._period_ns
        while not self._stop.wait(max(0.0, (due - self._clock()) / 1e9)):
            self._announce()
            # Where the machine stood still, the parts of that time have gone by.
            due = max(due + self._period_ns, self._clock())


def make_period(station: Station, desk: TriggerDesk | None) -> Period | None:
    """Where the daemon triggers by itself."""
    period_ms = station.trigger.period_ms
    return Period(period_ms, desk.announce) if desk is not None and period_ms else None


def ask(daemon: Daemon, part: str, product: str) -> TriggerReply:
    """The command `trigger`. Raises DeliveryError where parts are not announced, or names too long."""
    if daemon.triggers is None:
        kind = daemon.station.trigger.kind
        raise DeliveryError(
            f"trigger: trigger.kind is {kind!r}, its parts are not announced; set it to 'software'"
        )
    for what, name, longest in (("part", part, LONGEST_KEY), ("product", product, LONGEST_PRODUCT)):
        if len(name) > longest:
            raise DeliveryError(f"trigger: {what} {name[:20]!r}... is longer than {longest} characters")
    return daemon.triggers.announce(part, product)
