"""A thread that puts on disk what others hand over, and makes nobody wait."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

from edge_ad.config import Evidence

T = TypeVar("T")
# Writing gives way to inspecting. No lower, and not SCHED_IDLE: the thread has Python's lock at times,
# and who has that and gets no core, because other programs want them, stops the whole daemon.
NICE = 10
QUEUE, DISK, SPACE = "queue", "disk", "space"  # why something was not kept


class Keeper(ABC, Generic[T]):
    """Owns the thread and the queue of what waits for it, between which new settings come too; None ends
    it."""

    def __init__(self, name: str, settings: Evidence) -> None:
        self._settings = settings
        self._abandoned = False
        self._queue: SimpleQueue[T | Evidence | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._queue.put(self._settings)
        self._thread.start()

    def configure(self, settings: Evidence) -> None:
        """Keep by other settings from now on; what no longer has room goes."""
        self._settings = settings
        self._queue.put(settings)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, within bounds. Idempotent."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._abandoned = True  # it ends after what is at hand
            self._give_up(max(0, self._queue.qsize() - 1), timeout_s)

    def _main(self) -> None:
        with suppress(OSError, AttributeError):  # on Linux a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        self._run()

    @abstractmethod
    def _run(self) -> None:
        """Empty the queue until None comes, or `_abandoned`."""

    @abstractmethod
    def _give_up(self, left: int, timeout_s: float) -> None:
        """Count so many that are not written, and say so."""
