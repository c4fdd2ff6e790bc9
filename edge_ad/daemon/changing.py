"""What judges parts, changed while the daemon runs: a reload, another product, an engine that failed."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from edge_ad.config import load_station, with_product
from edge_ad.daemon.active import Active, PartInspector
from edge_ad.daemon.fallback import Failed
from edge_ad.daemon.loading import Build, changed_keys, check_reloadable, open_stand_in
from edge_ad.daemon.parts import PartQueue
from edge_ad.daemon.products import Stock
from edge_ad.daemon.worker import Worker
from edge_ad.delivery.control import Answer
from edge_ad.errors import ArtifactError, ConfigError, DeliveryError, DeviceError, EdgeAdError

if TYPE_CHECKING:
    from edge_ad.config import Station
    from edge_ad.daemon.service import Daemon

log = logging.getLogger("edge_ad")

SWAP_S = 30.0  # for the part at hand


class Changes:
    """One after the other, in a thread of its own; parts are judged meanwhile. Owns the products that
    are not being made. `pauses_s`: the first and the longest before an engine is tried again."""

    def __init__(self, daemon: Daemon, build: Build, pauses_s: tuple[float, float]) -> None:
        self.rebuilding = False  # an engine
        self._daemon = daemon
        self._build = build
        self._pauses_s = pauses_s
        self._pause_s = pauses_s[0]
        self._retry_at = 0.0
        self._named = daemon.station.product  # by the station file
        self._lock = threading.Lock()  # of what follows, and of `loop.announced`
        self._announced = daemon.station.product  # that was asked for last
        self._changing: set[Future[Answer]] = set()
        self._stock = Stock(build, daemon.feeds, daemon.tell)
        self._worker = Worker("reload")

    def fill_stock(self) -> None:
        """Load the other products."""
        self._worker.submit(self._fill_stock)

    def reload(self, who: str = "", reason: str = "") -> Future[Answer]:
        """See `Daemon.reload`."""
        return self._worker.submit(self._reload, self._daemon.clock(), who, reason)

    def change_product(self, product: str, since_ns: int) -> Future[Answer]:
        """See `Daemon.change_product`."""
        loop = self._daemon.loop
        with self._lock:
            order, since_first_ns = loop.announced
            changing = loop.active.order < order
            if changing or loop.active.product != product:
                order += 1
                loop.announced = order, since_first_ns if changing else since_ns
            self._announced = product
            future = self._worker.submit(self._change, product, since_ns, order)
            self._changing.add(future)
        future.add_done_callback(self._changing.discard)
        return future

    def makes(self, product: str) -> bool:
        """Whether the product is made, or being changed over to, so that nobody need ask for it. Any
        thread."""
        with self._lock:
            if self._changing:
                return self._announced == product
        return self._daemon.loop.active.product == product

    def rebuild(self, failing: PartInspector, why: str) -> None:
        """Open the engine anew, unless `failing` is not what judges any more by then. Main thread."""
        if not self.rebuilding and not isinstance(failing, Failed):
            log.error("%s; building the inspector anew", why)
            self._submit(failing, why)

    def supervise(self) -> None:
        """Try again, after a pause, where no engine could be opened. Main thread."""
        active = self._daemon.loop.active
        inspector = active.inspector
        why = inspector.why if isinstance(inspector, Failed) else active.why
        if why and time.monotonic() >= self._retry_at and not self.rebuilding:
            self._submit(inspector, why)

    def end(self) -> None:
        """Begin nothing more."""
        self._worker.end()

    def close(self) -> None:
        """Let go of the other products; after `end`."""
        self._stock.clear()

    def _submit(self, failing: PartInspector | None, why: str) -> None:
        self.rebuilding = True
        self._worker.submit(self._rebuild, failing, why)

    def _fill_stock(self) -> None:
        daemon = self._daemon
        self._stock.fill(daemon.station, daemon.loop.active.product, lambda: daemon.stopping)

    def _swap(self, active: Active) -> PartInspector | None:
        """Put it in use; returns what was before, which nobody uses any more. Closed where the loop does
        not take it."""
        loop = self._daemon.loop
        before, old = loop.active, loop.active.inspector
        expect = self._daemon.beside.challenges.expect
        expect(active.judge)
        if not loop.swap(active, timeout_s=SWAP_S):
            expect(before.judge)
            if active.inspector is not None:
                active.inspector.close()
            raise DeliveryError("the inspection thread is busy or stopping and did not take the bundle")
        return old

    def _reload(self, now_ns: int, who: str, reason: str) -> Answer:
        daemon = self._daemon
        try:
            if not daemon.station.path:
                raise ConfigError("the configuration is not from a file; restart to change it")
            station, named = self._read_again()
            check_reloadable(daemon.station, station)
            before = daemon.loop.active
            product, known = station.product, True
            if not before.known and station.product == daemon.station.product:
                # What was announced last is still what is made, whether the file knows it by now or not.
                product, known = before.product, before.product in station.known_products
                station = with_product(station, product) if known else station
            # Parts that wait are of what was made when they were triggered.
            since_ns = before.since_ns if product == before.product else now_ns
            inspector = self._build(station) if known else None
            active = Active(inspector, product, daemon.feeds, known, since_ns, before.order)
            with self._lock:
                if not self._changing:  # whatever was announced and could not be made
                    self._announced, active.order = product, daemon.loop.announced[0]
            old = self._swap(active)
        except Exception as error:
            self._refused(
                f"reload refused, the old configuration and bundle stay in use: {_text(error)}"
            )
            raise
        if old is not None:
            old.close()
        self._stock.clear()
        self.fill_stock()
        before_station, daemon.station, self._named = daemon.station, station, named
        daemon.beside.note_config(station, changed_keys(before_station, station), who, reason)
        if isinstance(daemon.parts, PartQueue):
            daemon.parts.join_ns = int(station.join_ms * 1e6)
        daemon.evidence.configure(station.evidence)
        daemon.score_keeper.configure(station.evidence)
        daemon.in_use(active)
        log.info("reloaded: product %s, bundle %s", product, active.bundle[:12] or "none")
        return {"state": daemon.state, "product": product, "bundle": active.bundle}

    def _read_again(self) -> tuple[Station, str]:
        """The station file, still making what was announced last unless the file names another product
        than before; and the product that it names."""
        own = self._daemon.station
        station = load_station(own.path)
        named = station.product
        if named == self._named and own.product in station.known_products:
            return with_product(station, own.product), named
        return station, named

    def _change(self, product: str, now_ns: int, order: int) -> Answer:
        daemon = self._daemon
        current = daemon.loop.active
        if current.known and current.product == product:
            current.order = order
            return {"state": daemon.state, "product": product, "bundle": current.bundle}
        known = product in daemon.station.known_products
        station = with_product(daemon.station, product) if known else daemon.station
        active = self._stock.take(daemon.station, product)
        active.since_ns, active.order = now_ns, order
        old = daemon.loop.active
        daemon.beside.challenges.expect(active.judge)
        if not daemon.loop.swap(active, timeout_s=SWAP_S):
            daemon.beside.challenges.expect(old.judge)
            self._stock.put(active)
            raise DeliveryError("the inspection thread is busy or stopping and did not change over")
        if not isinstance(old.inspector, Failed):  # else it is opened when it is wanted
            self._stock.put(old)
        daemon.station = station
        daemon.in_use(active)
        log.info("product %s, bundle %s", product, active.bundle[:12] or "none")
        if not known:
            raise DeliveryError(
                f"product {product!r} is not among {list(daemon.station.known_products)}; its parts are "
                "FAULT unknown_product until another is announced"
            )
        return {"state": daemon.state, "product": product, "bundle": active.bundle}

    def _rebuild(self, failing: PartInspector | None, why: str) -> None:
        daemon = self._daemon
        try:
            active = daemon.loop.active
            if active.inspector is not failing or (failing is None and not active.why):
                return  # a reload or another product came first
            if failing is not None and not isinstance(failing, Failed):
                active = self._release(active, failing, why)
            inspector = self._open_anew(daemon.station)
            active = self._same(active, inspector)
            self._swap(active)
        except Exception as error:  # noqa: BLE001 - tried again, whatever it was
            pause = self._pause_s
            self._retry_at = time.monotonic() + pause
            self._pause_s = min(2 * pause, self._pauses_s[1])
            self._refused(f"nothing judges, parts are FAULT, tried again in {pause:g} s: {_text(error)}")
            return
        finally:
            self.rebuilding = False
        self._pause_s = self._pauses_s[0]
        self.fill_stock()
        daemon.in_use(active)
        log.warning("opened anew: %s judges, bundle %s", active.engine or "nothing", active.bundle[:12])

    def _release(self, active: Active, failing: PartInspector, why: str) -> Active:
        """Close every engine before another one is opened: a device that failed is free to be opened
        again only when nobody holds it. Parts are FAULT `engine` until then."""
        failed = Failed(failing.bundle, failing.identity, failing.cameras, why)
        meanwhile = self._same(active, failed)
        self._swap(meanwhile)
        failing.close()
        self._stock.clear()
        return meanwhile

    def _same(self, active: Active, inspector: PartInspector | None) -> Active:
        """The same product, judged by another inspector."""
        feeds = self._daemon.feeds
        return Active(inspector, active.product, feeds, active.known, active.since_ns, active.order)

    def _open_anew(self, station: Station) -> PartInspector | None:
        """A file of the engine that is damaged or gone is no reason to stop a line that was running."""
        try:
            return self._build(station)
        except ArtifactError as error:
            return open_stand_in(station, DeviceError(str(error)))

    def _refused(self, text: str) -> None:
        self._daemon.metrics.reload_failures.inc()
        self._daemon.tell("error", text)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, EdgeAdError) else repr(error)
