"""How far a calibration is, for a person: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

import click
from rich import progress as bars
from rich.console import Console

PLAIN_PERIOD_S = 5.0


class Progress(Protocol):
    """Told by one thread how far each step is."""

    def update(self, step: str, done: int, total: int) -> None:
        """`done` of `total` in `step`; a new step's first call ends the one before."""

    def note(self, text: str) -> None:
        """Something a person should read."""


class Silent:
    """For callers that show nothing."""

    def update(self, step: str, done: int, total: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Plain:
    """A line per step's end and every few seconds: rate and time left, for logs."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._step = ""
        self._started = self._said = 0.0

    def update(self, step: str, done: int, total: int) -> None:
        """Write a line when it is due."""
        now = self._clock()
        if step != self._step:
            self._step, self._started, self._said = step, now, now
        if done >= total or now - self._said >= PLAIN_PERIOD_S:
            self._said = now
            self._line(done, total, now - self._started)

    def note(self, text: str) -> None:
        """Write it as it is."""
        click.echo(text, file=self._stream)

    def _line(self, done: int, total: int, seconds: float) -> None:
        rate = done / seconds if seconds > 0 else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        speed = f"  {rate:.1f}/s" if rate else ""
        click.echo(f"{self._step:<10} {done}/{total}{speed}{left}", file=self._stream)


class Bars:
    """One bar per step, with rate and time left."""

    def __init__(self, display: bars.Progress) -> None:
        self._display = display
        self._steps: dict[str, bars.TaskID] = {}

    def update(self, step: str, done: int, total: int) -> None:
        """Move the step's bar."""
        if step not in self._steps:
            self._steps[step] = self._display.add_task(step, total=total)
        self._display.update(self._steps[step], completed=done, total=total)

    def note(self, text: str) -> None:
        """Write it above the bars."""
        self._display.console.print(text, highlight=False, markup=False)


class _Rate(bars.ProgressColumn):
    """Steps per second."""

    def render(self, task: bars.Task) -> str:
        """Of a running or finished step."""
        speed = task.finished_speed or task.speed
        return f"{speed:.1f}/s" if speed else ""


@contextlib.contextmanager
def open_progress(stream: TextIO) -> Iterator[Progress]:
    """Bars when `stream` is a terminal, else plain lines."""
    console = Console(file=stream)
    if not console.is_terminal:
        yield Plain(stream)
        return
    columns = (
        bars.TextColumn("{task.description:<10}"), bars.BarColumn(), bars.MofNCompleteColumn(), _Rate(),
        bars.TimeRemainingColumn(),
    )  # fmt: skip
    with bars.Progress(*columns, console=console) as display:
        yield Bars(display)
