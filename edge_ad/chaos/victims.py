"""Daemon and station as processes that are killed, and started again as a supervisor would."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from edge_ad.chaos.checker import Window
from edge_ad.chaos.plan import Kill
from edge_ad.delivery.control import ControlClient
from edge_ad.errors import CheckFailed, DeliveryError

PROBE_S = 0.2
START_LIMIT_S = 60.0


class Victim:
    """One process. `ready` is asked with its `status`; `on_window` takes each time that it was down.

    `step` is called every few ms by one thread.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        endpoint: str,
        log: Path,
        ready: Callable[[dict[str, object]], bool],
        kills: Iterator[Kill],
        rate: float,
        on_window: Callable[[Window], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = name
        self.kills = 0
        self._arguments = arguments
        self._control = ControlClient(endpoint, timeout_s=PROBE_S)
        self._log = log
        self._is_ready = ready
        self._plan = kills
        self._rate = rate
        self._on_window = on_window
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._kill: Kill | None = None
        self._alive_ns = self._started_ns = 0
        self._ready_ns: int | None = None
        self._died_ns: int | None = None  # since when it is down
        self._place = ""
        self._deaths = 0  # since it was ready last

    @property
    def ready(self) -> bool:
        """Whether it does its work now."""
        return self._ready_ns is not None

    def start(self) -> None:
        """Start it, with its next death in mind."""
        self._kill = next(self._plan, None)
        places: list[str] = []
        if self._kill is not None and self._kill.place:
            places = ["--failpoint", f"{self._kill.place}=kill@{self._kill.after_parts + 1}"]
        command = [sys.executable, "-m", "edge_ad", *self._arguments, *places]
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
            )
        self._started_ns = self._alive_ns = self._clock()
        self._ready_ns = None

    def step(self, run_s: float | None) -> None:
        """Look after it: notice its death and its readiness, kill it when its time has come. `run_s`:
        since the first part; None: leave it alive."""
        assert self._process is not None
        now = self._clock()  # before the look: it may die behind it
        code = self._process.poll()
        if code is not None:
            self._died(code)
            return
        self._alive_ns = now
        if self._ready_ns is None:
            self._probe()
        elif run_s is not None and self._kill is not None and self._overdue(self._kill, run_s):
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _overdue(self, kill: Kill, run_s: float) -> bool:
        """Whether it is to die from outside: its time has come, or the place was never passed."""
        assert self._ready_ns is not None
        if run_s > kill.latest_s > 0:
            return True
        lived_s = (self._clock() - self._ready_ns) / 1e9
        return lived_s > kill.after_parts / self._rate * (3 if kill.place else 1)

    def _probe(self) -> None:
        with suppress(DeliveryError):
            if self._is_ready(self._control.request("status")):
                self._ready_ns = self._clock()
                if self._died_ns is not None:
                    window = Window(self.name, self._place, self._died_ns, self._ready_ns, self._deaths)
                    self._on_window(window)
                    self._died_ns, self._deaths = None, 0
                return
        if self._clock() - self._started_ns > START_LIMIT_S * 1e9:
            raise CheckFailed(
                f"{self.name}: is not ready within {START_LIMIT_S:g} s; {self._log} says why"
            )

    def _died(self, code: int) -> None:
        if code != -signal.SIGKILL:
            raise CheckFailed(f"{self.name}: ended by itself with exit code {code}; see {self._log}")
        self.kills += 1
        self._deaths += 1
        self._place = self._kill.place if self._kill is not None else ""
        if self._died_ns is None:  # else it died again before it was ready
            self._died_ns = self._alive_ns
        self.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End it as a supervisor does. Raises CheckFailed where it does not end well."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout_s)
        if code == -signal.SIGKILL and self._kill is not None and self._kill.place:
            return  # it came to the place of its next death on the way out
        if code:
            raise CheckFailed(f"{self.name}: ended with exit code {code}; see {self._log}")

    def status(self) -> dict[str, object]:
        """What it says of itself. Raises DeliveryError."""
        return self._control.request("status", timeout_s=5.0)

    def close(self) -> None:
        """Leave nothing behind. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._control.close()
