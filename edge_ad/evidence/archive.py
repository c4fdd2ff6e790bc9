"""The archive on disk: entries whole or not at all, the oldest removed for room. For one thread."""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_ad.config import Evidence
from edge_ad.durable import write_durably
from edge_ad.evidence.entry import DIRECTORY, entry_name, entry_number

MEGABYTE = 1_000_000
NEW, OLD = ".new-", ".old-"  # how names begin of entries half written, half removed
LAST = "last"  # the file with the last number that was given


class Usage(Protocol):
    """Bytes of a file system, as `shutil.disk_usage` gives them."""

    @property
    def total(self) -> int:
        """All."""
        ...

    @property
    def free(self) -> int:
        """Left to this user."""
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    number: int
    path: Path
    size: int


class Archive:
    """The entries of all products below STATE/evidence. One thread calls `open` and what follows; the
    counters may be read by others."""

    def __init__(self, state: Path, usage: Callable[[Path], Usage] = shutil.disk_usage) -> None:
        self.state = state
        self.root = state / DIRECTORY
        self.bytes = 0
        self.evicted = 0
        self._usage = usage
        self._held: deque[_Held] = deque()  # oldest first
        self._next = 1

    def open(self) -> None:
        """Count what is there, and remove what an earlier daemon left half done. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        held = []
        for product in (path for path in self.root.iterdir() if path.is_dir()):
            for path in product.iterdir():
                number = entry_number(path)
                if number is not None:
                    held.append(_Held(number, path, _size(path)))
                elif path.name.startswith((NEW, OLD)):
                    shutil.rmtree(path)
        self._held = deque(sorted(held, key=lambda one: one.number))
        self.bytes = sum(one.size for one in held)
        self._next = 1 + max((self._last(), *(one.number for one in held)))

    def _last(self) -> int:
        """The last number that an earlier daemon gave, though its entry be gone; 0: none is known."""
        try:
            return int((self.root / LAST).read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def new_number(self) -> int:
        """For the next entry. Never given twice, whatever becomes of the entry."""
        number = self._next
        self._next += 1
        return number

    def make_room(self, size: int, limits: Evidence) -> bool:
        """Remove the oldest entries until `size` more bytes are within the limits; False where they
        cannot be. Raises OSError."""
        if size > limits.max_megabytes * MEGABYTE:  # no older entry need go for what cannot be kept
            return False
        while not self._has_room(size, limits):
            if not self._held:
                return False
            self._evict(self._held[0])
        return True

    def write(self, number: int, product: str, key: str, files: Mapping[str, bytes]) -> Path:
        """Put an entry of these files in its place, on disk and complete; returns its directory. Raises
        OSError, and then there is nothing of it."""
        path = self.root / product / entry_name(number, key)
        beside = path.with_name(f"{NEW}{path.name}")
        try:
            for name, data in files.items():
                write_durably(beside / name, data)
            write_durably(self.root / LAST, f"{number}\n".encode())
            beside.rename(path)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        size = sum(map(len, files.values()))
        self._held.append(_Held(number, path, size))
        self.bytes += size
        return path

    def _has_room(self, size: int, limits: Evidence) -> bool:
        if self.bytes + size > limits.max_megabytes * MEGABYTE:
            return False
        usage = self._usage(self.root)
        return usage.free - size >= limits.min_free * usage.total

    def _evict(self, oldest: _Held) -> None:
        # Out of sight at once: whoever reads meanwhile finds all of it or nothing.
        gone = oldest.path.with_name(f"{OLD}{oldest.path.name}")
        with contextlib.suppress(FileNotFoundError):  # a person has removed it
            oldest.path.rename(gone)
            shutil.rmtree(gone)
        self._held.popleft()
        self.bytes -= oldest.size
        self.evicted += 1


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())
