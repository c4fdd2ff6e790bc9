"""GPIO lines of libgpiod 2, by its Python package `gpiod`: pip install 'edge_ad[gpio]'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from edge_ad.errors import DeviceError


class GpiodChip:
    """See `gpio.Chip`. Raises DeviceError where the package or the line is not there."""

    def __init__(self) -> None:
        try:
            import gpiod
        except ImportError as error:
            raise DeviceError(
                "gpio: the package gpiod is not installed; pip install 'edge_ad[gpio]'"
            ) from error
        self._gpiod: Any = gpiod

    def watch(
        self, path: str, line: int, edge: str, bias: str, active_low: bool, debounce_us: int
    ) -> GpiodEdges:
        """An input line, its edges stamped by the kernel's monotonic clock."""
        names = self._gpiod.line
        settings = self._gpiod.LineSettings(
            direction=names.Direction.INPUT,
            edge_detection=names.Edge[edge.upper()],
            bias=names.Bias[bias.upper().replace("-", "_")],
            active_low=active_low,
            debounce_period=timedelta(microseconds=debounce_us),
            event_clock=names.Clock.MONOTONIC,
        )
        return GpiodEdges(self._request(path, {line: settings}, event_buffer_size=1024), path)

    def drive(self, path: str, lines: tuple[int, ...], active_low: bool) -> GpiodDrive:
        """Output lines, inactive."""
        names = self._gpiod.line
        settings = self._gpiod.LineSettings(
            direction=names.Direction.OUTPUT,
            output_value=names.Value.INACTIVE,
            active_low=active_low,
        )
        return GpiodDrive(self._request(path, dict.fromkeys(lines, settings)), path, names.Value)

    def _request(self, path: str, lines: dict[int, Any], **options: Any) -> Any:
        with _told(path):
            return self._gpiod.request_lines(path, config=lines, consumer="edge_ad", **options)


class GpiodEdges:
    """See `gpio.Edges`."""

    def __init__(self, request: Any, path: str) -> None:
        self._request, self._path = request, path

    def fileno(self) -> int:
        """Readable when there are edges."""
        return int(self._request.fd)

    def read(self) -> list[tuple[int, int]]:
        """Without blocking."""
        with _told(self._path):
            if not self._request.wait_edge_events(0):
                return []
            return [(e.timestamp_ns, e.line_seqno) for e in self._request.read_edge_events()]

    def close(self) -> None:
        """Idempotent."""
        if self._request:
            self._request.release()


class GpiodDrive:
    """See `gpio.Drive`."""

    def __init__(self, request: Any, path: str, value: Any) -> None:
        self._request, self._path, self._value = request, path, value

    def set(self, line: int, active: bool) -> None:
        """Raises DeviceError."""
        with _told(self._path):
            self._request.set_value(line, self._value.ACTIVE if active else self._value.INACTIVE)

    def close(self) -> None:
        """Idempotent."""
        if self._request:
            self._request.release()


@contextmanager
def _told(path: str) -> Iterator[None]:
    """libgpiod's errors as ours."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"gpio: {path}: {error}; is the line free, and may this user open the chip?"
        ) from error
