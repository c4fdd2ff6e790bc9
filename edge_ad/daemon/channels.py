"""The daemon's sockets: verdicts, scores, control and triggers, opened, exported and watched."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge_ad.daemon.publishing import Journal, Publisher
from edge_ad.daemon.verdicts import open_verdicts
from edge_ad.delivery.access import open_access
from edge_ad.delivery.control import ControlServer, Handler
from edge_ad.delivery.guard import Guard
from edge_ad.delivery.scores import ScorePublisher
from edge_ad.delivery.stolen import SocketFiles
from edge_ad.delivery.trigger import TriggerServer
from edge_ad.metrics import Metrics

if TYPE_CHECKING:
    from edge_ad.daemon.service import Daemon

log = logging.getLogger("edge_ad")


class Channels:
    """All that others hear from a daemon and tell it. `verdicts` is None where nobody consumes them,
    `trigger` where no message announces parts.

    Opened on construction, and bound from then on; `stack` closes it, also where this raises DeviceError
    (journal), ConfigError or DeliveryError. `say_stolen` is for one thread, the rest for any.
    """

    def __init__(
        self,
        daemon: Daemon,
        stack: ExitStack,
        answer: Handler,
        journal: Path | None,
        product: Callable[[], str],
        wall: Callable[[], int],
        fatal: Callable[[str], None],
    ) -> None:
        station, metrics, tell = daemon.station, daemon.metrics, daemon.tell
        access = open_access(station, tell)
        self.verdicts = open_verdicts(
            station, daemon.epoch, product, metrics, daemon.clock, wall, tell, fatal, access
        )
        if self.verdicts is not None:
            stack.callback(self.verdicts.close)
        lines = None if journal is None else Journal(journal)
        if lines is not None:
            stack.callback(lines.close)
        self.scores = ScorePublisher(station.scores.endpoint, station.scores.high_water_mark, access)
        self.publisher = Publisher(
            self.scores, metrics, station.station, daemon.epoch, station.scores.backlog, lines, tell,
            daemon.clock, self.verdicts is not None, daemon.score_keeper.offer,
        )  # fmt: skip
        stack.callback(self.publisher.close)
        self.control = ControlServer(station.control_endpoint, answer, access)
        stack.callback(self.control.close)
        self.trigger: TriggerServer | None = None
        if daemon.triggers is not None and station.trigger.kind == "message":
            self.trigger = TriggerServer(station.trigger_endpoint, daemon.triggers.answer, access)
            stack.callback(self.trigger.close)
        self._files = SocketFiles(self._endpoints())
        self._stolen: set[str] = set()  # and said
        self._watch(metrics, access.guard)

    def start(self) -> None:
        """Answer commands and triggers; a daemon that is starting says so."""
        self.control.start()
        if self.trigger is not None:
            self.trigger.start()

    def start_giving(self) -> None:
        """Begin to hand out what the inspection hands over."""
        self.publisher.start()
        if self.verdicts is not None:
            self.verdicts.start()

    def stolen(self) -> list[str]:
        """Sockets that nobody reaches any more, as their file is gone or another program's."""
        return sorted(name for name, gone in self._files.stolen().items() if gone)

    def say_stolen(self) -> None:
        """Log each of them once."""
        stolen = set(self.stolen())
        for name in sorted(stolen - self._stolen):
            log.error(
                "%s: the socket's file was removed or replaced by another program; nobody reaches this "
                "daemon there until it is restarted", name,
            )  # fmt: skip
        self._stolen = stolen

    def _endpoints(self) -> dict[str, str]:
        servers = {"verdicts": self.verdicts, "trigger": self.trigger}
        optional = {name: server.endpoint for name, server in servers.items() if server is not None}
        return {"scores": self.scores.endpoint, "control": self.control.endpoint, **optional}

    def _watch(self, metrics: Metrics, guard: Guard | None) -> None:
        """What was refused, what subscribers have missed, and which sockets are cut off."""
        scores, control, files = self.scores, self.control, self._files

        def count(name: str, text: str, read: Callable[[], int]) -> None:
            metrics.number("counter", f"edge_ad_{name}", text, read)

        metrics.watch(
            "gauge",
            "edge_ad_socket_stolen",
            "1 while a socket's file is gone or another program's: nobody reaches the daemon there.",
            "socket",
            lambda: {name: float(gone) for name, gone in files.stolen().items()},
        )
        metrics.watch(
            "counter",
            "edge_ad_denied",
            "Handshakes refused: a key that is not on file, or none of this station.",
            "socket",
            lambda: {} if guard is None else dict(guard.denied),
        )
        count(
            "control_refused",
            "Requests at the control socket that were not understood, or too many.",
            lambda: control.refused,
        )
        count(
            "scores_dropped",
            "Verdicts that subscribers of scores have missed, as they report.",
            lambda: scores.missed,
        )
        count(
            "scores_overflows",
            "Times that a subscriber's queue was found full; what it misses then it reports itself.",
            lambda: scores.overflows,
        )
