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
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from edge_ad.errors import DeviceError

S = TypeVar("S")
H = TypeVar("H")
Pipes = tuple[int, int]  # source, sink
LEAST = 19  # nice
PIPE = 1 << 20  # bytes that may be on the way: a picture of megabytes is not woken for every 64 KB
END_S = 2.0  # for the process to end by itself, once its pipes have
LAST = 4096  # bytes of what it wrote to standard error
LOOK_MS = 200  # whoever waits looks up that often: a process may hang in a disk, and not even die
_COUNT = struct.Struct("<Q")


class ProcessGone(DeviceError):
    """The process that was asked has ended, or is of no use."""


class ProcessSilent(ProcessGone):
    """It may be there, but does not answer."""


def begin(nice: int | None = None) -> Pipes:
    """For the process itself, before it imports anything large, which would take time from parts: give
    way to everything (SCHED_IDLE), or by so much, and be the first to go when memory is short.

    Returns what `serve` needs. What else would be written to standard output goes to standard error."""
    pipes = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # in order, and not at the end
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a person at a terminal stops the daemon
    with suppress(AttributeError, OSError):  # not every system has it, or allows it
        os.setpriority(os.PRIO_PROCESS, 0, LEAST if nice is None else nice)
        if nice is None:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    return pipes


class Line(Generic[S, H]):
    """One end of two pipes: says S, hears H, whose arrays may be written to. For one thread; `ended` may
    be set by any, where it looks up every `look_ms`."""

    def __init__(self, pipes: Pipes, heard: type[H], look_ms: int | None = None) -> None:
        self.ended = False
        self._source, self._sink = pipes
        self._heard = heard
        self._look_ms = look_ms
        for end in pipes:
            os.set_blocking(end, False)
            with suppress(AttributeError, OSError):  # what all pipes of a user may take is limited
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE)

    def say(self, what: S, end: float | None = None) -> None:
        """Raises OSError or EOFError when the other end is gone, TimeoutError when it does not listen
        until `end` (`time.monotonic`)."""
        self._check()
        arrays: list[Any] = []

        def beside(array: Any) -> Any:
            arrays.append(array if array.flags.c_contiguous else array.copy(order="C"))
            return array.dtype.str, array.shape, len(arrays) - 1

        head = msgspec.msgpack.encode(what, enc_hook=beside)
        parts = [memoryview(head), *(array.reshape(-1).view("u1").data for array in arrays)]
        sizes = b"".join(_COUNT.pack(part.nbytes) for part in parts)
        for part in (memoryview(_COUNT.pack(len(parts)) + sizes), *parts):
            self._write(part, end)

    def hear(self, end: float | None = None) -> H:
        """Raises OSError or EOFError when the other end is gone, TimeoutError when it says nothing until
        `end`, and others when it does not say H."""
        self._check()
        (count,) = _COUNT.unpack(self._read(_COUNT.size, end))
        sizes = [size for (size,) in _COUNT.iter_unpack(self._read(_COUNT.size * count, end))]
        head, *arrays = [self._read(size, end) for size in sizes]

        def array(_: type, said: tuple[str, list[int], int]) -> Any:
            import numpy as np  # large

            kind, shape, place = said
            return np.frombuffer(arrays[place], kind).reshape(shape)

        return msgspec.msgpack.decode(head, type=self._heard, dec_hook=array)

    def _check(self) -> None:
        if self.ended:  # and its descriptors may be others' by now
            raise EOFError("no longer of use")

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
        while True:
            self._check()
            left = None if end is None else (end - time.monotonic()) * 1000
            if left is not None and left <= 0:
                raise TimeoutError("the other end does not answer")
            if poll.poll(min((one for one in (left, self._look_ms) if one is not None), default=None)):
                return


def serve(pipes: Pipes, heard: type[H], answer: Callable[[H], object], first: object = None) -> None:
    """For the process itself: say what comes first, if anything does, and answer until nobody asks any
    more."""
    line: Line[object, H] = Line(pipes, heard)
    with suppress(EOFError, BrokenPipeError):
        if first is not None:
            line.say(first)
        while True:
            line.say(answer(line.hear()))


class Aside(Generic[S, H]):
    """The end that asks S and hears H. Owns the process. For one thread, but for `kill`, which ends its
    waiting."""

    def __init__(self, name: str, heard: type[H], module: str, *words: str) -> None:
        """`python -m MODULE WORDS`; `name` is for messages. Raises OSError when it cannot be started.

        Python stands still until the process runs, so this is not for a thread that gets no core."""
        self._name = name
        try:
            self._log: BinaryIO | None = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        except OSError:
            self._log = None  # no directory for it: then it cannot say why it ends
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log or subprocess.DEVNULL,
                bufsize=0,
            )
        except OSError:
            self._close_log()
            raise
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None and sink is not None
        self._pipes = source, sink
        self._line: Line[S, H] = Line((source.fileno(), sink.fileno()), heard, LOOK_MS)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, what: S, timeout_s: float | None = None) -> H:
        """Its answer. Raises ProcessGone when the process has ended, ProcessSilent when it does not
        listen, or not answer."""
        end = _end(timeout_s)
        try:
            self._line.say(what, end)
        except (OSError, EOFError) as error:
            raise self._failure(error) from error
        return self._hear(end)

    def hear(self, timeout_s: float | None = None) -> H:
        """What it says next. Raises as `ask` does."""
        return self._hear(_end(timeout_s))

    def kill(self) -> None:
        """Any thread, at any time."""
        self._line.ended = True
        self._process.kill()

    def close(self) -> None:
        """Does not wait for its end: it may hang in a disk, or get no core even for that. Idempotent."""
        self.kill()
        for pipe in self._pipes:
            pipe.close()
        self._close_log()
        if self._process.poll() is None:
            threading.Thread(target=self._process.wait, name="reap", daemon=True).start()

    def _hear(self, end: float | None) -> H:
        try:
            return self._line.hear(end)
        except Exception as error:  # whatever it has said, nothing that follows can be understood
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ProcessGone:
        if isinstance(error, TimeoutError):
            return ProcessSilent(f"{self._name} does not answer")
        code = None
        if not self._line.ended:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(END_S)
        how = f"ended with code {code}" if code is not None else f"is gone ({error})"
        reason = self._last_line()
        return ProcessGone(f"{self._name} {how}{f' ({reason})' if reason else ''}")

    def _last_line(self) -> str:
        """What it wrote last to standard error."""
        if self._log is None:
            return ""
        try:
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LAST))
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def _close_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()


def _end(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s
