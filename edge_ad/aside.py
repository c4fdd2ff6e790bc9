"""A process of its own for what may wait: it computes only while nothing else wants to.

Both ends speak MessagePack of known types, with the arrays beside it as they are. This module imports
nothing large, so that a process can give way before it does.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from edge_ad.errors import DeviceError

S = TypeVar("S")
H = TypeVar("H")
LEAST = 19  # nice
PIPE = 1 << 20  # bytes that may be on the way: a picture of megabytes is not woken for every 64 KB
LOOK_MS = 200  # whoever waits looks up that often: a process may hang in a disk, and not even die
_COUNT = struct.Struct("<Q")


class ProcessGone(DeviceError):
    """The process that was asked has ended, or is of no use."""


class ProcessSilent(ProcessGone):
    """It may be there, but does not answer."""


def give_way(nice: int | None = None) -> None:
    """For the process itself: before it imports anything large, which would take time from parts. To
    everything (SCHED_IDLE), or by so much. It is the first to go when memory is short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a person at a terminal stops the daemon
    with suppress(AttributeError, OSError):  # not every system has it, or allows it
        os.setpriority(os.PRIO_PROCESS, 0, LEAST if nice is None else nice)
        if nice is None:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


class Line(Generic[S, H]):
    """One end of two pipes: says S, hears H, whose arrays may be written to. For one thread; `ended` may
    be set by any."""

    def __init__(self, source: int, sink: int, heard: type[H]) -> None:
        self.ended = False
        self._source, self._sink = source, sink
        self._heard = heard
        for end in (source, sink):
            os.set_blocking(end, False)
            with suppress(OSError):  # what all pipes of a user may take is limited
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE)

    def say(self, what: S, timeout_s: float | None = None) -> None:
        """Raises BrokenPipeError when the other end is gone, TimeoutError when it does not listen."""
        arrays: list[Any] = []

        def beside(array: Any) -> Any:
            arrays.append(array if array.flags.c_contiguous else array.copy(order="C"))
            return array.dtype.str, array.shape, len(arrays) - 1

        head = msgspec.msgpack.encode(what, enc_hook=beside)
        parts = [memoryview(head), *(array.reshape(-1).view("u1").data for array in arrays)]
        sizes = b"".join(_COUNT.pack(part.nbytes) for part in parts)
        end = _end(timeout_s)
        for part in (memoryview(_COUNT.pack(len(parts)) + sizes), *parts):
            self._write(part, end)

    def hear(self, timeout_s: float | None = None) -> H:
        """Raises EOFError when the other end is gone, TimeoutError when it says nothing."""
        end = _end(timeout_s)
        (count,) = _COUNT.unpack(self._read(_COUNT.size, end))
        sizes = [size for (size,) in _COUNT.iter_unpack(self._read(_COUNT.size * count, end))]
        head, *arrays = [self._read(size, end) for size in sizes]

        def array(_: type, said: tuple[str, list[int], int]) -> Any:
            import numpy as np  # large

            kind, shape, place = said
            return np.frombuffer(arrays[place], kind).reshape(shape)

        return msgspec.msgpack.decode(head, type=self._heard, dec_hook=array)

    def _write(self, part: memoryview, end: float | None) -> None:
        while part:
            try:
                part = part[os.write(self._sink, part) :]
            except BlockingIOError:
                self._wait(self._sink, select.POLLOUT, end)

    def _read(self, size: int, end: float | None) -> bytearray:
        data = bytearray(size)
        left = memoryview(data)
        while left:
            try:
                got = os.readv(self._source, [left])
            except BlockingIOError:
                self._wait(self._source, select.POLLIN, end)
                continue
            if not got:
                raise EOFError("the other end is gone")
            left = left[got:]
        return data

    def _wait(self, pipe: int, events: int, end: float | None) -> None:
        poll = select.poll()
        poll.register(pipe, events)
        while not poll.poll(LOOK_MS):
            if self.ended:
                raise EOFError("no longer of use")
            if end is not None and time.monotonic() > end:
                raise TimeoutError("the other end does not answer")


def to_daemon(said: type[S], heard: type[H]) -> Line[S, H]:
    """For the process itself: the line to who asks. What else would be written to standard output goes
    to standard error."""
    line: Line[S, H] = Line(os.dup(0), os.dup(1), heard)
    os.dup2(2, 1)
    return line


def serve(line: Line[S, H], answer: Callable[[H], S]) -> None:
    """For the process itself: answer until nobody asks any more."""
    with suppress(EOFError, BrokenPipeError):
        while True:
            line.say(answer(line.hear()))


class Aside(Generic[S, H]):
    """The end that asks S and hears H. Owns the process. For one thread, but for `kill`, which ends its
    waiting."""

    def __init__(self, name: str, heard: type[H], module: str, *words: str) -> None:
        """`python -m MODULE WORDS`; `name` is for messages. Raises OSError when it cannot be started."""
        self._name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
            )
        except OSError:
            self._log.close()
            raise
        assert self._process.stdin is not None and self._process.stdout is not None
        self._line: Line[S, H] = Line(self._process.stdout.fileno(), self._process.stdin.fileno(), heard)

    def ask(self, what: S, timeout_s: float | None = None) -> H:
        """Its answer. Raises ProcessGone when the process has ended, ProcessSilent when it does not
        listen, or not answer."""
        try:
            self._line.say(what, timeout_s)
        except OSError as error:
            raise self._failure(error) from error
        return self.hear(timeout_s)

    def hear(self, timeout_s: float | None = None) -> H:
        """What it says next. Raises as `ask` does."""
        try:
            return self._line.hear(timeout_s)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise self._failure(error) from error

    def kill(self) -> None:
        """Any thread, at any time."""
        self._line.ended = True
        self._process.kill()

    def close(self) -> None:
        """Idempotent."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # it may hang in a disk
            self._process.wait(5.0)
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()

    def _failure(self, error: Exception) -> ProcessGone:
        if isinstance(error, TimeoutError):
            return ProcessSilent(f"{self._name} does not answer")
        with suppress(subprocess.TimeoutExpired, OSError):
            code = self._process.wait(0.5)
            self._log.seek(0)
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
            return ProcessGone(
                f"{self._name} ended with code {code}{f' ({lines[-1]})' if lines else ''}"
            )
        return ProcessGone(f"{self._name} is gone ({error})")


def _end(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s
