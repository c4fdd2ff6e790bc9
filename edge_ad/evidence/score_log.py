"""Every part's score on disk: a SQLite file for each day, of which the oldest go whole. For one thread.

    STATE/scores/<number>-<day>.sqlite            the parts of a day in UTC; read its view `scores`
    STATE/scores/<number>-<day>.sqlite.damaged    one that was set aside

Numbers grow from file to file, and the file with the lowest number is the oldest, whatever the wall
clock does: a clock that jumps makes a file, and at most one goes for it. What is committed outlives the
process; a power cut may take the last seconds.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from edge_ad.config import Evidence
from edge_ad.delivery.outbox_file import is_damage
from edge_ad.delivery.outcome import Outcome
from edge_ad.errors import DeviceError
from edge_ad.evidence.archive import MEGABYTE, Usage

DIRECTORY = "scores"
DAMAGED = ".damaged"
SCHEMA = 1
ROW_BYTES = 200  # that a part takes at most, with its place in the index
_NAME = re.compile(r"(\d{6,})-(\d{4}-\d\d-\d\d)\.sqlite(?:\.damaged)?")
_BUSY_S = 2.0  # how long a person's program may hold it up
# What many parts have in common is there once; the view shows all of it.
_TABLES = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, product TEXT NOT NULL,
    bundle TEXT NOT NULL, engine TEXT NOT NULL, UNIQUE (epoch, product, bundle, engine));
CREATE TABLE parts (part TEXT NOT NULL, t_wall_ns INTEGER NOT NULL, run INTEGER NOT NULL REFERENCES
    runs(id), seq INTEGER NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, score REAL,
    threshold REAL, view TEXT NOT NULL, latency_ms REAL NOT NULL);
CREATE INDEX parts_by_key ON parts(part);
CREATE VIEW scores AS SELECT part, t_wall_ns, product, bundle, engine, verdict, reason, score,
    threshold, view, latency_ms, epoch, seq FROM parts JOIN runs ON run = runs.id;
"""


class NoRoom(DeviceError):
    """Neither the quota nor the disk's free share leaves room, in words."""


class Row(NamedTuple):
    """A part as it is kept, in the order of the view. Numbers that do not exist are NaN or None;
    latency: trigger to verdict, milliseconds."""

    part: str
    t_wall_ns: int
    product: str
    bundle: str
    engine: str
    verdict: str
    reason: str
    score: float | None
    threshold: float | None
    view: str
    latency_ms: float
    epoch: str
    seq: int

    @property
    def day(self) -> str:
        """In UTC, "2026-01-31"."""
        return day_of(self.t_wall_ns)


@dataclass(frozen=True, slots=True)
class DayFile:
    """A file of the log by its name."""

    number: int
    day: str
    path: Path

    @property
    def damaged(self) -> bool:
        """Whether it was set aside."""
        return self.path.name.endswith(DAMAGED)


def row_of(outcome: Outcome, epoch: str) -> Row:
    """What is kept of a judged part."""
    verdict = outcome.verdict
    return Row(
        outcome.part, outcome.t_wall_ns, outcome.product, outcome.bundle, outcome.engine,
        verdict.decision.value, verdict.reason.value, verdict.score, verdict.threshold, verdict.view,
        (outcome.t_verdict_ns - outcome.t_trigger_ns) / 1e6, epoch, outcome.seq,
    )  # fmt: skip


def day_of(t_wall_ns: int) -> str:
    """The day in UTC."""
    return datetime.fromtimestamp(t_wall_ns // 10**9, timezone.utc).strftime("%Y-%m-%d")


def day_files(state: Path) -> list[DayFile]:
    """Oldest first. Raises OSError but where there is no directory."""
    try:
        paths = list((state / DIRECTORY).iterdir())
    except FileNotFoundError:
        return []
    matches = [(_NAME.fullmatch(path.name), path) for path in paths]
    return sorted((DayFile(int(m[1]), m[2], path) for m, path in matches if m), key=lambda f: f.number)


class ScoreLog:
    """The files below STATE/scores. One thread calls its methods; the counters may be read by others."""

    def __init__(self, state: Path, usage: Callable[[Path], Usage] = shutil.disk_usage) -> None:
        self.root = state / DIRECTORY
        self.size = 0  # bytes of all files
        self.days = 0  # files
        self.evicted = 0
        self.damaged = 0  # files set aside
        self._state = state
        self._usage = usage
        self._files: list[DayFile] = []  # oldest first
        self._sizes: dict[int, int] = {}  # by number
        self._current: DayFile | None = None
        self._database: sqlite3.Connection | None = None
        self._known = False

    def add(self, rows: Sequence[Row], limits: Evidence) -> str:
        """Keep parts of one day; returns what else is to be said, in words. Raises NoRoom, OSError and
        sqlite3.Error, and then none of them is kept."""
        self._look()
        said = ""
        self._check_free(len(rows) * ROW_BYTES, limits)
        try:
            try:
                self._insert(self._open(rows[0].day), rows, limits)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                said = self._set_aside(str(error))
                self._insert(self._open(rows[0].day), rows, limits)
        except sqlite3.Error:
            self._forget()  # the next attempt looks at everything anew
            self._known = False
            raise
        self._measure()
        self.trim(limits)
        return said

    def trim(self, limits: Evidence) -> None:
        """Remove the oldest files beyond `scores_days`, but never the one in use. Raises OSError."""
        self._look()
        while len(self._files) > max(1, limits.scores_days) and self._evict():
            pass

    def close(self) -> None:
        """Idempotent. A file that is complete is one file, and can be copied and read from anywhere."""
        if self._database is not None:
            with suppress(sqlite3.Error):  # while someone reads it stays as it is
                self._database.execute("PRAGMA journal_mode=DELETE")
            self._measure()
        self._forget()

    def _look(self) -> None:
        """Once: what is there."""
        if not self._known:
            self.root.mkdir(parents=True, exist_ok=True)
            self._files = day_files(self._state)
            self._sizes = {file.number: _size(file.path) for file in self._files}
            self._count()
            self._known = True

    def _count(self) -> None:
        self.days, self.size = len(self._files), sum(self._sizes.values())

    def _measure(self) -> None:
        if self._current is not None:
            self._sizes[self._current.number] = _size(self._current.path)
            self._count()

    def _check_free(self, size: int, limits: Evidence) -> None:
        usage = self._usage(self.root)
        # Pictures give way first: they leave twice as much.
        if usage.free - size < limits.min_free / 2 * usage.total:
            raise NoRoom("less than half of evidence.min_free is left on the disk; free some space")

    def _make_room(self, size: int, limits: Evidence) -> None:
        """Beside the file in use, which stays."""
        assert self._current is not None
        quota = limits.scores_megabytes * MEGABYTE
        if self._sizes.get(self._current.number, 0) + size > quota:
            raise NoRoom("no room within evidence.scores_megabytes for one day; allow more")
        while self.size + size > quota and self._evict():
            pass

    def _evict(self) -> bool:
        """Remove the oldest file that is not in use, if there is one."""
        oldest = next((file for file in self._files if file != self._current), None)
        if oldest is None:
            return False
        for path in _paths(oldest.path):
            path.unlink(missing_ok=True)
        self._files.remove(oldest)
        self._sizes.pop(oldest.number, None)
        self.evicted += 1
        self._count()
        return True

    def _open(self, day: str) -> sqlite3.Connection:
        """The day's file, made where there is none. Raises sqlite3.Error."""
        current, database = self._current, self._database
        if current is not None and database is not None and current.day == day and current.path.exists():
            return database
        self.close()
        same = [file for file in self._files if file.day == day and not file.damaged]
        for file in reversed(same):
            if (found := self._connect(file)) is not None:
                return found
        number = 1 + max((file.number for file in self._files), default=0)
        file = DayFile(number, day, self.root / f"{number:06d}-{day}.sqlite")
        self._files.append(file)
        self._count()
        made = self._connect(file)
        assert made is not None
        return made

    def _connect(self, file: DayFile) -> sqlite3.Connection | None:
        """None for the file of another version of edge_ad, which is left alone."""
        self._current = file
        database = sqlite3.connect(
            file.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        self._database = database
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA):
            self._forget()
            return None
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        if not version:
            database.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA};COMMIT;")
        elif (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(f"malformed: {found}")
        return database

    def _insert(self, database: sqlite3.Connection, rows: Sequence[Row], limits: Evidence) -> None:
        self._make_room(len(rows) * ROW_BYTES, limits)
        runs = {(row.epoch, row.product, row.bundle, row.engine) for row in rows}
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany(
                "INSERT OR IGNORE INTO runs (epoch, product, bundle, engine) VALUES (?,?,?,?)", runs
            )
            database.executemany(
                "INSERT INTO parts SELECT ?,?,id,?,?,?,?,?,?,? FROM runs "
                "WHERE epoch=? AND product=? AND bundle=? AND engine=?",
                (
                    (
                        row.part, row.t_wall_ns, row.seq, row.verdict, row.reason, row.score,
                        row.threshold, row.view, row.latency_ms, row.epoch, row.product, row.bundle,
                        row.engine,
                    )
                    for row in rows
                ),
            )  # fmt: skip
            database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    def _set_aside(self, why: str) -> str:
        """Put the damaged file in use out of the way. Returns what was done. Raises OSError."""
        damaged, aside = self._current, None
        self._forget()
        assert damaged is not None
        for path in reversed(list(_paths(damaged.path))):  # the file last: its log means nothing alone
            with suppress(FileNotFoundError):
                aside = path.rename(path.with_name(path.name + DAMAGED))
        self._known = False
        self._look()
        self.damaged += 1
        name = aside.name if aside else "gone"
        return f"{damaged.path} is damaged ({why}); it is set aside as {name} and a new one begun"

    def _forget(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = self._current = None


def _paths(path: Path) -> Iterator[Path]:
    """A file and what SQLite keeps beside it."""
    yield path
    stem = path.name.removesuffix(DAMAGED)
    for suffix in ("-wal", "-shm"):
        yield path.with_name(stem + suffix + path.name[len(stem) :])


def _size(path: Path) -> int:
    """Bytes, 0 for what is gone."""
    size = 0
    for one in _paths(path):
        with suppress(FileNotFoundError):
            size += one.stat().st_size
    return size
