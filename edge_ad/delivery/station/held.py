"""Verdicts whose part the station has not seen yet: kept for a while, and not too many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from edge_ad.delivery.station.events import Heard, Why


class Held:
    """Live verdicts in order of arrival. Not thread safe."""

    def __init__(self, hold_ns: int, most: int) -> None:
        self._hold_ns = hold_ns
        self._most = most
        self._waiting: deque[Heard] = deque()

    def add(self, heard: Heard) -> int:
        """Keep one; returns how many had to go for it. Two that are about one key poison it."""
        for other in self._waiting:
            if other.source == heard.source and other.header.part == heard.header.part:
                if other.header.seq == heard.header.seq:
                    return 0
                heard = replace(heard, fault=Why.KEY_REUSED)
        self._waiting.append(heard)
        if len(self._waiting) <= self._most:
            return 0
        self._waiting.popleft()
        return 1

    def take(self, wanted: Callable[[Heard], bool]) -> list[Heard]:
        """Those that are wanted; they are not held any more."""
        taken = [heard for heard in self._waiting if wanted(heard)]
        if taken:
            self._waiting = deque(heard for heard in self._waiting if heard not in taken)
        return taken

    def expired(self, now_ns: int) -> list[Heard]:
        """Those that waited too long; they are not held any more."""
        gone = []
        while self._waiting and now_ns - self._waiting[0].t_ns > self._hold_ns:
            gone.append(self._waiting.popleft())
        return gone

    def next_due(self) -> int | None:
        """When the next one has waited too long."""
        return self._waiting[0].t_ns + self._hold_ns + 1 if self._waiting else None

    def clear(self) -> None:
        """Forget all of them."""
        self._waiting.clear()
