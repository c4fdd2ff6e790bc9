"""The process that knows when parts come: tells daemon, station and gate, some of it once too often or
not at all. It is never killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import IO

import msgspec
import zmq

from edge_ad.chaos.checker import Triggered, read_lines
from edge_ad.chaos.plan import Files, Options, Part
from edge_ad.delivery.station.messages import Announcer
from edge_ad.delivery.trigger import TriggerClient

DOUBLED_NS = 4_000_000  # from a trigger to its double


class Source:
    """Sends what the plan says, each part at its time."""

    def __init__(
        self,
        options: Options,
        camera: TriggerClient,
        station: Announcer,
        gate: zmq.Socket[bytes],
        log: IO[bytes],
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._camera = camera
        self._station = station
        self._gate = gate
        self._log = log
        self._clock = clock
        self._sleep = sleep

    def run(self, parts: Sequence[Part]) -> None:
        """Send all of it; returns when the last part has been announced."""
        due = self._clock()
        for part in parts:
            self._wait_until(due)
            self._announce(part)
            # What was held up is not made up for by a burst: on a belt parts do not come closer.
            due = max(due, self._clock()) + self._options.pitch_ns

    def _announce(self, part: Part) -> None:
        now = self._clock()
        triggered = Triggered(part.number, now, now + int(self._options.travel_ms * 1e6))
        # Told to the gate and written down before anything can be made of it.
        line = msgspec.json.encode(triggered) + b"\n"
        self._log.write(line)
        self._log.flush()
        self._gate.send(line)
        for time_ in range(max(part.camera, part.station)):
            if time_:
                self._wait_until(now + DOUBLED_NS)
            if time_ < part.camera:
                self._camera.ask(part.key)
            if time_ < part.station:
                self._station.present(part.key)

    def _wait_until(self, due_ns: int) -> None:
        while (left := due_ns - self._clock()) > 0:
            self._sleep(left / 1e9)
            self._camera.replies()


def main(arguments: Sequence[str]) -> None:
    """`python -m edge_ad.chaos.source DIRECTORY OPTIONS DAEMON STATION GATE`; three are endpoints."""
    files, options = Files(arguments[0]), msgspec.json.decode(arguments[1], type=Options)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    gate = context.socket(zmq.PUSH)
    gate.connect(arguments[4])
    station = Announcer(arguments[3])
    station.wait()
    camera = TriggerClient(arguments[2])
    with files.triggers.open("wb") as log:
        Source(options, camera, station, gate, log).run(read_lines(files.plan, Part))
    camera.close()
    station.close()
    gate.close()
    context.term()


if __name__ == "__main__":
    main(sys.argv[1:])
