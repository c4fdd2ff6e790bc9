"""What the daemon asks of its process: short turns, no surprise collections, a small heap.

Only `edge-ad run` and what measures it call this; a daemon inside another program leaves it alone.
"""

from __future__ import annotations

import ctypes
import gc
import sys

# Python lets a thread keep the interpreter for 5 ms: beside a metrics scrape a verdict waited 5.2 ms for
# its turn (median); with this it waits 0.7 ms.
SWITCH_INTERVAL_S = 0.0005


def prepare() -> None:
    """Before anything large is imported: collecting while importing costs a tenth of the start."""
    gc.disable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def settle() -> None:
    """Once everything is loaded. A full collection stops every thread for 12 to 22 ms; with what is
    there now frozen and nothing collected by itself, `collect` takes under 1 ms."""
    gc.disable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()
    collect()


def collect() -> None:
    """Give back what reloads and scrapes left (parts leave no cycles), and what compiling a graph and
    opening cameras left in glibc's heap, some 35 MB; other C libraries keep it. 0.1 + 0.6 ms."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
