"""The outbox's SQLite file: opened, checked, set aside where it is damaged, checkpointed, timed."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_ad.durable import sync_directory
from edge_ad.errors import DeliveryError

SCHEMA = 1
_BUSY_S = 1.0  # how long another program that looks into the file may hold it up
# SQLite checkpoints within a commit only where the thread that does it beside has fallen behind so far.
_FAR_BEHIND_PAGES = 4096
# `at_ns` is time that the outbox was open, over all starts: it only grows, whatever the clock does.
_TABLES = """
CREATE TABLE epochs (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
    wall_ns INTEGER NOT NULL, pruned INTEGER NOT NULL DEFAULT 0);
CREATE TABLE verdicts (epoch INTEGER NOT NULL REFERENCES epochs(id), seq INTEGER NOT NULL,
    part TEXT NOT NULL, decision TEXT NOT NULL, header BLOB NOT NULL, body BLOB NOT NULL,
    at_ns INTEGER NOT NULL, wall_ns INTEGER NOT NULL, PRIMARY KEY (epoch, seq));
CREATE TABLE consumers (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL DEFAULT 0, seen_wall_ns INTEGER NOT NULL DEFAULT 0);
CREATE TABLE probe (id INTEGER PRIMARY KEY, value INTEGER NOT NULL);
"""


class OutboxError(DeliveryError):
    """The outbox does not keep verdicts any more: whatever it said last may not be on the disk."""


class OutboxFull(OutboxError):
    """The disk has no room: nothing of what was asked is kept, and all that was kept before still is."""


@dataclass(frozen=True, slots=True)
class CommitTimes:
    """What a commit takes that outlives the process (normal) and one that outlives a power cut (full),
    seconds, the slower half left out (p50) and the slowest of a few (worst)."""

    normal_p50: float
    normal_worst: float
    full_p50: float
    full_worst: float

    def text(self) -> str:
        """For a person."""
        return (
            f"commit of a PASS {self.normal_p50 * 1e3:.2f} ms (worst {self.normal_worst * 1e3:.2f}), "
            f"of a REJECT {self.full_p50 * 1e3:.1f} ms (worst {self.full_worst * 1e3:.1f})"
        )


def open_file(path: Path, wall: Callable[[], int]) -> tuple[sqlite3.Connection, str]:
    """The database, made where there is none; and where a damaged one was set aside, how, in words.

    Raises OutboxError: it cannot be written, or has another schema version.
    """
    quarantined = ""
    try:
        try:
            return _open(path), quarantined
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            quarantined = quarantine(path, wall, str(error))
            return _open(path), quarantined
    except (sqlite3.Error, OSError) as error:
        raise OutboxError(f"{path}: {in_words(error)}") from error


def check_file(path: Path) -> None:
    """Look into an outbox that may be in use, or not there, and change nothing. Raises OutboxError."""
    if not path.exists():
        return
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as file:
            _check_version(file, path)
            found = file.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise OutboxError(
            f"{path}: {found}; if it is damaged, the next 'edge-ad run' sets it aside and begins anew"
        )


def quarantine(path: Path, wall: Callable[[], int], why: str) -> str:
    """Set a damaged file aside, with what belongs to it. Returns what was done. Raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall() / 1e9))
    aside, count = path.with_name(f"outbox.corrupt-{stamp}"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"outbox.corrupt-{stamp}.{count}")
    for suffix in ("-wal", "-shm", ""):  # the file last: without it the rest means nothing
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return (
        f"{path} is damaged ({why}); it is set aside as {aside.name} and a new one begun: verdicts that "
        f"consumers had not fetched are only there. Check the disk; 'sqlite3 {aside.name} .recover' "
        "reads what is left"
    )


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file's content is wrong, rather than the disk refusing."""
    text = str(error)
    return "malformed" in text or "not a database" in text


def is_full(error: sqlite3.Error | OSError) -> bool:
    """Whether there is no room on the disk: SQLite then takes back all of what it has begun."""
    return isinstance(error, sqlite3.Error) and "disk is full" in str(error)


def in_words(error: sqlite3.Error | OSError) -> str:
    """What is wrong and what to do."""
    text = str(error)
    remedies = {
        "full": "free some space on its disk",
        "disk I/O": "free some space where its disk is full, else replace it, and read the kernel's log",
        "readonly": "make its directory writable, or set another state_dir",
        "Read-only": "make its directory writable, or set another state_dir",
        "unable to open": "make its directory writable, or set another state_dir",
        "locked": "another program holds it open; close that",
    }
    remedy = next((r for part, r in remedies.items() if part in text), "check its disk")
    return f"verdicts cannot be kept ({text}); {remedy}"


def connect(path: Path) -> sqlite3.Connection:
    """A connection without transactions of its own making. Raises sqlite3.Error."""
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def measure(database: sqlite3.Connection, rounds: int = 8) -> CommitTimes:
    """Commit a little, several times at either durability. Raises sqlite3.Error."""
    times: dict[str, list[float]] = {"NORMAL": [], "FULL": []}
    for level, taken in times.items():
        database.execute(f"PRAGMA synchronous={level}")
        for index in range(rounds):
            start = time.perf_counter()
            database.execute("INSERT OR REPLACE INTO probe VALUES (1, ?)", (index,))
            taken.append(time.perf_counter() - start)
    normal, full = sorted(times["NORMAL"]), sorted(times["FULL"])
    return CommitTimes(normal[rounds // 2], normal[-1], full[rounds // 2], full[-1])


def _open(path: Path) -> sqlite3.Connection:
    database = connect(path)
    try:
        version = _check_version(database, path)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA wal_autocheckpoint={_FAR_BEHIND_PAGES}")
        database.execute("PRAGMA synchronous=FULL")
        if not version:
            database.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA};COMMIT;")
            sync_directory(path.parent)
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"malformed: {found}")
    except BaseException:
        database.close()
        raise
    return database


def _check_version(database: sqlite3.Connection, path: Path) -> int:
    """Its schema version; 0 of a file that is empty. Raises OutboxError for another than ours."""
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version != SCHEMA and (version or tables):
        raise OutboxError(
            f"{path}: has schema version {version}, this program knows {SCHEMA}; run the edge_ad "
            "that wrote it until consumers have fetched everything, or move the file away"
        )
    return version


class Checkpointer:
    """Moves what was committed from the log into the database in a thread of its own, so that no verdict
    waits for that. `failure`: why that is not possible any more, in words."""

    def __init__(self, path: Path) -> None:
        self.failure = ""
        self._path = path
        self._due = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Begin one, if none is on the way. Never blocks."""
        self._due.set()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._ended = True
        self._due.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        try:
            with contextlib.closing(connect(self._path)) as database:
                while True:
                    self._due.wait()
                    self._due.clear()
                    if self._ended:
                        return
                    try:
                        database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                    except sqlite3.Error as error:
                        if not is_full(error):
                            raise
                        # It stays in the log, where it is as safe; the next one moves it too.
        except sqlite3.Error as error:  # of the disk: what is committed next must not count on it
            self.failure = in_words(error)
