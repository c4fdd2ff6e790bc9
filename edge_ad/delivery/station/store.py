"""The station's SQLite file: verdicts once each, actions, alarms; durable once `commit` returns."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_ad.durable import sync_directory

SCHEMA = 1
_MOST_DAMAGED = 3  # files set aside that are kept
_PRUNE_ROWS = 512  # at once, so that no commit waits long for it
# `hours` is running time of the station, over all starts: it only grows, whatever the clock does.
_TABLES = """
CREATE TABLE verdicts (source TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    part TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, live INTEGER NOT NULL,
    header BLOB NOT NULL, body BLOB NOT NULL, t_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL, hours REAL NOT NULL, UNIQUE (source, epoch, seq));
CREATE TABLE actions (run TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL,
    action TEXT NOT NULL, why TEXT NOT NULL, detail TEXT NOT NULL, verdicts TEXT NOT NULL,
    t_ns INTEGER NOT NULL, wall_ns INTEGER NOT NULL, hours REAL NOT NULL);
CREATE TABLE events (run TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, t_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL, hours REAL NOT NULL);
CREATE TABLE positions (source TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_PRUNED = ("verdicts", "actions", "events")


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """A verdict as it came; header and body as JSON."""

    source: str
    epoch: str
    seq: int
    part: str
    verdict: str
    reason: str
    live: bool
    header: bytes
    body: bytes
    t_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class ActionRow:
    """What was done about a part: pass or reject. `verdicts`: JSON list of [source, epoch, seq]."""

    run: str
    number: int
    key: str
    action: str
    why: str
    detail: str
    verdicts: str
    t_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class EventRow:
    """Anything else: an alarm, a resync, a start. `state`: a name and value to remember."""

    run: str
    kind: str
    text: str
    t_ns: int
    wall_ns: int
    state: tuple[str, str] | None = None


Row = VerdictRow | ActionRow | EventRow


class StationStore:
    """The file, for one thread at a time. Every method raises sqlite3.Error.

    `damaged`: what was set aside at opening, in words. `clock`: monotonic ns.
    """

    def __init__(self, path: Path, clock: Callable[[], int], wall: Callable[[], int]) -> None:
        self.path = path
        self.damaged = ""
        self._clock = clock
        try:
            self._database = _open(path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.damaged = set_aside(path, wall, str(error))
            self._database = _open(path)
        latest = [self._number(f"SELECT max(hours) FROM {table}") for table in _PRUNED]
        self._hours0 = max(latest) - clock() / 3.6e12

    def position(self, source: str) -> tuple[str, int] | None:
        """(epoch, seq) of the verdict that was committed last."""
        row = self._database.execute(
            "SELECT epoch, seq FROM positions WHERE source = ?", (source,)
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def state(self, name: str) -> str:
        """What is remembered under a name; "" for nothing."""
        row = self._database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def write(self, rows: Iterable[Row], positions: dict[str, tuple[str, int]]) -> None:
        """All of it or nothing, and durable when this returns."""
        hours = self._hours0 + self._clock() / 3.6e12
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        try:
            for row in rows:
                self._insert(row, hours)
            for source, (epoch, seq) in positions.items():
                run("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", (source, epoch, seq))
            run("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                run("ROLLBACK")
            raise

    def prune(self, retention_hours: float, max_bytes: int) -> int:
        """Remove some of the oldest rows beyond the limits; returns how many went."""
        before = self._hours0 + self._clock() / 3.6e12 - retention_hours
        gone = 0
        for table in _PRUNED:
            gone += self._remove(
                table, f"rowid <= (SELECT max(rowid) FROM {table} WHERE hours < {before!r})"
            )
        if not gone and self._used() > max_bytes:
            for table in _PRUNED:
                gone += self._remove(table, "1")
        return gone

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    def _insert(self, row: Row, hours: float) -> None:
        run = self._database.execute
        if isinstance(row, VerdictRow):
            run(
                "INSERT OR IGNORE INTO verdicts VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    row.source, row.epoch, row.seq, row.part, row.verdict, row.reason, row.live,
                    row.header, row.body, row.t_ns, row.wall_ns, hours,
                ),
            )  # fmt: skip
        elif isinstance(row, ActionRow):
            run(
                "INSERT INTO actions VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    row.run, row.number, row.key, row.action, row.why, row.detail, row.verdicts,
                    row.t_ns, row.wall_ns, hours,
                ),
            )  # fmt: skip
        else:
            run(
                "INSERT INTO events VALUES (?,?,?,?,?,?)",
                (row.run, row.kind, row.text, row.t_ns, row.wall_ns, hours),
            )
            if row.state is not None:
                run("INSERT OR REPLACE INTO state VALUES (?, ?)", row.state)

    def _remove(self, table: str, where: str) -> int:
        return self._database.execute(
            f"DELETE FROM {table} WHERE rowid IN "
            f"(SELECT rowid FROM {table} WHERE {where} ORDER BY rowid LIMIT {_PRUNE_ROWS})"
        ).rowcount

    def _used(self) -> int:
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return int(pages * self._number("PRAGMA page_size"))

    def _number(self, query: str) -> float:
        return float(self._database.execute(query).fetchone()[0] or 0)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file's content is wrong, rather than the disk refusing."""
    text = str(error)
    return any(words in text for words in ("malformed", "not a database", "no such table"))


def set_aside(path: Path, wall: Callable[[], int], why: str) -> str:
    """Rename a damaged file and what belongs to it. Returns what was done. Raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall() / 1e9))
    aside, count = path.with_name(f"{path.stem}.damaged-{stamp}"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.stem}.damaged-{stamp}.{count}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    kept = sorted(p for p in path.parent.glob(f"{path.stem}.damaged-*") if p.name[-4] != "-")
    for old in kept[:-_MOST_DAMAGED]:
        for suffix in ("-wal", "-shm", ""):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
    return (
        f"{path} is damaged ({why}); it is set aside as {aside.name} and a new one begun. Check the "
        f"disk; 'sqlite3 {aside.name} .recover' reads what is left"
    )


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and version != SCHEMA:
            raise sqlite3.DatabaseError(f"schema version {version}, this program knows {SCHEMA}")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        if not tables:
            database.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA};COMMIT;")
            sync_directory(path.parent)
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"malformed: {found}")
    except BaseException:
        database.close()
        raise
    return database
