"""A disk of 2 MB, and others who fill it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Mount = Callable[[Path], Path]
SIZE = 2 << 20


def mount_small(at: Path) -> Path:
    """Mount one at a directory. Needs root."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", at], check=True)
    return at


def unmount(at: Path) -> None:
    """Unmount it, whoever still has a file open there."""
    subprocess.run(["umount", "-l", at], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Have others take all but so many bytes of the disk."""
    path = disk / "of others"
    free = shutil.disk_usage(disk).free - leave
    if free > 0:
        with path.open("ab") as file, suppress(OSError):
            file.write(bytes(free))
    return path
