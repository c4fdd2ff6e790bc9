"""A thread that does one thing after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Its thread does not keep the process from ending, as an executor's would: a driver may hang in
    it."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._work = SimpleQueue()
        self._ended = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Do it after what was submitted before. Cancelled once `end` was called."""
        future: Future[T] = Future()
        self._work.put((future, work, arguments))
        if self._ended:
            self._cancel()
        return future

    def end(self) -> None:
        """Cancel what has not begun, and do nothing more. Returns at once."""
        self._ended = True
        self._cancel()

    def _cancel(self) -> None:
        with suppress(Empty):
            while True:
                waiting = self._work.get_nowait()
                if waiting is not None:
                    waiting[0].cancel()
        self._work.put(None)

    def _run(self) -> None:
        while (waiting := self._work.get()) is not None:
            future, work, arguments = waiting
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work(*arguments))
                except BaseException as error:  # noqa: BLE001 - it belongs to who asked
                    future.set_exception(error)
            del future, waiting  # what it holds is not held until the next
