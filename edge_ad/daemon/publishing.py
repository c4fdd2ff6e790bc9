"""The publishing thread: encodes, sends, counts and journals what the inspection thread hands over."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

from edge_ad.delivery import wire
from edge_ad.delivery.outcome import Outcome, messages
from edge_ad.delivery.scores import ScorePublisher
from edge_ad.durable import ends_torn
from edge_ad.errors import DeviceError
from edge_ad.metrics import Metrics
from edge_ad.monitor.watch import Watch
from edge_ad.verdict import Decision

# For so long the verdict channel has the interpreter to itself: beside this thread, which encodes the
# same part, the gate's verdict took 0.1 ms longer (medians of four runs each, in turn).
GIVES_WAY_S = 0.002


class Journal:
    """Appends lines to a file, past every buffer of this process. Raises DeviceError on opening.

    What a full disk, or the daemon's end, left of a line ends there: the next line begins anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._torn = ends_torn(path)
        except OSError as error:
            raise DeviceError(
                f"--journal: {path} cannot be opened ({error.strerror}); give a writable path"
            ) from error

    def write(self, line: bytes) -> None:
        """Append one line. Raises OSError."""
        if self._torn:
            line = b"\n" + line
        while line:
            line = line[os.write(self._handle, line) :]
            self._torn = bool(line)

    def close(self) -> None:
        """Idempotent."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class Publisher:
    """Owns the publishing thread, its backlog, the PUB socket and the journal.

    `offer` is for the inspection thread: it never waits, and drops the oldest record of a full backlog.
    `gives_way`: a gate waits for the same verdict on another thread. `keep` takes every part that was
    sent, and never waits.
    """

    def __init__(
        self,
        scores: ScorePublisher,
        metrics: Metrics,
        station: str,
        epoch: str,
        backlog: int,
        journal: Journal | None,
        tell: Callable[[str, str], None],
        clock: Callable[[], int],
        gives_way: bool = False,
        keep: Callable[[Outcome], None] | None = None,
    ) -> None:
        self.published = 0
        self._overflow = 0  # each of the two is counted by one thread
        self._unsent = 0
        self._scores = scores
        self._metrics = metrics
        self._station = station
        self._epoch = epoch
        self._backlog = backlog
        self._journal = journal
        self._journal_fails = False
        self.watch: Watch | None = None
        self._tell = tell
        self._clock = clock
        self._gives_way = gives_way
        self._keep = keep
        # A SimpleQueue's `put` is a few machine instructions; it holds no Python lock.
        self._queue: SimpleQueue[Outcome | str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)

    @property
    def dropped(self) -> int:
        """Verdicts that went from a full backlog, or could not be encoded or sent."""
        return self._overflow + self._unsent

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, outcome: Outcome) -> None:
        """Hand over a judged part. Never blocks."""
        if self._queue.qsize() >= self._backlog:
            try:
                self._queue.get_nowait()
                self._overflow += 1
            except Empty:
                pass
        self._queue.put(outcome)

    def sync(self, token: str) -> None:
        """Publish an echo for a subscriber, behind everything handed over so far."""
        self._queue.put(token)

    def close(self, timeout_s: float = 5.0) -> None:
        """Publish what is left, then close socket and journal. Idempotent."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            # Stuck in a write. The socket is that thread's and goes with the process.
            left = self._queue.qsize()
            self._tell("warning", f"publishing: {left} verdicts not written within {timeout_s:g} s")
            return
        self._scores.close()
        if self._journal is not None:
            self._journal.close()

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if self._gives_way and self._queue.empty():  # a backlog is not held up
                time.sleep(GIVES_WAY_S)
            try:
                if item is None:
                    return
                if isinstance(item, str):
                    self._scores.send_sync(item)
                else:
                    self._publish(item)
            except Exception as error:  # noqa: BLE001 - the thread's top: the others must still go out
                self._unsent += 1
                self._tell("error", f"publishing: a message was lost ({error!r}); please report this")

    def _publish(self, outcome: Outcome) -> None:
        verdict = outcome.verdict
        latency_ns = outcome.t_verdict_ns - outcome.t_trigger_ns
        about, said = messages(outcome, self._station, self._epoch)
        header, body = wire.encode(about), wire.encode(said)
        rejected = verdict.decision is not Decision.PASS
        self._scores.send(header, body, rejected, outcome.product)
        published_s = (self._clock() - outcome.t_verdict_ns) / 1e9
        self.published += 1
        if self._keep is not None:
            self._keep(outcome)
        if self._journal is not None:
            self._write(self._journal, wire.journal_line(header, body))
        if outcome.challenge:
            self._metrics.challenged[verdict.decision].inc()
        else:
            self._count(outcome, latency_ns / 1e9, published_s)

    def _count(self, outcome: Outcome, latency_s: float, published_s: float) -> None:
        verdict = outcome.verdict
        self._metrics.part(
            verdict.decision,
            verdict.reason,
            latency_s,
            verdict.score / verdict.threshold,
            (*(ns / 1e9 for ns in outcome.stages_ns), published_s),
        )
        if outcome.degraded and outcome.asked:
            self._metrics.degraded.inc()
        if verdict.passed and verdict.findings:
            self._metrics.allowed.inc()
        for camera, pose in zip(outcome.cameras, verdict.poses, strict=False):
            if pose is not None:
                self._metrics.located(camera, pose)
        if self.watch is not None:
            self.watch.part(outcome)

    def _write(self, journal: Journal, line: bytes) -> None:
        try:
            journal.write(line)
        except OSError as error:
            self._metrics.journal_errors.inc()
            if not self._journal_fails:  # said once, not for every part
                self._tell(
                    "warning", f"journal {journal.path}: not written ({error.strerror}); free some space"
                )
            self._journal_fails = True
        else:
            self._journal_fails = False
