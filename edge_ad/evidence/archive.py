"""The archive on disk: entries whole or not at all, of each kind the oldest removed for room. For one
thread."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from edge_ad.config import Evidence
from edge_ad.durable import write_durably
from edge_ad.evidence.entry import (
    DIRECTORY,
    KINDS,
    NEAR,
    RECORD,
    REJECTS,
    SAMPLE,
    entry_name,
    entry_number,
    product_directories,
    unreadable,
)

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
    counters, by kind, may be read by others."""

    def __init__(self, state: Path, usage: Callable[[Path], Usage] = shutil.disk_usage) -> None:
        self.state = state
        self.root = state / DIRECTORY
        self.sizes = dict.fromkeys(KINDS, 0)  # bytes
        self.evicted = dict.fromkeys(KINDS, 0)
        self.told: list[str] = []  # what may not be read or removed, for who reads and empties it
        self._usage = usage
        self._held: dict[str, deque[_Held]] = {kind: deque() for kind in KINDS}  # oldest first
        self._next = 1

    @property
    def size(self) -> int:
        """What all kinds take, bytes."""
        return sum(self.sizes.values())

    def open(self) -> None:
        """Count what is there, and remove what an earlier daemon left half done. What it may not read or
        remove, as a directory that a person copied there, is left and told. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        held: dict[str, list[_Held]] = {kind: [] for kind in KINDS}
        for product in product_directories(self.root):
            try:
                paths = list(product.iterdir())
            except PermissionError as error:
                self.told.append(unreadable(product, error))
                continue
            for path in paths:
                number = entry_number(path)
                if number is not None and path.is_dir():
                    try:
                        held[_kind(path)].append(_Held(number, path, _size(path)))
                    except PermissionError as error:
                        self.told.append(unreadable(path, error))
                elif path.name.startswith((NEW, OLD)):
                    try:
                        shutil.rmtree(path)
                    except PermissionError as error:
                        self.told.append(_stuck(path, error))
        for kind, those in held.items():
            self._held[kind] = deque(sorted(those, key=lambda one: one.number))
            self.sizes[kind] = sum(one.size for one in those)
        numbers = [one.number for those in held.values() for one in those]
        self._next = max(self._next, 1 + max((self._last(), *numbers)))

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

    def make_room(self, size: int, limits: Evidence, kind: str = REJECTS) -> bool:
        """Remove the oldest entries of the kind until `size` more bytes are within its quota, and such
        as give way to it until the disk keeps its free share; False where that cannot be. Raises
        OSError."""
        quota = _quota(limits, kind)
        if size > quota:  # no older entry need go for what cannot be kept
            return False
        while self.sizes[kind] + size > quota:
            self._evict(kind)
        givers = KINDS[: KINDS.index(kind) + 1]
        while not self._keeps_free(size, limits):
            victim = next((giver for giver in givers if self._held[giver]), None)
            if victim is None:
                return False
            self._evict(victim)
        return True

    def trim(self, limits: Evidence) -> None:
        """Remove what these limits have no room for. Raises OSError."""
        for kind in KINDS:
            self.make_room(0, limits, kind)

    def write(
        self, number: int, product: str, key: str, files: Mapping[str, bytes], kind: str = REJECTS
    ) -> Path:
        """Put an entry of these files in its place, on disk and complete; returns its directory. Raises
        OSError, and then there is nothing of it. The record among the files names the kind."""
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
        self._held[kind].append(_Held(number, path, size))
        self.sizes[kind] += size
        return path

    def _keeps_free(self, size: int, limits: Evidence) -> bool:
        usage = self._usage(self.root)
        return usage.free - size >= limits.min_free * usage.total

    def _evict(self, kind: str) -> None:
        oldest = self._held[kind][0]
        # Out of sight at once: whoever reads meanwhile finds all of it or nothing.
        gone = oldest.path.with_name(f"{OLD}{oldest.path.name}")
        try:
            oldest.path.rename(gone)
            shutil.rmtree(gone)
        except FileNotFoundError:  # a person has removed it
            pass
        except PermissionError as error:  # or put it there: it does not count any more
            self.told.append(_stuck(oldest.path, error))
        self._held[kind].popleft()
        self.sizes[kind] -= oldest.size
        self.evicted[kind] += 1


class _Kind(msgspec.Struct):
    """Of an entry's record what the archive needs."""

    kind: str = REJECTS


def _kind(path: Path) -> str:
    """Of the entry there. What does not say counts as a reject: it gives way last."""
    try:
        kind = msgspec.json.decode((path / RECORD).read_bytes(), type=_Kind).kind
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return REJECTS
    return kind if kind in KINDS else REJECTS


def _quota(limits: Evidence, kind: str) -> float:
    """Bytes."""
    megabytes = {
        REJECTS: limits.max_megabytes, NEAR: limits.near_megabytes, SAMPLE: limits.sample_megabytes
    }  # fmt: skip
    return megabytes[kind] * MEGABYTE


def _stuck(path: Path, error: OSError) -> str:
    return f"{path}: cannot be removed ({error.strerror}); remove it, or give the right to"


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())
