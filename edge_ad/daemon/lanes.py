"""One camera's frames that wait for inspection."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge_ad.frame import Frame


@dataclass(slots=True)
class Entry:
    """What a camera has of one part, guarded as its lane is."""

    frame: Frame  # the first of them that came
    opening: int  # how often the camera had been opened
    t_queued_ns: int  # when the last of them was queued
    part: int  # what the camera counts it as
    frames: list[Frame | None]
    missing: int  # of them
    closed: bool = False  # another part has begun
    held: bool = False  # with pictures, that count as the lane's
    lost: bool = False  # the camera counted it, and only that: when it was triggered nobody knows


class Lane:
    """One camera's queue, guarded by the PartQueue's lock; counters may be read without it."""

    def __init__(self, limit: int, skip: bool, shots: int = 1, every: bool = False) -> None:
        self.limit = limit
        self.skip = skip
        self.every = every  # each entry has a verdict, if not its pictures
        self.held = 0  # entries with pictures, where every one has a verdict
        self.lost = 0  # pictures that the camera counted and did not deliver
        self.counter: int | None = None  # of the last frame
        self.counted = -1  # opening that it is of
        self.numbered = 0  # entries so far, where every one has a verdict
        self.shots = shots
        self.entries: deque[Entry] = deque()
        self.down = False  # nothing is to be expected now
        self.ended = False  # nothing will ever come again
        self.skipped = 0  # dropped because a newer frame came
        self.unmatched = 0  # dropped because their part had been judged without them
        self.opening = -1
        self.offset = 0  # part number = what the camera counts + offset

    def number(self) -> int:
        """The part number of the oldest waiting entry."""
        return self.entries[0].part + self.offset

    def whole(self) -> bool:
        """Whether nothing more will come of the part of the oldest entry."""
        head = self.entries[0]
        return not head.missing or head.closed or self.down or self.ended

    def silent(self) -> bool:
        """Whether nothing has come yet, but may."""
        return not (self.entries or self.down or self.ended)

    def drop(self) -> None:
        """Let the oldest entry go, which comes too late for its part."""
        entry = self.entries.popleft()
        self.held -= entry.held
        if not entry.lost:  # else it is counted already
            self.unmatched += len(entry.frames) - entry.missing

    def take(self) -> list[Frame | None]:
        """The pictures of the oldest entry."""
        entry = self.entries.popleft()
        self.held -= entry.held
        return entry.frames

    def missed(self, frame: Frame, opening: int) -> int:
        """How many parts the camera has counted since its last frame whose pictures were lost."""
        # Opened anew it counts anew, and what it counted meanwhile nobody knows.
        before = self.counter if opening == self.counted else None
        self.counted = opening
        if frame.counter is None:  # nothing can be read off this one, but the camera counted it too
            self.counter = None if before is None else before + 1
            return 0
        self.counter = frame.counter
        return 0 if before is None else max(0, frame.counter - before - 1)
