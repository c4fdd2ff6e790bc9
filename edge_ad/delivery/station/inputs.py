"""What the station sees of the line: part present, encoder, reject bin. One plug-in per scheme of a URI.

Another fieldbus is one file: a class with the three members of `Input`, made with (uri, kind, where),
named in gate.toml as `python:module:Class?anything` or in `INPUTS` by a scheme of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

import zmq

from edge_ad.delivery.station.messages import decode_line, pull_socket
from edge_ad.errors import ConfigError, DeliveryError

Kind = Literal["present", "encoder", "confirm"]
_MOST = 1000  # messages that one `read` takes
_OLDEST_NS = 10_000_000_000
_SETTLE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A part is at the sensor. `stale`: when is not known."""

    t_ns: int
    key: str | None = None
    encoder: int | None = None
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Turned:
    """The encoder stands at `count`."""

    t_ns: int
    count: int


@dataclass(frozen=True, slots=True)
class Binned:
    """Something was seen in the reject bin."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class Missed:
    """The input knows that it lost something, in words."""

    t_ns: int
    text: str


Signal = Seen | Turned | Binned | Missed


class Input(Protocol):
    """One signal of the line. One thread uses it."""

    handle: Any
    """What becomes readable when there is something: a ZeroMQ socket or a file descriptor."""

    def read(self, now_ns: int, stalled: bool) -> list[Signal]:
        """What is new; never blocks. `t_ns` of each is of the monotonic clock (CLOCK_MONOTONIC).
        `stalled`: the station did not look for a while, so a moment of arrival says little.
        Raises DeviceError when the device is gone."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class MessageInput:
    """Messages of an `Announcer` at a bound endpoint; one socket takes every kind.

    `skipped` counts what was not understood, `old` what was announced before this start, or too long
    ago: such a part may be anywhere, and what is not announced is rejected.
    """

    def __init__(
        self, uri: str, kind: Kind, where: str, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.skipped = self.old = 0
        self._opened_ns = clock()
        self.handle = pull_socket(uri, where)

    def read(self, now_ns: int, stalled: bool) -> list[Signal]:
        """See `Input`."""
        signals: list[Signal] = []
        for _ in range(_MOST):
            try:
                message = decode_line(self.handle.recv(zmq.DONTWAIT))
            except zmq.Again:
                break
            except DeliveryError:
                self.skipped += 1
                continue
            told = message.t_ns
            earliest = max(self._opened_ns, now_ns - _OLDEST_NS)
            # Without a time of its own it may have waited at a sender while the station was away.
            if (now_ns - _SETTLE_NS < self._opened_ns) if told is None else (told < earliest):
                self.old += 1
                continue
            t_ns = now_ns if told is None else min(told, now_ns)
            stale = stalled if told is None else told > now_ns
            if message.kind == "present":
                signals.append(Seen(t_ns, message.part, message.encoder, stale))
            elif message.kind == "confirm":
                signals.append(Binned(t_ns))
            elif message.encoder is not None:
                signals.append(Turned(t_ns, message.encoder))
        return signals

    def close(self) -> None:
        """Idempotent."""
        self.handle.close()


def _gpio(uri: str, kind: Kind, where: str) -> Input:
    from edge_ad.delivery.station.gpio import GpioInput

    return GpioInput(uri, kind, where)


INPUTS: dict[str, Callable[[str, Kind, str], Input]] = {
    "tcp": MessageInput,
    "ipc": MessageInput,
    "gpio": _gpio,
}


def open_input(uri: str, kind: Kind, where: str) -> Input:
    """The input that a URI names; `where` is its key in gate.toml. Raises ConfigError, DeviceError."""
    opened: Input = plug(INPUTS, uri, where)(uri, kind, where)
    return opened


def plug(registry: dict[str, Callable[..., Any]], uri: str, where: str) -> Callable[..., Any]:
    """What makes a plug-in for a URI. Raises ConfigError."""
    scheme, _, rest = uri.partition(":")
    if scheme == "python":
        module, _, name = rest.partition("?")[0].partition(":")
        try:
            maker: Callable[..., Any] = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"{where}: {uri!r}: {error}; give python:module:Class of an importable module"
            ) from error
        return maker
    if scheme not in registry:
        raise ConfigError(f"{where}: {uri!r}: no plug-in is named {scheme!r}; have {sorted(registry)}")
    return registry[scheme]
