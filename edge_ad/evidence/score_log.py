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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_ad.config import Evidence
from edge_ad.delivery.outbox_file import is_damage
from edge_ad.errors import DeviceError
from edge_ad.evidence.archive import MEGABYTE, Usage
from edge_ad.evidence.score_file import (
    ROW_BYTES,
    Row,
    connect,
    file_paths,
    file_size,
    insert,
    prepare,
)

DIRECTORY = "scores"
DAMAGED = ".damaged"  # how the name of a file ends that was set aside
_NAME = re.compile(r"(\d{6,})-(\d{4}-\d\d-\d\d)\.sqlite(?:\.damaged)?")


class NoRoom(DeviceError):
    """Neither the quota nor the disk's free share leaves room, in words."""


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
        self._refused = False  # to remove an old file

    def add(self, rows: Sequence[Row], limits: Evidence) -> str:
        """Keep parts of one day; returns what else is to be said, in words. Raises NoRoom, OSError and
        sqlite3.Error, and then none of them is kept."""
        self._look()
        said = ""
        try:
            self._check_free(len(rows) * ROW_BYTES, limits)
            try:
                self._write(rows, limits)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                said = self._set_aside(str(error))
                self._write(rows, limits)
        except (sqlite3.Error, OSError):
            self._forget()  # the next attempt looks at everything anew
            self._known = False
            raise
        self._measure()
        try:
            self.trim(limits)
            self._refused = False
        except OSError as error:  # the parts are kept all the same
            if not self._refused:  # said once
                said = f"{said} an old day cannot be removed ({error}); look at the disk".strip()
            self._refused = True
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
            self._sizes = {file.number: file_size(file.path) for file in self._files}
            self._count()
            self._known = True

    def _count(self) -> None:
        self.days, self.size = len(self._files), sum(self._sizes.values())

    def _measure(self) -> None:
        if self._current is not None:
            self._sizes[self._current.number] = file_size(self._current.path)
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
        for path in file_paths(oldest.path):
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
        """None for the file of another version of edge_ad."""
        self._current = file
        self._database = database = connect(file.path)
        if prepare(database):
            return database
        self._forget()
        return None

    def _write(self, rows: Sequence[Row], limits: Evidence) -> None:
        database = self._open(rows[0].day)
        self._make_room(len(rows) * ROW_BYTES, limits)
        insert(database, rows)

    def _set_aside(self, why: str) -> str:
        """Put the damaged file in use out of the way. Returns what was done. Raises OSError."""
        damaged = self._current
        self._forget()
        assert damaged is not None
        aside = damaged.path.with_name(damaged.path.name + DAMAGED)
        pairs = zip(file_paths(damaged.path), file_paths(aside), strict=True)
        for path, target in reversed(list(pairs)):  # the file last: its log means nothing alone
            with suppress(FileNotFoundError):
                path.rename(target)
        self._known = False
        self._look()
        self.damaged += 1
        return f"{damaged.path} is damaged ({why}); it is set aside as {aside.name} and a new one begun"

    def _forget(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = self._current = None
