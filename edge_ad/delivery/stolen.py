"""Whether an ipc socket's file is still its own: who may write to its directory can replace it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class SocketFiles:
    """The files of sockets that were just bound. `endpoints`: by name; those that are not ipc have none.
    For any thread."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        paths = {
            name: Path(endpoint.removeprefix("ipc://"))
            for name, endpoint in endpoints.items()
            if endpoint.startswith("ipc://")
        }
        self._files = {name: (path, _identity(path)) for name, path in paths.items()}

    def stolen(self) -> dict[str, bool]:
        """By name: whether the file was removed, or another program has put its own there."""
        return {name: _identity(path) != identity for name, (path, identity) in self._files.items()}


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode. While the socket lives its inode's number is given to no other file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
