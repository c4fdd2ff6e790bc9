"""A descriptor that one thread makes readable and another polls."""

from __future__ import annotations

import socket
from contextlib import suppress


class Wake:
    """`set` may be called from any thread, the rest from one."""

    def __init__(self) -> None:
        self._in, self._out = socket.socketpair()
        self._in.setblocking(False)
        self._out.setblocking(False)

    def set(self) -> None:
        """Make it readable. Never blocks."""
        with suppress(OSError):  # full: it is readable already; closed: nobody looks
            self._in.send(b"\0")

    def clear(self) -> None:
        """Read it empty."""
        with suppress(BlockingIOError):
            while self._out.recv(4096):
                pass

    def fileno(self) -> int:
        """-1 once closed."""
        return self._out.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._in.close()
        self._out.close()
