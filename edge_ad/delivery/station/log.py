"""The station's log: what came and what was done, on a thread of its own, so that the gate never waits
for a disk. First the gate acts, then the log commits, then the daemon is told that a verdict is kept."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edge_ad import failpoints
from edge_ad.delivery import wire
from edge_ad.delivery.consumer import Delivered
from edge_ad.delivery.station.events import Pass, Reject
from edge_ad.delivery.station.store import (
    ActionRow,
    EventRow,
    Row,
    StationStore,
    VerdictRow,
    is_damage,
    set_aside,
)
from edge_ad.errors import DeviceError

_MOST_ROWS = 100_000  # that wait for the disk; unacknowledged verdicts are bounded by the credit
_RETRY_S = 1.0
_PRUNE_EVERY = 64  # commits
Positions = dict[str, tuple[str, int]]


class StationLog:
    """Opened by the station's thread, which alone calls it; `close` waits for the last commit.

    `wake` is a descriptor that is readable when `committed` or `told` has something new. Raises
    DeviceError where the file cannot be had. `failed`: why the thread has died, else "". Counts:
    `commits`, `failures` (of the disk), `dropped` (actions and events that found no room while the disk
    refused), `quarantined`, `pruned`.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        sources: Sequence[str],
        *,
        clock: Callable[[], int],
        wall: Callable[[], int],
        retention_hours: float = 2000.0,
        max_megabytes: float = 500.0,
    ) -> None:
        self.commits = self.failures = self.dropped = self.quarantined = self.pruned = 0
        self.failed = ""
        self._path, self._run = path, run
        self._clock, self._wall = clock, wall
        self._limits = (retention_hours, int(max_megabytes * 1e6))
        self._rows: deque[Row] = deque()
        self._committed: deque[Positions] = deque()
        self._told: deque[tuple[str, str]] = deque()
        self._due = threading.Event()
        self._ended = self._failing = False
        try:
            self._store: StationStore | None = StationStore(path, clock, wall)
            self.positions = {source: self._store.position(source) for source in sources}
            self.line_stop = self._store.state("line_stop") == "on"
        except (sqlite3.Error, OSError) as error:
            raise DeviceError(
                f"{path}: the station's log cannot be opened ({error}); free some space, make its "
                "directory writable, or set another state_dir"
            ) from error
        if self._store.damaged:
            self.quarantined += 1
            self._told.append(("damaged", self._store.damaged))
        self._last: Positions = {s: p for s, p in self.positions.items() if p is not None}
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._work, name="station-log", daemon=True)
        self._thread.start()

    def verdict(self, source: str, told: Delivered, t_ns: int) -> None:
        """Keep a verdict; `committed` says when it is."""
        header, body = told.header, told.body
        self._add(
            VerdictRow(
                source, header.epoch, header.seq, header.part, body.verdict, body.reason, told.live,
                wire.encode(header), wire.encode(body), t_ns, self._wall(),
            )
        )  # fmt: skip

    def action(self, action: Pass | Reject, t_ns: int) -> None:
        """Keep what was done about a part."""
        passed = isinstance(action, Pass)
        why, detail = ("", "") if isinstance(action, Pass) else (action.why.value, action.detail)
        self._add(
            ActionRow(
                self._run, action.number, action.key, "pass" if passed else "reject", why, detail,
                msgspec.json.encode(action.verdicts).decode(), t_ns, self._wall(),
            )
        )  # fmt: skip

    def event(self, kind: str, text: str, t_ns: int, state: tuple[str, str] | None = None) -> None:
        """Keep anything else, and what is to be remembered over starts."""
        self._add(EventRow(self._run, kind, text, t_ns, self._wall(), state))

    def committed(self) -> Positions:
        """By source the verdict up to which all is kept, where that is new."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake)
        merged: Positions = {}
        while self._committed:
            merged.update(self._committed.popleft())
        return merged

    def told(self) -> list[tuple[str, str]]:
        """What a person has to know of the log: ("damaged" or "disk", words)."""
        said = []
        while self._told:
            said.append(self._told.popleft())
        return said

    def close(self, timeout_s: float = 5.0) -> None:
        """Commit what is left, if the disk lets it in time. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self._due.set()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            os.close(self.wake)

    def _add(self, row: Row) -> None:
        if len(self._rows) >= _MOST_ROWS and not isinstance(row, VerdictRow):
            self.dropped += 1
            return
        self._rows.append(row)
        self._due.set()

    def _work(self) -> None:
        try:
            self._keep_all()
        except Exception as error:  # noqa: BLE001 - the thread's top: nothing would be kept any more
            self.failed = f"{self._path}: the station's log cannot go on ({error!r}); please report this"
            self._awake()
        finally:
            if self._store is not None:
                self._store.close()

    def _keep_all(self) -> None:
        batch: list[Row] = []
        while True:
            if not batch:
                self._due.wait()
                self._due.clear()
            while self._rows:
                batch.append(self._rows.popleft())
            if batch and self._commit(batch):
                batch = []
            elif batch and not self._ended:
                self._due.wait(_RETRY_S)
                self._due.clear()
                if not self._ended:
                    continue
            if self._ended and not self._rows:
                break

    def _commit(self, batch: list[Row]) -> bool:
        """False: it is to be tried again."""
        positions: Positions = {
            row.source: (row.epoch, row.seq) for row in batch if isinstance(row, VerdictRow)
        }
        done = False
        try:
            if failpoints.active:
                failpoints.active.hit("station.commit.before")
            if self._store is None:
                self._reopen()
            assert self._store is not None
            self._store.write(batch, {**self._last, **positions})
            done = True
            self.commits += 1
            self._failing = False
            self._last.update(positions)
            if failpoints.active:
                failpoints.active.hit("station.commit.after")
            self._committed.append(positions)
            if self.commits % _PRUNE_EVERY == 0:
                self.pruned += self._store.prune(*self._limits)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)  # after the commit pruning alone has failed
        self._awake()
        return done

    def _failed(self, error: sqlite3.Error | OSError) -> None:
        """After an error nothing that was not committed is on the disk: begin with a new connection."""
        self.failures += 1
        if self._store is not None:
            with contextlib.suppress(sqlite3.Error):
                self._store.close()
            self._store = None
        if isinstance(error, sqlite3.Error) and is_damage(error):
            try:
                self._told.append(("damaged", set_aside(self._path, self._wall, str(error))))
                self.quarantined += 1
                return
            except OSError as again:
                error = again
        if not self._failing:
            text = f"{self._path}: the station's log cannot be written ({error}); free some space"
            self._told.append(("disk", text))
        self._failing = True

    def _reopen(self) -> None:
        self._store = StationStore(self._path, self._clock, self._wall)
        if self._store.damaged:
            self.quarantined += 1
            self._told.append(("damaged", self._store.damaged))

    def _awake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.wake, 1)
