"""What a daemon has beside its inspection: monitor, challenges, a candidate bundle, the audit list."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge_ad.audit import COPY, note_config, note_in_use
from edge_ad.bundle import candidate_path
from edge_ad.config import Station, load_station
from edge_ad.daemon.active import Active
from edge_ad.daemon.challenge import Challenges, Round, keep
from edge_ad.daemon.loading import changed_keys, check_candidate
from edge_ad.daemon.readings import watch_challenges, watch_monitor, watch_shadow
from edge_ad.daemon.worker import Worker
from edge_ad.durable import write_durably
from edge_ad.errors import EdgeAdError
from edge_ad.monitor.watch import Watch
from edge_ad.shadow.beside import Shadow

if TYPE_CHECKING:
    from edge_ad.daemon.service import Daemon

RECORD_S = 2.0  # a disk that hangs may take for what goes on record at the end


class Beside:
    """`follow` and `note_config` are for one thread at a time, `supervise` and `end` for the main
    thread. No verdict needs any of it; what fails is told."""

    def __init__(
        self,
        station: Station,
        epoch: str,
        clock: Callable[[], int],
        wall: Callable[[], int],
        tell: Callable[[str, str], None],
    ) -> None:
        pictures = [camera.name for camera in station.pictures]
        self.monitor = Watch(station.monitor, pictures, tell)
        self.shadow = Shadow(station.state_path, pictures, epoch, tell)
        self.challenges = Challenges(
            station.challenge, station.state_path, clock, wall,
            lambda one: self._keeping.append(self.records.submit(self._keep, one)),
        )  # fmt: skip
        self._state = station.state_path
        self._tell = tell
        self.records = Worker("records")  # what waits for the disk
        self._shadowing = Worker("shadowing")  # what waits for processes
        self._keeping: deque[Future[None]] = deque(maxlen=8)  # rounds that go on record
        self._noted: dict[str, str] = {}  # product: id of the bundle that the audit list knows of

    def connect(self, daemon: Daemon, stack: ExitStack) -> None:
        """To the inspection and publishing threads, which do not run yet; `stack` closes it."""
        daemon.loop.challenges = self.challenges
        daemon.loop.takers = (self.monitor, self.shadow)
        daemon.channels.publisher.watch = self.monitor
        watch_monitor(daemon.metrics, self.monitor)
        watch_challenges(daemon.metrics, self.challenges)
        watch_shadow(daemon.metrics, self.shadow)
        self.note_config(daemon.station)
        self.monitor.start()
        stack.callback(self.monitor.close)
        stack.callback(self.shadow.close)
        stack.callback(self._shadowing.end)
        stack.callback(self.records.end)

    def follow(self, station: Station, active: Active) -> None:
        """This judges parts from now on."""
        self.challenges.follow(station.challenge, active.judge)
        bundle = None if active.inspector is None else active.inspector.bundle
        patches = {camera.name: camera.patch for camera in station.pictures}
        self.monitor.follow(station.monitor, patches, bundle, active.engine)
        if bundle is not None and self._noted.get(active.product) != bundle.manifest.id:
            self._noted[active.product] = bundle.manifest.id
            self.records.submit(self._note_in_use, active.product, bundle.manifest.id)
        self._shadowing.submit(self._follow_candidate, station, active)

    def note_config(
        self,
        station: Station,
        changed: Mapping[str, str] | None = None,
        who: str = "",
        reason: str = "",
    ) -> None:
        """Have the audit list say that the station file is another one than it knows, and what differs;
        None: find out, by the copy of the last one. Returns at once."""
        if station.path:
            self.records.submit(self._note_config, station, changed, who, reason)

    def supervise(self) -> None:
        """Now and then."""
        self.challenges.supervise()

    def end(self) -> None:
        """No part is judged any more."""
        self.challenges.cancel("the daemon stopped")
        wait(self._keeping, RECORD_S)

    def _keep(self, one: Round) -> None:
        keep(self.challenges, one, self._state, self._tell)

    def _note_config(
        self, station: Station, changed: Mapping[str, str] | None, who: str, reason: str
    ) -> None:
        state, file = station.state_path, Path(station.path)
        try:
            if changed is None:
                changed = _since(state / COPY, station)
            note_config(file, state, changed, who, reason)
            write_durably(state / COPY, file.read_bytes())
        except (EdgeAdError, OSError) as error:
            self._tell("error", f"audit: a change of the station file is not on record: {error}")

    def _note_in_use(self, product: str, bundle: str) -> None:
        try:
            note_in_use(self._state, product, bundle)
        except EdgeAdError as error:
            self._tell("error", f"audit: that {product} is judged by {bundle} is not on record: {error}")

    def _follow_candidate(self, station: Station, active: Active) -> None:
        try:
            candidate = candidate_path(station.state_path, active.product)
            if candidate is not None:
                check_candidate(candidate, station)
            self.shadow.follow(active.product, active.judge[1:], candidate)
        except (EdgeAdError, OSError, RuntimeError) as error:  # no process or thread to be had
            self.shadow.refuse(str(error))


def _since(copy: Path, station: Station) -> dict[str, str]:
    """The keys that differ from the last station file; none where there is no copy that can be read."""
    try:
        return changed_keys(load_station(copy), station)
    except (EdgeAdError, OSError):
        return {}
