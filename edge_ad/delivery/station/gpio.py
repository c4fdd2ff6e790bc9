"""Sensors and the gate on GPIO lines, through libgpiod 2.

`gpio:///dev/gpiochip0?line=17&edge=rising&bias=pull-up&debounce_ms=1&active=high` is an input;
`gpio:///dev/gpiochip0?pass=5&heartbeat=6&line_stop=13&active=high` the gate. The heartbeat line toggles:
a process that is killed may leave its lines as they were, so PASS must go through a retriggerable
watchdog relay that the heartbeat holds. All that is known of libgpiod is in `gpio_chip`; the plug-ins
were tested against a stand-in for it, not on hardware.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from edge_ad.delivery.station.events import Pass, Promise, Reject, Revoke
from edge_ad.delivery.station.inputs import Binned, Kind, Missed, Seen, Signal, Turned
from edge_ad.errors import ConfigError

_EDGES = ("rising", "falling", "both")
_BIASES = ("as-is", "disabled", "pull-up", "pull-down")


class Edges(Protocol):
    """An input line."""

    def fileno(self) -> int:
        """Readable when there are edges."""
        ...

    def read(self) -> list[tuple[int, int]]:
        """Edges since the last time, without blocking: (the kernel's time in ns of CLOCK_MONOTONIC,
        the line's sequence number, in which a gap is a lost edge)."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class Drive(Protocol):
    """Output lines; inactive to begin with."""

    def set(self, line: int, active: bool) -> None:
        """Raises DeviceError."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class Chip(Protocol):
    """What the plug-ins need of libgpiod. Raises DeviceError where a line cannot be had."""

    def watch(
        self, path: str, line: int, edge: str, bias: str, active_low: bool, debounce_us: int
    ) -> Edges:
        """Take a line as input."""
        ...

    def drive(self, path: str, lines: tuple[int, ...], active_low: bool) -> Drive:
        """Take lines as outputs."""
        ...


class GpioInput:
    """Edges of one line: a part each, a count each, or a reject each."""

    def __init__(self, uri: str, kind: Kind, where: str, chip: Chip | None = None) -> None:
        path, options = _parse(uri, where, {"line", "edge", "bias", "active", "debounce_ms"})
        line = _line(options, "line", uri, where)
        if line is None:
            raise ConfigError(f"{where}: {uri!r}: names no line; add ?line=NUMBER")
        edge = _one_of(options, "edge", _EDGES, uri, where)
        bias = _one_of(options, "bias", _BIASES, uri, where)
        low = _one_of(options, "active", ("high", "low"), uri, where) == "low"
        try:
            debounce_us = int(float(options.get("debounce_ms", "0")) * 1000)
        except ValueError as error:
            raise ConfigError(f"{where}: {uri!r}: debounce_ms is no number") from error
        self._kind = kind
        self._edges = (chip or _real()).watch(path, line, edge, bias, low, debounce_us)
        self.handle = self._edges.fileno()
        self._count = 0
        self._last: int | None = None

    def read(self, now_ns: int, stalled: bool) -> list[Signal]:
        """See `Input`. The kernel's time holds however late the station looks."""
        signals: list[Signal] = []
        for t_ns, number in self._edges.read():
            if self._last is not None and number != self._last + 1:
                lost = number - self._last - 1
                signals.append(Missed(t_ns, f"{lost} edges of the {self._kind} line were lost"))
                self._count += max(0, lost)
            self._last = number
            self._count += 1
            if self._kind == "present":
                signals.append(Seen(t_ns))
            elif self._kind == "encoder":
                signals.append(Turned(t_ns, self._count))
            else:
                signals.append(Binned(t_ns))
        return signals

    def close(self) -> None:
        """Idempotent."""
        self._edges.close()


class GpioOutput:
    """The gate on lines: one that is active only while a part may pass, one that toggles.

    Pulses begin and end when this process gets to it; hard timing belongs to a PLC or an I/O card.
    """

    promises = False

    def __init__(self, uri: str, where: str, chip: Chip | None = None) -> None:
        path, options = _parse(uri, where, {"pass", "heartbeat", "line_stop", "active"})
        passes = _line(options, "pass", uri, where)
        heartbeat = _line(options, "heartbeat", uri, where)
        if passes is None or heartbeat is None:
            raise ConfigError(
                f"{where}: {uri!r}: needs ?pass=NUMBER&heartbeat=NUMBER; a gate without heartbeat would "
                "stay open when the station dies"
            )
        self._pass, self._heartbeat = passes, heartbeat
        self._stop = _line(options, "line_stop", uri, where)
        lines = tuple(n for n in (passes, heartbeat, self._stop) if n is not None)
        if len(set(lines)) < len(lines):
            raise ConfigError(f"{where}: {uri!r}: one line has two uses; give each its own")
        low = _one_of(options, "active", ("high", "low"), uri, where) == "low"
        self._drive = (chip or _real()).drive(path, lines, low)
        self._until: int | None = None
        self._level = False
        self._closed = False

    def promise(self, action: Promise, now_ns: int) -> None:
        """A line knows only now."""

    def revoke(self, action: Revoke, now_ns: int) -> None:
        """A line knows only now."""

    def allow(self, action: Pass, now_ns: int) -> None:
        """See `Output`; also the others."""
        if now_ns < action.until_ns:
            self._until = action.until_ns
            self._drive.set(self._pass, True)

    def deny(self, action: Reject, now_ns: int) -> None:
        """No signal is the signal."""
        self.shut(now_ns)

    def shut(self, now_ns: int, key: str = "") -> None:
        """Also where nothing is known to be open."""
        self._until = None
        self._drive.set(self._pass, False)

    def line_stop(self, on: bool, now_ns: int) -> None:
        """On its line, where it has one."""
        if self._stop is not None:
            self._drive.set(self._stop, on)

    def beat(self, now_ns: int, link: bool, state: str) -> None:
        """Toggle."""
        self._level = not self._level
        self._drive.set(self._heartbeat, self._level)

    def tick(self, now_ns: int) -> None:
        """End the pulse."""
        if self._until is not None and now_ns >= self._until:
            self.shut(now_ns)

    def due(self) -> int | None:
        """The end of the pulse."""
        return self._until

    def close(self) -> None:
        """The line-stop output stays as it is: a person resets it."""
        if not self._closed:
            self._closed = True
            self._drive.set(self._pass, False)
            self._drive.close()


def _real() -> Chip:
    from edge_ad.delivery.station.gpio_chip import GpiodChip

    return GpiodChip()


def _parse(uri: str, where: str, known: set[str]) -> tuple[str, dict[str, str]]:
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"{where}: {uri!r}: unknown option {unknown[0]!r}; have {sorted(known)}")
    if not parts.path.startswith("/"):
        raise ConfigError(f"{where}: {uri!r}: names no chip; give gpio:///dev/gpiochip0?...")
    return parts.path, options


def _line(options: dict[str, str], name: str, uri: str, where: str) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise ConfigError(f"{where}: {uri!r}: {name}={text} is no line number")
    return int(text)


def _one_of(options: dict[str, str], name: str, known: tuple[str, ...], uri: str, where: str) -> str:
    value = options.get(name, known[0])
    if value not in known:
        raise ConfigError(f"{where}: {uri!r}: {name}={value}; have {list(known)}")
    return value
