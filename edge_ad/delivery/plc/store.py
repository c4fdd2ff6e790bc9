"""What the bridge heard and what it told the PLC, on disk; a verdict is acknowledged once it is here."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from edge_ad import failpoints
from edge_ad.errors import DeviceError

log = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS verdicts (
    id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, part TEXT NOT NULL,
    verdict TEXT NOT NULL, reason TEXT NOT NULL, product TEXT NOT NULL, live INTEGER NOT NULL,
    used INTEGER NOT NULL, UNIQUE (epoch, seq)
);
CREATE TABLE IF NOT EXISTS results (
    id INTEGER PRIMARY KEY, part TEXT NOT NULL, count INTEGER NOT NULL, verdict INTEGER NOT NULL,
    reason INTEGER NOT NULL, acknowledged INTEGER NOT NULL, t_wall_ns INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS position (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, seq INTEGER NOT NULL
);
"""
_BATCH = 256  # records in one commit
_PAUSE_S = 0.5  # before the disk is tried again
_PRUNE = 1000  # records between two looks for what is too old


@dataclass(frozen=True, slots=True)
class Heard:
    """A verdict of the daemon. `used`: it decided a part that was under way here."""

    epoch: str
    seq: int
    part: str
    verdict: str
    reason: str
    product: str
    live: bool
    used: bool


@dataclass(frozen=True, slots=True)
class Told:
    """The end of a part: what the PLC was told, and whether it took it."""

    part: str
    count: int
    verdict: int
    reason: int
    acknowledged: bool
    t_wall_ns: int


class Recorder:
    """Writes to STATE_DIR/plc.db in a thread of its own.

    A damaged file is put aside and a new one begun: the daemon tells again what it still has. `works`:
    whether the last write did; records wait until one does. `put` and `committed` are for one thread.
    Raises DeviceError for a directory that cannot be written.
    """

    def __init__(self, state: Path, keep: int) -> None:
        self.path = state / "plc.db"
        self.put_aside: Path | None = None
        self._keep = keep
        self._queue: SimpleQueue[Heard | Told] = SimpleQueue()
        self._committed: deque[tuple[str, int]] = deque()
        self._failed = False
        self._closing = threading.Event()
        try:
            state.mkdir(parents=True, exist_ok=True)
            try:
                self.position = self._open()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._set_aside(str(error))
                self.position = self._open()
        except (OSError, sqlite3.Error) as error:
            raise DeviceError(
                f"state_dir: {self.path} cannot be opened ({error}); make {state} writable or "
                "set another"
            ) from error
        self._thread = threading.Thread(target=self._write, name="records", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, record: Heard | Told) -> None:
        """Record this. Never blocks."""
        self._queue.put(record)

    def committed(self) -> tuple[str, int] | None:
        """The last verdict that is on disk since the last call; all before it are too."""
        last = None
        while self._committed:
            last = self._committed.popleft()
        return last

    @property
    def works(self) -> bool:
        """Whether records reach the disk."""
        return not self._failed and (self._closing.is_set() or self._thread.is_alive())

    def close(self) -> None:
        """Write what waits, if the disk lets, and end. Idempotent."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _open(self) -> tuple[str, int] | None:
        with closing(sqlite3.connect(self.path)) as base:
            base.execute("PRAGMA journal_mode=WAL")
            base.executescript(_SCHEMA)
            if base.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("quick_check found damage")
            row = base.execute("SELECT epoch, seq FROM position").fetchone()
        return None if row is None else (str(row[0]), int(row[1]))

    def _set_aside(self, why: str) -> None:
        number = 1
        while (aside := self.path.with_name(f"plc.db.damaged-{number}")).exists():
            number += 1
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(f"plc.db{suffix}").unlink(missing_ok=True)
        self.put_aside = aside
        log.error("%s: damaged (%s); put aside as %s, a new one is begun", self.path, why, aside.name)

    def _write(self) -> None:
        waiting: list[Heard | Told] = []
        base: sqlite3.Connection | None = None
        written = 0
        while not (self._closing.is_set() and self._queue.empty() and (not waiting or self._failed)):
            try:
                waiting += self._next(0.0 if waiting else 0.1)
                if not waiting:
                    continue
                if base is None:
                    base = sqlite3.connect(self.path, timeout=1.0)
                    # An acknowledged verdict must not be undone by a power cut.
                    base.execute("PRAGMA synchronous=FULL")
                _commit(base, waiting)
                written += len(waiting)
                if written >= _PRUNE:
                    written = 0
                    _prune(base, self._keep)
            except (sqlite3.Error, OSError) as error:
                if not self._failed:
                    log.error(
                        "%s: cannot be written (%s); nothing passes until it can", self.path, error
                    )
                self._failed = True
                if base is not None:
                    base.close()
                    base = None
                self._closing.wait(_PAUSE_S)
                continue
            self._failed = False
            heard = [record for record in waiting if isinstance(record, Heard)]
            waiting = []
            if heard:
                self._committed.append((heard[-1].epoch, heard[-1].seq))
        if base is not None:
            base.close()

    def _next(self, wait_s: float) -> list[Heard | Told]:
        found: list[Heard | Told] = []
        try:
            found.append(self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait())
            while len(found) < _BATCH:
                found.append(self._queue.get_nowait())
        except Empty:
            pass
        return found


def _commit(base: sqlite3.Connection, records: Sequence[Heard | Told]) -> None:
    if failpoints.active:
        failpoints.active.hit("plc.record")
    with base:
        for record in records:
            if isinstance(record, Heard):
                base.execute(
                    "INSERT OR IGNORE INTO verdicts (epoch, seq, part, verdict, reason, product, live, "
                    "used) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        record.epoch, record.seq, record.part, record.verdict, record.reason,
                        record.product, record.live, record.used,
                    ),
                )  # fmt: skip
                base.execute(
                    "INSERT OR REPLACE INTO position VALUES (1, ?, ?)", (record.epoch, record.seq)
                )
            else:
                base.execute(
                    "INSERT INTO results (part, count, verdict, reason, acknowledged, t_wall_ns) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        record.part, record.count, record.verdict, record.reason, record.acknowledged,
                        record.t_wall_ns,
                    ),
                )  # fmt: skip


def _prune(base: sqlite3.Connection, keep: int) -> None:
    with base:
        for table in ("verdicts", "results"):
            base.execute(f"DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?", (keep,))
