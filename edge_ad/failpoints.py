"""Named places in the tested paths where a test makes the program fail. Off unless asked for.

A place is two lines; while nothing is asked for they cost one look at a module's variable:

    if failpoints.active:
        failpoints.active.hit("outbox.commit")

What is asked for is `NAME=ACTION`, the action being `kill` (SIGKILL to this process), `raise`,
`raise:ERRNO` (an OSError), `exit:CODE` or `sleep:SECONDS`, each with `@N` for the N-th hit alone, or
`%P` for a share P of the hits (drawn by `seed`): `outbox.commit=kill@20`. A place that computes a number
gives it to `value`, where the action is `nan` or `inf`.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from edge_ad.errors import ConfigError

_SPEC = re.compile(r"([a-z_.]+)=(kill|raise|exit|sleep|nan|inf)(?::([0-9.]+))?(?:@(\d+)|%(0?\.\d+|1))?")
_KILL_WAIT_S = 10.0


class InjectedError(Exception):
    """What `raise` raises: no error that a person can act on."""


@dataclass(slots=True)
class _Point:
    action: str
    argument: float
    nth: int  # 0: every hit
    share: float
    hits: int = 0


class Failpoints:
    """What was asked for, by place. Thread safe."""

    def __init__(self, specs: Iterable[str], seed: int = 0) -> None:
        self._points: dict[str, _Point] = {}
        self._lock = threading.Lock()
        self._rng = random.Random(seed)
        for spec in specs:
            match = _SPEC.fullmatch(spec)
            if match is None:
                raise ConfigError(
                    f"--failpoint {spec!r}: is not NAME=kill|raise|exit|sleep|nan|inf[:NUMBER][@N|%P]"
                )
            name, action, argument, nth, share = match.groups()
            self._points[name] = _Point(action, float(argument or 0), int(nth or 0), float(share or 1))

    def hit(self, name: str) -> None:
        """Do what was asked for at this place."""
        point = self._due(name)
        if point is None:
            return
        if point.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(_KILL_WAIT_S)  # nothing behind this place may run
        elif point.action == "exit":
            os._exit(int(point.argument))
        elif point.action == "sleep":
            time.sleep(point.argument)
        elif point.action == "raise" and point.argument:
            number = int(point.argument)
            raise OSError(number, os.strerror(number))
        elif point.action == "raise":
            raise InjectedError(f"failpoint {name}")

    def value(self, name: str, number: float) -> float:
        """The number, or what was asked for in its place."""
        point = self._due(name)
        return number if point is None or point.action not in ("nan", "inf") else float(point.action)

    def _due(self, name: str) -> _Point | None:
        point = self._points.get(name)
        if point is None:
            return None
        with self._lock:
            point.hits += 1
            if point.nth and point.hits != point.nth:
                return None
            return point if point.share >= 1 or self._rng.random() < point.share else None


active: Failpoints | None = None


def activate(specs: Iterable[str], seed: int = 0) -> None:
    """Ask for these from now on; none: off. Raises ConfigError."""
    global active
    specs = tuple(specs)
    active = Failpoints(specs, seed) if specs else None
