"""Parts by key, verdict, product, time and score: from the files of scores, with their pictures.

A part of which there are pictures and no score, as none was kept then, is found as well. A day is in
memory at most, and what is found comes in the order of time.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_ad.errors import ConfigError
from edge_ad.evidence.entry import DIRECTORY, Entry, product_directories, read_entries
from edge_ad.evidence.score_file import SCHEMA, Row, day_of
from edge_ad.evidence.score_log import day_files

_INSERT = f"INSERT INTO found VALUES ({','.join('?' * len(Row._fields))})"


@dataclass(frozen=True)
class Query:
    """What is looked for; an empty or None field asks for nothing. part: a GLOB; since, until:
    wall time in ns, the second excluded; near: within this share of the threshold, on either side;
    kinds: of pictures that were kept."""

    part: str = ""
    verdicts: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    product: str = ""
    since_ns: int | None = None
    until_ns: int | None = None
    near: float | None = None
    kinds: tuple[str, ...] = ()

    def where(self) -> tuple[str, list[object]]:
        """The condition in SQL over the columns of a row, and its parameters."""
        terms: list[str] = ["1"]
        values: list[object] = []
        for term, value in (
            ("part GLOB ?", self.part or None),
            ("product = ?", self.product or None),
            ("t_wall_ns >= ?", self.since_ns),
            ("t_wall_ns < ?", self.until_ns),
            ("score >= threshold - ? * abs(threshold)", self.near),
            ("score <= threshold + ? * abs(threshold)", self.near),
        ):
            if value is not None:
                terms.append(term)
                values.append(value)
        for column, among in (("verdict", self.verdicts), ("reason", self.reasons)):
            if among:
                terms.append(f"{column} IN ({','.join('?' * len(among))})")
                values += among
        return " AND ".join(terms), values


@dataclass(frozen=True)
class Found:
    """A part; entry: its pictures, None where none are kept."""

    row: Row
    entry: Entry | None

    @property
    def time(self) -> str:
        """When it was triggered, by the wall clock, ISO 8601 in UTC, milliseconds."""
        seconds, rest = divmod(self.row.t_wall_ns, 10**9)
        when = datetime.fromtimestamp(seconds, timezone.utc)
        return f"{when:%Y-%m-%dT%H:%M:%S}.{rest // 10**6:03d}Z"


def find_parts(state: Path, query: Query, tell: Callable[[str], None]) -> Iterator[Found]:
    """What answers the query, the earliest first. `tell` takes a line for each file or entry that cannot
    be read. The daemon may write meanwhile. Raises OSError."""
    entries = {(e.record.header.epoch, e.record.header.seq): e for e in _entries(state, query, tell)}
    pictured: dict[str, list[Row]] = {}
    for row in map(_row, entries.values()):
        pictured.setdefault(row.day, []).append(row)
    days: dict[str, list[Path]] = {day: [] for day in pictured}
    for file in day_files(state):
        if file.damaged:
            tell(f"{file.path}: was damaged and is left out; 'sqlite3 FILE .recover' reads what is left")
        else:
            days.setdefault(file.day, []).append(file.path)
    for day in sorted(days):
        if query.since_ns is not None and day < day_of(query.since_ns):
            continue
        if query.until_ns is not None and day > day_of(query.until_ns):
            continue
        rows = [row for path in days[day] for row in _rows(path, query, tell)]
        seen = {(row.epoch, row.seq) for row in rows}
        alone = _matching(pictured.get(day, []), query)
        rows += (row for row in alone if (row.epoch, row.seq) not in seen)
        for row in sorted(rows, key=lambda row: row.t_wall_ns):
            entry = entries.get((row.epoch, row.seq))
            if not query.kinds or (entry is not None and entry.record.kind in query.kinds):
                yield Found(row, entry)


def _rows(path: Path, query: Query, tell: Callable[[str], None]) -> list[Row]:
    """Those of a file that match."""
    condition, values = query.where()
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            version = file.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA:
                if version:
                    tell(
                        f"{path}: has schema version {version}, this program knows {SCHEMA}; use the "
                        "edge_ad that wrote it"
                    )
                return []
            columns = ", ".join(Row._fields)
            sql = f"SELECT {columns} FROM scores WHERE {condition}"
            return [Row(*row) for row in file.execute(sql, values)]
    except sqlite3.Error as error:
        if path.exists():  # else its day has gone meanwhile
            tell(f"{path}: cannot be read ({error}); the daemon sets it aside where it is damaged")
        return []


def _matching(rows: list[Row], query: Query) -> list[Row]:
    """Of parts with pictures, by the same words as in a file."""
    condition, values = query.where()
    with closing(sqlite3.connect(":memory:")) as found:
        found.execute(f"CREATE TABLE found ({', '.join(Row._fields)})")
        found.executemany(_INSERT, rows)
        return [Row(*one) for one in found.execute(f"SELECT * FROM found WHERE {condition}", values)]


def _entries(state: Path, query: Query, tell: Callable[[str], None]) -> Iterator[Entry]:
    products = [query.product]
    if not query.product:
        products = [path.name for path in product_directories(state / DIRECTORY)]
    for product in products:
        entries, damaged = read_entries(state, product)
        for line in damaged:
            tell(line)
        yield from entries


def _row(entry: Entry) -> Row:
    """What the score log would hold of it."""
    header, body = entry.record.header, entry.record.body
    return Row(
        header.part, header.t_wall_ns, header.product, header.bundle, body.engine, body.verdict,
        body.reason, body.score, body.threshold, body.view, body.latency_ms, header.epoch, header.seq,
        body.challenge,
    )  # fmt: skip


def parse_time(text: str, option: str) -> int:
    """A day or a moment in ISO 8601 as wall time in ns; without a zone in UTC. Raises ConfigError."""
    # Python 3.10 knows neither Z nor fractions of other than 3 or 6 digits.
    plain = re.sub(r"\.(\d{1,6})\d*", lambda found: f".{found[1]:0<6}", text.strip())
    try:
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", plain))
    except ValueError as error:
        raise ConfigError(
            f"{option}: {text!r} is no time; give it as 2026-01-31 or 2026-01-31T12:00:00Z"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
