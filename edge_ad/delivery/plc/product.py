"""Asks the daemon which product it makes, and to make another, in a thread that may wait for it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.curve import Keys
from edge_ad.errors import DeliveryError

log = logging.getLogger(__name__)
_LOOK_S = 1.0  # how often it is asked what it makes
_CHANGE_S = 30.0  # a bundle may have to be compiled first


@dataclass(frozen=True, slots=True)
class Making:
    """What the daemon makes."""

    product: str


@dataclass(frozen=True, slots=True)
class Unable:
    """What the daemon does not make, and why."""

    product: str
    why: str


class ProductDesk:
    """`ask` and `news` are for one thread and never block."""

    def __init__(self, endpoint: str, keys: Keys | None = None) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._wanted: SimpleQueue[str] = SimpleQueue()
        self._news: deque[Making | Unable] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="product", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, product: str) -> None:
        """Have the daemon make this; what becomes of it is news."""
        self._wanted.put(product)

    def news(self) -> list[Making | Unable]:
        """Since the last call."""
        found = []
        while self._news:
            found.append(self._news.popleft())
        return found

    def close(self) -> None:
        """Idempotent."""
        self._stop.set()
        self._wanted.put("")  # it need not wait any longer
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _serve(self) -> None:
        wanted = ""
        with ControlClient(self._endpoint, timeout_s=1.0, keys=self._keys) as control:
            while not self._stop.is_set():
                try:
                    wanted = self._wanted.get(timeout=_LOOK_S)
                    while True:
                        wanted = self._wanted.get_nowait()
                except Empty:
                    pass
                if self._stop.is_set():
                    return
                wanted = self._change(control, wanted) if wanted else self._look(control)

    def _change(self, control: ControlClient, product: str) -> str:
        """Whether it is still wanted: while the daemon is not there, it is asked again."""
        try:
            control.request("product", timeout_s=_CHANGE_S, name=product)
        except DeliveryError as error:
            try:
                making = _making(control)
            except DeliveryError:
                return product
            if making != product:
                log.warning("product %r: %s", product, error)
                self._news.append(Unable(product, str(error)))
                return ""
        self._news.append(Making(product))
        return ""

    def _look(self, control: ControlClient) -> str:
        with suppress(DeliveryError):  # the verdict channel says when it is back
            self._news.append(Making(_making(control)))
        return ""


def _making(control: ControlClient) -> str:
    """The daemon's product. Raises DeliveryError, also for another program at the endpoint."""
    try:
        return str(control.request("status")["product"])
    except KeyError as error:
        raise DeliveryError(
            f"{control.endpoint}: whoever answers makes no product; give the daemon's control.endpoint"
        ) from error
