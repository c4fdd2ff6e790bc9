"""The thread that keeps scores: takes what the publishing thread hands over, writes it in batches."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from queue import Empty

from edge_ad.config import Evidence
from edge_ad.delivery.outcome import Outcome
from edge_ad.evidence.keeper import DISK, QUEUE, SPACE, Keeper
from edge_ad.evidence.score_file import Row, row_of
from edge_ad.evidence.score_log import NoRoom, ScoreLog

EVERY_S = 1.0  # a batch collects for so long
BATCH = 5000  # and holds so many parts at most
BACKLOG = 20_000  # parts that may wait, some 300 bytes each


class ScoreKeeper(Keeper[Row]):
    """Owns the score log and its thread. `offer` is for the publishing thread: it never waits.

    `tell` takes one line per event and must not block. What cannot be kept is counted in `dropped` and
    told once, until something is kept again. Other threads may read the counters.
    """

    def __init__(
        self,
        state: Path,
        settings: Evidence,
        epoch: str,
        tell: Callable[[str, str], None],
        log: ScoreLog | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        super().__init__("scores", settings)
        self.log = log or ScoreLog(state)
        self.kept = 0
        self.dropped = {QUEUE: 0, DISK: 0, SPACE: 0}  # QUEUE is counted by the publishing thread
        self._epoch = epoch
        self._tell = tell
        self._every_s = every_s
        self._failing = False
        self._ending = threading.Event()

    def offer(self, outcome: Outcome) -> None:
        """Take a part that was judged. Never blocks."""
        if not self._settings.scores_days:
            return
        if self._queue.qsize() >= BACKLOG:
            self.dropped[QUEUE] += 1
            return
        self._queue.put(row_of(outcome, self._epoch))

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, within bounds. Idempotent."""
        self._ending.set()
        super().close(timeout_s)

    def _give_up(self, left: int, timeout_s: float) -> None:
        self.dropped[QUEUE] += left
        self._tell("warning", f"scores of {left} parts not written within {timeout_s:g} s")

    def _run(self) -> None:
        ended = False
        while not ended and not self._abandoned:
            rows, ended = self._collect()
            for _, those in groupby(rows, key=lambda row: row.day):
                self._keep(list(those))
        self.log.close()

    def _collect(self) -> tuple[list[Row], bool]:
        """The next batch, and whether it is the last."""
        rows: list[Row] = []
        item = self._queue.get()
        if isinstance(item, Row):
            self._ending.wait(self._every_s)  # more of them come meanwhile
        while True:
            if item is None:
                return rows, True
            if isinstance(item, Row):
                rows.append(item)
            else:
                self._trim(item)
            if len(rows) >= BATCH:
                return rows, False
            try:
                item = self._queue.get_nowait()
            except Empty:
                return rows, False

    def _trim(self, settings: Evidence) -> None:
        if not settings.scores_days:
            return  # what was kept before stays
        try:
            self.log.trim(settings)
        except OSError as error:
            self._shed(DISK, 0, f"cannot be written ({error}); look at the disk")

    def _keep(self, rows: list[Row]) -> None:
        """Write parts of one day, or count them."""
        try:
            said = self.log.add(rows, self._settings)
        except NoRoom as error:
            self._shed(SPACE, len(rows), str(error))
        except (OSError, sqlite3.Error) as error:
            self._shed(DISK, len(rows), f"cannot be written ({error}); look at the disk")
        except Exception as error:  # noqa: BLE001 - the thread's top: the next may be kept
            self._shed(DISK, len(rows), f"scores were lost ({error!r}); please report this")
        else:
            self.kept += len(rows)
            self._failing = False
            if said:
                self._tell("error", said)

    def _shed(self, why: str, count: int, text: str) -> None:
        self.dropped[why] += count
        if not self._failing:  # said once, not for every batch
            self._tell("warning", f"scores {self.log.root}: {text}; parts are judged as before")
        self._failing = True
