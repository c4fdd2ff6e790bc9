"""The process at the end of the belt: rejects every part that comes while it holds no PASS that is live.
It is never killed."""

from __future__ import annotations

import heapq
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import IO

import msgspec
import zmq

from edge_ad.chaos.checker import Action, Triggered
from edge_ad.chaos.plan import Files


class Signal(msgspec.Struct, frozen=True):
    """What the station says, as `edge_ad.delivery.station.messages.GateMessage` has it. The clock is
    shared."""

    kind: str
    run: str
    sent_ns: int
    key: str = ""
    from_ns: int = 0
    until_ns: int = 0


class Gate:
    """Holds signals, and acts on parts at their time. It does not know which part is there: a PASS that
    is live opens it for whatever comes, while the station has been heard of within `beat_ns`."""

    def __init__(self, log: IO[bytes], beat_ns: int) -> None:
        self._log = log
        self._beat_ns = beat_ns
        self._heard: deque[int] = deque(maxlen=1024)
        self._run = ""
        self._signals: dict[str, Signal] = {}
        self._coming: list[tuple[int, int]] = []  # when, number
        self.left = 0  # parts on the belt

    def come(self, part: Triggered) -> None:
        """A part is on its way."""
        heapq.heappush(self._coming, (part.due_ns, part.number))
        self.left += 1

    def hear(self, signal: Signal) -> None:
        """The station says something. It counts from when it was sent: what lay in a queue is old."""
        if signal.run != self._run:  # the station has been started again, and knows of no promise
            self._run = signal.run
            self._signals.clear()
            self._heard.clear()
        self._heard.append(signal.sent_ns)
        if signal.kind == "pass":
            self._signals[signal.key] = signal
        elif signal.kind in ("revoke", "reject"):
            self._signals.pop(signal.key, None)
        elif signal.kind == "shut":
            self._signals.clear()

    def next_due_ns(self) -> int | None:
        """When the next part comes."""
        return self._coming[0][0] if self._coming else None

    def act(self, now: int) -> None:
        """Pass or reject the parts that are there. A gate that is late acts as it should have at their
        time: on what had been sent by then."""
        while self._coming and self._coming[0][0] <= now:
            due, number = heapq.heappop(self._coming)
            live = [
                signal.key
                for signal in self._signals.values()
                if signal.from_ns <= due <= signal.until_ns and signal.sent_ns <= due
            ]
            alive = any(due - self._beat_ns <= sent <= due for sent in self._heard)
            held = live[0] if alive and len(live) == 1 else ""  # two parts cannot be there at once
            action = Action(number, now, bool(held), held)
            self._log.write(msgspec.json.encode(action) + b"\n")
            self._log.flush()
            self.left -= 1
            self._signals = {k: s for k, s in self._signals.items() if s.until_ns >= due}


def main(arguments: Sequence[str], clock: Callable[[], int] = time.monotonic_ns) -> None:
    """`python -m edge_ad.chaos.gate DIRECTORY PARTS_ENDPOINT SIGNALS_ENDPOINT BEAT_MS PARTS`: ends when
    so many parts have come."""
    files, beat_ns, parts = Files(arguments[0]), int(float(arguments[3]) * 1e6), int(arguments[4])
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    belt, signals = context.socket(zmq.PULL), context.socket(zmq.PULL)
    belt.setsockopt(zmq.RCVHWM, 0)
    belt.bind(arguments[1])
    signals.bind(arguments[2])
    decode_part, decode = msgspec.json.Decoder(Triggered).decode, msgspec.json.Decoder(Signal).decode
    poller = zmq.Poller()
    poller.register(belt, zmq.POLLIN)
    poller.register(signals, zmq.POLLIN)
    come = 0
    with files.gate.open("wb") as log:
        gate = Gate(log, beat_ns)
        while come < parts or gate.left:
            due = gate.next_due_ns()
            wait_ms = 100 if due is None else max(0, (due - clock()) // 1_000_000 + 1)
            poller.poll(min(100, wait_ms))
            now = clock()  # all that was sent by then is read before anything is done
            for frame in _waiting(belt):
                gate.come(decode_part(frame))
                come += 1
            for frame in _waiting(signals):
                gate.hear(decode(frame))
            gate.act(now)
    context.destroy(linger=0)


def _waiting(socket: zmq.Socket[bytes]) -> Iterator[bytes]:
    with suppress(zmq.Again):
        while True:
            yield socket.recv(zmq.DONTWAIT)


if __name__ == "__main__":
    main(sys.argv[1:])
