"""Threads that wait in a camera's library while the process ends.

Python ends a thread that returns to it then, wherever its caller is; where that is a library in C++, the
process is aborted. So sources are stopped before, and their threads waited for.
"""

from __future__ import annotations

import atexit
import threading
from typing import Protocol, runtime_checkable
from weakref import WeakSet

from edge_ad.capture.source import Source

WAIT_S = 5.0  # for one that waits for a camera which does not answer


@runtime_checkable
class Stoppable(Protocol):
    """A source with a thread of its own."""

    def stop(self) -> threading.Thread | None:
        """Close it. Its thread, where it had one."""


_sources: WeakSet[Stoppable] = WeakSet()


def stop_at_exit(source: Stoppable) -> None:
    """Stop a source when the process ends, if it is still there. Thread safe; may be repeated."""
    _sources.add(source)


def let_go(source: Source) -> None:
    """Close a source, and wait until its camera is free for the next who opens it."""
    source.close()
    if isinstance(source, Stoppable) and (thread := source.stop()) is not None:
        thread.join(WAIT_S)


@atexit.register
def _leave() -> None:
    threads = [source.stop() for source in list(_sources)]
    for thread in threads:
        if thread is not None:
            thread.join(WAIT_S)
