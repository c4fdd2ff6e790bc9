"""What the supervisor that started a program is told, by the protocol of systemd's sd_notify: that it is
ready, what it does, and, while it does its work, that it is alive."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping


class Supervisor:
    """Tells nobody where there is no address. For one thread; never blocks, and what cannot be told is
    counted in `untold`."""

    def __init__(
        self,
        address: str = "",
        watchdog_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`address`: of a datagram socket, "@..." an abstract one. Without a sign of life for
        `watchdog_s` (0: it does not watch) the supervisor ends the process."""
        self.untold = 0
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = watchdog_s
        self._clock = clock
        self._due_s = 0.0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Supervisor:
        """What started this process, as the environment says."""
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "")
        watchdog_s = int(usec) / 1e6 if watched and usec.isdecimal() else 0.0
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_s)

    def say(self, *lines: str) -> None:
        """As "READY=1", "STATUS=...", "STOPPING=1"."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            self.untold += 1

    def reloading(self) -> None:
        """That the configuration is being read again; READY=1 ends it. The time is for units with
        Type=notify-reload."""
        self.say("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self, progress_age_s: float) -> None:
        """Say so, several times in the time that it is waited for, but only where the work went on
        within half of it: a process whose pipeline hangs is to be started again."""
        if self._watchdog_s <= 0 or self._clock() < self._due_s:
            return
        if progress_age_s < self._watchdog_s / 2:
            self._due_s = self._clock() + self._watchdog_s / 4
            self.say("WATCHDOG=1")
