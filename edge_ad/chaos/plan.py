"""What happens to whom, all of it from one seed: parts, triggers that go wrong, kills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_ad.capture.parts import part_key

# Of all parts, for each of: dropped at the camera, doubled there, dropped at the station, doubled there.
WRONG_SHARE = 0.01
POOL = 48  # pictures of parts that the camera cycles through
BAD_SHARE = 0.2

# Where the victims can be made to die by themselves; elsewhere the kill comes from outside.
PLACES = {
    "daemon": (
        "inspect.captured", "outbox.commit.before", "outbox.commit.after", "verdicts.send.before",
        "verdicts.send.after",
    ),
    "station": (
        "station.act.before", "station.act.after", "station.commit.before", "station.commit.after",
    ),
}  # fmt: skip


class Options(msgspec.Struct, frozen=True):
    """parts and kills: how many, kills of daemon and station each; rate: parts per second; travel_ms
    from the trigger to the gate."""

    parts: int = 10_000
    kills: int = 30
    seed: int = 1
    rate: float = 20.0
    travel_ms: float = 800.0

    @property
    def pitch_ns(self) -> int:
        """From one part to the next."""
        return int(1e9 / self.rate)


class Part(msgspec.Struct, frozen=True):
    """A part on the belt. camera, station: how many triggers arrive there, 0 to 2."""

    number: int
    key: str
    bad: bool
    camera: int = 1
    station: int = 1

    @property
    def ordinary(self) -> bool:
        """Whether one trigger arrives on either side."""
        return self.camera == self.station == 1


class Kill(msgspec.Struct, frozen=True):
    """After so many parts since the victim was ready: from outside, or, where it has a place, by itself
    the next time that it comes there. `latest_s`: after the first part, in any case from then on."""

    after_parts: int
    place: str = ""
    latest_s: float = 0.0


class Files(msgspec.Struct, frozen=True):
    """What the processes share, all in one directory."""

    directory: str

    def path(self, name: str) -> Path:
        """A file of theirs."""
        return Path(self.directory) / name

    @property
    def plan(self) -> Path:
        """`Parts`, one JSON line each."""
        return self.path("plan.jsonl")

    @property
    def triggers(self) -> Path:
        """What the source sent, and when."""
        return self.path("triggers.jsonl")

    @property
    def gate(self) -> Path:
        """What the gate did."""
        return self.path("gate.jsonl")

    @property
    def windows(self) -> Path:
        """When who was killed, and ready again."""
        return self.path("windows.jsonl")


def plan_parts(options: Options, bad: Sequence[bool]) -> list[Part]:
    """The parts in their order; `bad`: of each picture of the pool. Every kind of trigger that goes
    wrong comes at least once among good parts, and among bad ones as far as there are as many."""
    rng = np.random.default_rng((options.seed, 1))
    fates = rng.choice(5, options.parts, p=[1 - 4 * WRONG_SHARE, *[WRONG_SHARE] * 4])
    order = [int(number) for number in 1 + rng.permutation(options.parts - 2)]
    for kind in (True, False):
        sure = [number for number in order if bool(bad[number % len(bad)]) is kind][:4]
        fates[sure] = np.arange(1, 1 + len(sure))
    counts = {0: (1, 1), 1: (0, 1), 2: (2, 1), 3: (1, 0), 4: (1, 2)}
    return [
        Part(number, part_key(number), bad[number % len(bad)], *counts[int(fate)])
        for number, fate in enumerate(fates)
    ]


def plan_kills(options: Options, victim: str) -> Iterator[Kill]:
    """The victim's kills, spread over the run, half of them at a place of its own."""
    rng = np.random.default_rng((options.seed, 2, *victim.encode()))
    mean = options.parts / (options.kills + 1)
    slice_s = 0.9 * mean / options.rate
    for kill in range(options.kills):
        place = str(rng.choice(PLACES[victim])) if kill % 2 else ""
        yield Kill(int(rng.uniform(0.1, 0.7) * mean), place, (kill + 1) * slice_s)


def write_lines(path: Path, items: Sequence[msgspec.Struct]) -> None:
    """One JSON line each."""
    path.write_bytes(b"".join(msgspec.json.encode(item) + b"\n" for item in items))
