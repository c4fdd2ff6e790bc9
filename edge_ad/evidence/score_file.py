"""One file of scores: its tables, its rows, how it is opened and written, and what lies beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from edge_ad.delivery.outcome import Outcome

SCHEMA = 1
ROW_BYTES = 200  # that a part takes at most, with its place in the index
_BUSY_S = 2.0  # how long a person's program may hold it up
# What many parts have in common is there once; the view shows all of it.
_TABLES = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, product TEXT NOT NULL,
    bundle TEXT NOT NULL, engine TEXT NOT NULL, UNIQUE (epoch, product, bundle, engine));
CREATE TABLE parts (part TEXT NOT NULL, t_wall_ns INTEGER NOT NULL, run INTEGER NOT NULL REFERENCES
    runs(id), seq INTEGER NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, score REAL,
    threshold REAL, view TEXT NOT NULL, latency_ms REAL NOT NULL, challenge INTEGER NOT NULL);
CREATE INDEX parts_by_key ON parts(part);
CREATE VIEW scores AS SELECT part, t_wall_ns, product, bundle, engine, verdict, reason, score,
    threshold, view, latency_ms, epoch, seq, challenge FROM parts JOIN runs ON run = runs.id;
"""


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
    challenge: bool = False  # a known part, no yield

    @property
    def day(self) -> str:
        """In UTC, "2026-01-31"."""
        return day_of(self.t_wall_ns)


def row_of(outcome: Outcome, epoch: str) -> Row:
    """What is kept of a judged part."""
    verdict = outcome.verdict
    return Row(
        outcome.part, outcome.t_wall_ns, outcome.product, outcome.bundle, outcome.engine,
        verdict.decision.value, verdict.reason.value, verdict.score, verdict.threshold, verdict.view,
        (outcome.t_verdict_ns - outcome.t_trigger_ns) / 1e6, epoch, outcome.seq, outcome.challenge,
    )  # fmt: skip


def day_of(t_wall_ns: int) -> str:
    """The day in UTC."""
    return datetime.fromtimestamp(t_wall_ns // 10**9, timezone.utc).strftime("%Y-%m-%d")


def connect(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error."""
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def prepare(database: sqlite3.Connection) -> bool:
    """Make or check the tables; False for the file of another version of edge_ad, which is left alone.
    Raises sqlite3.Error."""
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, SCHEMA):
        return False
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    if not version:
        database.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA};COMMIT;")
    elif (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(f"malformed: {found}")
    return True


def insert(database: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Commit all of these parts, or none. Raises sqlite3.Error."""
    runs = {(row.epoch, row.product, row.bundle, row.engine) for row in rows}
    database.execute("BEGIN IMMEDIATE")
    try:
        database.executemany(
            "INSERT OR IGNORE INTO runs (epoch, product, bundle, engine) VALUES (?,?,?,?)", runs
        )
        database.executemany(
            "INSERT INTO parts SELECT ?,?,id,?,?,?,?,?,?,?,? FROM runs "
            "WHERE epoch=? AND product=? AND bundle=? AND engine=?",
            (
                (
                    row.part, row.t_wall_ns, row.seq, row.verdict, row.reason, row.score,
                    row.threshold, row.view, row.latency_ms, row.challenge, row.epoch, row.product,
                    row.bundle, row.engine,
                )
                for row in rows
            ),
        )  # fmt: skip
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def file_paths(path: Path) -> Iterator[Path]:
    """A file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        yield path.with_name(path.name + suffix)


def file_size(path: Path) -> int:
    """Bytes, 0 for what is gone."""
    size = 0
    for one in file_paths(path):
        with suppress(FileNotFoundError):
            size += one.stat().st_size
    return size
