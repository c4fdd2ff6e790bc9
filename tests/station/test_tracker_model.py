"""Random lines against a model that knows the truth: which physical part the sensor saw, which one the
camera looked at, and whether it is good. The model knows nothing of how the tracker decides."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_verdicts import MS, body, header, rules

from edge_ad.delivery.station.events import Pass, Promise, Reject, Revoke
from edge_ad.delivery.station.tracker import GateTracker

TRAVEL, BEFORE, AFTER, DEADLINE, MATCH = 300, 10, 20, 200, 5


@dataclass
class Part:
    """A physical part: when it is at camera and sensor, and what goes wrong with it."""

    t: int
    good: bool
    camera: str  # seen, missed, doubled
    station: str
    delay: int  # of the verdict
    told: str  # once, twice, replayed, never
    key: int  # how many parts before this one has the same key; 0: its own
    link: str  # what happens to the link just after it: nothing, down, epoch, restart


def parts_of(seed: int, faults: float, count: int = 40) -> list[Part]:
    """A line of parts on which each thing goes wrong with a share of `faults` of the parts."""
    rng = random.Random(seed)

    def usually(normal: Any, *others: Any) -> Any:
        return rng.choice(others) if rng.random() < faults else normal

    return placed(
        [
            Part(
                t=rng.randint(70, 250),
                good=rng.random() < 0.7,
                camera=usually("seen", "missed", "doubled"),
                station=usually("seen", "missed", "doubled"),
                delay=usually(rng.choice([5, 20, 60, 190]), 240, 320, 700),
                told=usually("once", "twice", "replayed", "never"),
                key=usually(0, 1, 2),
                link=usually("nothing", "down", "epoch", "restart"),
            )
            for _ in range(count)
        ]
    )


def placed(parts: list[Part]) -> list[Part]:
    """Gaps become times."""
    at = 1000
    for each in parts:
        at += each.t
        each.t = at
    return parts


@dataclass
class World:
    """The line: makes every event of it, feeds them in order of time, and keeps what is true."""

    parts: list[Part]
    proof: str  # key, time, both
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = itertools.count()
        self.events: list[tuple[float, int, str, tuple[Any, ...]]] = []
        self.saw: dict[tuple[int, int], Part] = {}  # (run, number) -> what the sensor saw
        self.ends: dict[tuple[int, int], Pass | Reject] = {}
        self.promised: set[tuple[int, int]] = set()
        self.live_good: set[tuple[int, str, int]] = set()
        self.tracker = self.start()
        self.run, self.number, self.seq, self.count = 0, 0, 0, 0
        self.epoch = 1

    def start(self) -> GateTracker:
        proof = {"by_time": self.proof == "time", "resync_parts": 2}
        match_ns = 0 if self.proof == "key" else MATCH * MS
        return GateTracker(rules(**proof, match_ns=match_ns, **self.options))

    def at(self, ms: float, what: str, *arguments: Any) -> None:
        heapq.heappush(self.events, (ms, next(self.order), what, arguments))

    def plan(self) -> None:
        self.at(0, "up")
        keys: list[str] = []
        for number, each in enumerate(self.parts):
            # Nothing but time tells two parts with one key, the first of which the station did not see.
            again = self.proof == "both" and 0 < each.key <= number
            key = keys[-each.key] if again else f"k{number}"
            # A daemon refuses a key that it has had (see its own tests).
            reused = key in keys
            keys.append(key)
            for extra in range({"missed": 0, "seen": 1, "doubled": 2}[each.station]):
                self.at(each.t + 3 * extra, "present", each, key)
            for extra in range({"missed": 0, "seen": 1, "doubled": 2}[each.camera]):
                self.at(each.t + 4 * extra, "trigger", each, key, extra or reused)
            if each.link == "down":
                self.at(each.t + 30, "down")
                self.at(each.t + 130, "up")
            elif each.link != "nothing":
                self.at(each.t + 30, each.link)
        end = self.parts[-1].t + 2000
        for ms in range(0, end, 5):
            self.at(ms + 0.5, "tick")

    def play(self) -> None:
        self.plan()
        while self.events:
            ms, _, what, arguments = heapq.heappop(self.events)
            now = int(ms * MS)
            for action in getattr(self, f"on_{what}")(now, *arguments) or ():
                if isinstance(action, Promise):
                    assert self.saw[self.run, action.number].good, "a bad part is promised to pass"
                    self.promised.add((self.run, action.number))
                elif isinstance(action, Revoke):
                    self.promised.remove((self.run, action.number))
                elif isinstance(action, Pass | Reject):
                    me = (self.run, action.number)
                    taken_back = me not in self.promised
                    assert isinstance(action, Pass) or taken_back, "a promise was not taken back"
                    assert me not in self.ends, "two actions for one part"
                    self.ends[me] = action
                    if isinstance(action, Pass):
                        self.check(me, action, now)

    def check(self, me: tuple[int, int], action: Pass, now: int) -> None:
        seen = self.saw[me]
        assert seen.good, f"a bad part passes: {seen}"
        assert action.verdicts and set(self.named(action)) <= self.live_good, "no live PASS of its own"
        assert now <= action.until_ns
        # While the gate is open, no other part is there: not even one that no sensor saw.
        for other in self.parts:
            gate = (other.t + TRAVEL) * MS
            assert other is seen or not action.from_ns <= gate <= action.until_ns

    def named(self, action: Pass) -> list[tuple[int, str, int]]:
        return [(id(self.saw[self.run, action.number]), epoch, seq) for _, epoch, seq in action.verdicts]

    def on_tick(self, now: int) -> list[Any]:
        return self.tracker.tick(now)

    def on_present(self, now: int, each: Part, key: str) -> list[Any]:
        self.number += 1
        self.saw[self.run, self.number] = each
        return self.tracker.present(None if self.proof == "time" else key, now, now)

    def on_trigger(self, now: int, each: Part, key: str, refused: bool) -> None:
        self.seq += 1
        self.count += 1
        good = each.good and not (refused and self.proof != "time")
        told = header(
            f"q{self.seq}" if self.proof == "time" else key, self.seq, epoch=f"{self.epoch:04d}",
            count=self.count, t_trigger_ns=now,
        )  # fmt: skip
        if each.told == "never":
            return
        live = each.told != "replayed"
        for again in range(2 if each.told == "twice" else 1):
            self.at(now / MS + each.delay + 9 * again, "verdict", each, told, good, live)

    def on_verdict(self, now: int, each: Part, told: Any, good: bool, live: bool) -> list[Any]:
        if live and good and now <= (each.t + 3 + DEADLINE) * MS:
            self.live_good.add((id(each), told.epoch, told.seq))
        said = body("PASS") if good else body("REJECT", "score")
        return self.tracker.verdict("main", told, said, live, now)

    def on_up(self, now: int) -> list[Any]:
        return self.tracker.link_up("main", "line1", f"{self.epoch:04d}", 0, 0, now)

    def on_down(self, now: int) -> list[Any]:
        return self.tracker.link_down("main", "lost", now)

    def on_epoch(self, now: int) -> list[Any]:
        self.epoch, self.seq, self.count = self.epoch + 1, 0, 0
        return self.on_up(now)

    def on_restart(self, now: int) -> None:
        self.tracker = self.start()
        self.run, self.number = self.run + 1, 0
        self.at(now / MS + 15, "up")


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32), faults=st.sampled_from([0.01, 0.05, 0.2]),
    proof=st.sampled_from(["key", "time", "both"]),
    keep=st.booleans(),
    promises=st.booleans(),
)  # fmt: skip
def test_no_bad_part_passes_and_every_part_has_one_action(
    seed: int, faults: float, proof: str, keep: bool, promises: bool
) -> None:
    world = World(parts_of(seed, faults), proof, {"keep_proven": keep, "promises": promises})
    world.play()
    last = {me for me in world.saw if me[0] == world.run}
    assert {me for me in world.ends if me[0] == world.run} == last, "a part without an action"
    assert set(world.ends) <= set(world.saw)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), proof=st.sampled_from(["key", "time", "both"]))
def test_every_good_part_passes_where_nothing_goes_wrong(seed: int, proof: str) -> None:
    world = World(parts_of(seed, 0.0), proof)
    world.play()
    assert len(world.ends) == len(world.parts)
    for (_, number), seen in world.saw.items():
        settled = proof != "time" or number > 4  # at the beginning the counts have to agree first
        passed = isinstance(world.ends[0, number], Pass)
        assert passed is seen.good or (not settled and not passed)
