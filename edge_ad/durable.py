"""Files that are whole on the disk, or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal


def write_synced(path: Path, data: bytes, mode: Literal["wb", "xb"] = "wb") -> None:
    """Write a file and wait until the disk has it. Raises OSError."""
    with path.open(mode) as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that is complete under its name or not there at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_synced(temporary, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """So that what was renamed in it is still there after a power cut. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def ends_torn(path: Path) -> bool:
    """Whether a file's last line is not whole; False for what is no file, as a pipe. Raises OSError."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def append_line(handle: int, line: bytes) -> None:
    """Append a whole line to a file that is open for reading and appending. What a full disk or a power
    cut left of the one before ends there. Raises OSError."""
    end = os.lseek(handle, 0, os.SEEK_END)
    if end and os.pread(handle, 1, end - 1) != b"\n":
        line = b"\n" + line
    while line:
        line = line[os.write(handle, line) :]
