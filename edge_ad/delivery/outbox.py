"""The outbox: verdicts that consumers have not acknowledged, on the disk before anyone is told.

REJECT and FAULT outlive a power cut once `add` returns, PASS the death of the process. What a power cut
takes is the end of an epoch, and the next start has an epoch of its own: no number is given twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_ad import failpoints
from edge_ad.delivery.outbox_file import (
    Checkpointer,
    CommitTimes,
    OutboxError,
    OutboxFull,
    in_words,
    is_damage,
    is_full,
    measure,
    open_file,
    quarantine,
)

Position = tuple[int, int]  # epoch's id, seq: orders verdicts over all starts
PRUNE_ROWS = 64  # at once, so that a verdict never waits long for it
_CHECKPOINT_COMMITS = 256  # some 4 MB of log
_KEPT_EPOCHS = 10_000


@dataclass(frozen=True, slots=True)
class Record:
    """A verdict to be kept: header and body as they are published."""

    seq: int
    part: str
    decision: str
    header: bytes
    body: bytes
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A verdict that is kept."""

    position: Position
    epoch: str
    header: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Hole:
    """Verdicts of an epoch that are not kept any more, first to last."""

    epoch: str
    first: int
    last: int


class Outbox:
    """Opened by any thread, then for one. Every method raises OutboxError where the disk fails, after
    which nothing more may be asked of it but `close`; `add` and `tidy` raise OutboxFull where it has no
    room, and may be asked again.

    `epoch` is new at every start; `clock` in monotonic ns; `wall` labels rows and decides nothing.
    """

    def __init__(
        self,
        path: Path,
        epoch: str,
        consumers: Sequence[str],
        clock: Callable[[], int],
        wall: Callable[[], int],
        retention_ns: int = 0,
        max_bytes: int = 500_000_000,
    ) -> None:
        self.path = path
        self.evicted = 0  # rows that had to go for room
        self.evicted_unfetched = 0  # of them, such that a consumer had not acknowledged
        self._clock = clock
        self._wall = wall
        self._retention_ns = retention_ns
        self._max_bytes = max_bytes
        self._unmoved = 0  # commits since the last checkpoint
        self._unmoved_before = 0
        self._level = ""
        self._database, self.quarantined = open_file(path, wall)
        try:
            self.times: CommitTimes = measure(self._database)
            row = self._one("SELECT at_ns FROM verdicts ORDER BY epoch DESC, seq DESC LIMIT 1")
            self._since_ns = (row[0] if row else 0) - clock()
            self._synchronous("FULL")
            self.epoch_id = self._register(epoch)
            self.consumers = {name: self._known(name) for name in consumers}
            self._seen_ns = dict.fromkeys(consumers, 0)
            self._unsaved: set[str] = set()
            self._names: dict[int, str] = dict(self._all("SELECT id, name FROM epochs"))
            self._ids = {name: epoch for epoch, name in self._names.items()}
            ranges = self._all("SELECT epoch, min(seq), max(seq) FROM verdicts GROUP BY epoch")
            self._ranges: dict[int, tuple[int, int]] = {e: (low, high) for e, low, high in ranges}
        except OutboxError:
            self._database.close()
            raise
        except sqlite3.Error as error:
            self._database.close()
            raise self._failed(error) from error
        self._checkpointer = Checkpointer(path)

    @property
    def last(self) -> Position:
        """Of the verdict that was kept last; where none is, the beginning of this epoch."""
        epoch = max(self._ranges, default=self.epoch_id)
        return (epoch, self._ranges[epoch][1]) if epoch in self._ranges else (epoch, 0)

    def add(self, records: Sequence[Record]) -> str:
        """Keep verdicts of this epoch, all or none; "full" where one needed to outlive a power cut."""
        durability = "normal" if all(record.decision == "PASS" for record in records) else "full"
        at_ns, epoch = self._since_ns + self._clock(), self.epoch_id
        rows = [(epoch, r.seq, r.part, r.decision, r.header, r.body, at_ns, r.wall_ns) for r in records]
        try:
            if failpoints.active:
                failpoints.active.hit("outbox.commit.before")
            self._synchronous(durability.upper())
            with _Transaction(self._database):
                self._database.executemany("INSERT INTO verdicts VALUES (?,?,?,?,?,?,?,?)", rows)
        except (sqlite3.Error, OSError) as error:
            if is_full(error):
                self._checkpointer.ask()  # the log begins anew behind one, if there is room for that
            raise self._failed(error) from error
        first = self._ranges.get(epoch, (records[0].seq, 0))[0]
        self._ranges[epoch] = (first, records[-1].seq)
        self._unmoved += 1
        if self._unmoved >= _CHECKPOINT_COMMITS:
            self.checkpoint()
        if failpoints.active:
            failpoints.active.hit("outbox.commit.after")
        return durability

    def checkpoint(self) -> None:
        """Begin to move what was committed out of the log; nobody waits."""
        if self._checkpointer.failure:
            raise OutboxError(f"{self.path}: {self._checkpointer.failure}")
        if self._unmoved:
            self._unmoved = 0
            self._checkpointer.ask()

    def position(self, epoch: str, seq: int) -> Position | None:
        """What a consumer calls (epoch, seq); None for an epoch that is not known here."""
        known = self._ids.get(epoch)
        return None if known is None else (known, seq)

    def before_all(self) -> Position:
        """Where one stands who has nothing of what is kept, and misses nothing that went before."""
        row = self._one("SELECT epoch, seq - 1 FROM verdicts ORDER BY epoch, seq LIMIT 1")
        return (self.epoch_id, 0) if row is None else (row[0], row[1])

    def read(self, after: Position, limit: int) -> list[Kept]:
        """The verdicts that follow, in order over all epochs."""
        rows = self._all(
            "SELECT epoch, seq, header, body FROM verdicts WHERE (epoch, seq) > (?, ?) "
            "ORDER BY epoch, seq LIMIT ?",
            (*after, limit),
        )
        return [Kept((e, s), self._names[e], header, body) for e, s, header, body in rows]

    def holes(self, after: Position, before: Position) -> list[Hole]:
        """What is not kept any more of all that came between two verdicts."""
        pruned = self._all(
            "SELECT id, name, pruned FROM epochs WHERE id BETWEEN ? AND ? AND pruned > 0 ORDER BY id",
            (after[0], before[0]),
        )
        found = []
        for epoch, name, last in pruned:
            first = after[1] + 1 if epoch == after[0] else 1
            last = before[1] - 1 if epoch == before[0] else last
            if first <= last:
                found.append(Hole(name, first, last))
        if not any(epoch == before[0] for epoch, _, _ in pruned):  # it never came to be kept
            first = after[1] + 1 if after[0] == before[0] else 1
            if first < before[1]:
                found.append(Hole(self._names[before[0]], first, before[1] - 1))
        return found

    def acknowledge(self, consumer: str, position: Position) -> None:
        """The consumer has committed everything up to here. Written down by `tidy`."""
        self._seen_ns[consumer] = self._wall()
        if position > self.consumers[consumer]:
            self.consumers[consumer] = position
            self._unsaved.add(consumer)

    def depth(self, consumer: str) -> int:
        """How many kept verdicts it has not acknowledged. Any thread."""
        acked, count = self.consumers[consumer], 0
        for epoch, (first, last) in list(self._ranges.items()):
            if epoch >= acked[0]:
                count += last - max(first - 1, min(last, acked[1]) if epoch == acked[0] else 0)
        return count

    def oldest_s(self, consumer: str) -> float:
        """How long ago the oldest of them was kept, by the time that the daemon has run since."""
        row = self._one(
            "SELECT at_ns FROM verdicts WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT 1",
            self.consumers[consumer],
        )
        return 0.0 if row is None else (self._since_ns + self._clock() - row[0]) / 1e9

    def tidy(self) -> int:
        """Write positions down, let a batch of old rows go; returns how many. To be called every second
        or so, and again at once while it returns PRUNE_ROWS."""
        before = set(self._unsaved), dict(self._ranges), self.evicted, self.evicted_unfetched
        try:
            self._synchronous("NORMAL")
            with _Transaction(self._database):
                self._save_positions()
                gone = self._prune()
        except (sqlite3.Error, OSError, OutboxError) as error:
            self._unsaved, self._ranges, self.evicted, self.evicted_unfetched = before
            if isinstance(error, OutboxError):
                raise
            raise self._failed(error) from error
        return gone

    def checkpoint_if_quiet(self) -> None:
        """The same for the rest of what a quiet line has left."""
        if self._unmoved == self._unmoved_before:
            self.checkpoint()
        self._unmoved_before = self._unmoved

    def close(self) -> None:
        """Idempotent; writes nothing more but what was committed."""
        self._checkpointer.close()
        self._database.close()

    def _register(self, epoch: str) -> int:
        """Begin an epoch; on the disk when this returns."""
        try:
            cursor = self._database.execute(
                "INSERT INTO epochs (name, wall_ns) VALUES (?, ?)", (epoch, self._wall())
            )
        except sqlite3.IntegrityError as error:
            raise OutboxError(f"{self.path}: has had epoch {epoch!r} before; start again") from error
        assert cursor.lastrowid is not None
        self._database.execute(
            "DELETE FROM epochs WHERE id <= ? AND id NOT IN (SELECT epoch FROM verdicts) "
            "AND id NOT IN (SELECT epoch FROM consumers)",
            (cursor.lastrowid - _KEPT_EPOCHS,),
        )
        return cursor.lastrowid

    def _known(self, consumer: str) -> Position:
        """What it acknowledged last; one that is new gets all that is kept."""
        self._database.execute(
            "INSERT OR IGNORE INTO consumers (name, epoch, seq) VALUES (?, ?, ?)",
            (consumer, *self.before_all()),
        )
        row = self._one("SELECT epoch, seq FROM consumers WHERE name = ?", (consumer,))
        assert row is not None
        return row[0], row[1]

    def _save_positions(self) -> None:
        """Within a transaction."""
        if self._unsaved:
            rows = [(*self.consumers[name], self._seen_ns[name], name) for name in self._unsaved]
            self._database.executemany(
                "UPDATE consumers SET epoch = ?, seq = ?, seen_wall_ns = ? WHERE name = ?", rows
            )
            self._unsaved.clear()

    def _prune(self) -> int:
        """The oldest rows that everybody has and that are old enough, or that there is no room for."""
        database = self._database
        oldest = self._all(
            "SELECT epoch, seq, at_ns FROM verdicts ORDER BY epoch, seq LIMIT ?", (PRUNE_ROWS,)
        )
        pages = self._one("PRAGMA page_count")[0] - self._one("PRAGMA freelist_count")[0]  # type: ignore[index]
        crowded = pages * self._one("PRAGMA page_size")[0] > self._max_bytes  # type: ignore[index]
        fetched = min(self.consumers.values(), default=(0, 0))
        if not crowded:
            until_ns = self._since_ns + self._clock() - self._retention_ns
            oldest = [row for row in oldest if (row[0], row[1]) <= fetched and row[2] <= until_ns]
        if not oldest:
            return 0
        last = (oldest[-1][0], oldest[-1][1])
        database.execute("DELETE FROM verdicts WHERE (epoch, seq) <= (?, ?)", last)
        for epoch, seq in {row[0]: row[1] for row in oldest}.items():
            database.execute("UPDATE epochs SET pruned = ? WHERE id = ?", (seq, epoch))
            if seq >= self._ranges[epoch][1]:
                del self._ranges[epoch]
            else:
                self._ranges[epoch] = (seq + 1, self._ranges[epoch][1])
        if crowded:
            self.evicted += len(oldest)
            self.evicted_unfetched += sum((row[0], row[1]) > fetched for row in oldest)
        return len(oldest)

    def _synchronous(self, level: str) -> None:
        if level != self._level:
            self._database.execute(f"PRAGMA synchronous={level}")
            self._level = level

    def _one(self, text: str, values: Iterable[object] = ()) -> tuple[int, ...] | None:
        rows = self._all(text, values)
        return rows[0] if rows else None

    def _all(self, text: str, values: Iterable[object] = ()) -> list[tuple]:  # type: ignore[type-arg]
        try:
            return self._database.execute(text, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error | OSError) -> OutboxError:
        """Nothing is tried again but for want of room: after a failed fsync nobody knows what is on the
        disk."""
        if is_full(error):
            return OutboxFull(f"{self.path}: {in_words(error)}")
        if isinstance(error, sqlite3.Error) and is_damage(error):
            try:
                return OutboxError(quarantine(self.path, self._wall, str(error)))
            except OSError as worse:
                return OutboxError(f"{self.path}: {in_words(error)}; nor set aside ({worse})")
        return OutboxError(f"{self.path}: {in_words(error)}")


class _Transaction:
    """All or nothing, also where a failpoint raises or the disk has no room for the commit."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
