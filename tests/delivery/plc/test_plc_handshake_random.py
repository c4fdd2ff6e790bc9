"""Whatever the PLC and the daemon do: no PASS that was not given, and one end for every trigger."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from plc_rig import MS, TIMING, verdict

from edge_ad.delivery.plc.codes import MAP_VERSION, Error, Result
from edge_ad.delivery.plc.handshake import Announce, Closed, Handshake
from edge_ad.delivery.plc.signals import Inputs, Outputs

KEYS = st.sampled_from(["A", "B", "C", "D", "E", "F", "G", "", "x y"])
MOVES = st.one_of(
    # A PLC that mostly follows the rules, so that parts get through, ...
    st.tuples(st.just("follow"), KEYS),
    # ... and does anything at all in between.
    st.tuples(
        st.just("say"),
        st.fixed_dictionaries(
            {},
            optional={
                "part": KEYS,
                "trigger": st.booleans(),
                "ack": st.booleans(),
                "reset": st.booleans(),
                "enable": st.booleans(),
                "count": st.integers(0, 65535),
                "product": st.sampled_from(["", "plate", "bolt"]),
                "map_version": st.sampled_from([0, MAP_VERSION]),
            },
        ),
    ),
    st.tuples(
        st.just("judge"),
        st.tuples(KEYS, st.sampled_from(["PASS", "PASS", "REJECT", "FAULT"]), st.booleans(),
                  st.booleans(), st.sampled_from(["plate", "plate", "bolt"])),
    ),
    st.tuples(st.just("announce"), KEYS),
    st.tuples(
        st.just("judge_last"),
        st.tuples(st.sampled_from(["PASS", "PASS", "REJECT"]), st.sampled_from([True, True, False]),
                  st.sampled_from([False, False, True]), st.sampled_from(["plate", "plate", "bolt"])),
    ),
    st.tuples(st.just("reply"), st.tuples(KEYS, st.booleans())),
    st.tuples(st.just("answers"), st.sampled_from([True, True, False])),
    st.tuples(st.just("link"), st.sampled_from(["down", "e1", "e2"])),
    st.tuples(st.just("product"), st.sampled_from(["plate", "bolt"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 50, 300, 600, 1500])),
    st.tuples(st.just("silence"), st.sampled_from([1, 600, 1500])),
)  # fmt: skip


class World:
    """The truth: what was announced when, and which live PASS was given when."""

    def __init__(self, depth: int) -> None:
        self.handshake = Handshake(replace(TIMING, depth=depth))
        self.now = 0
        self.inputs = Inputs(map_version=MAP_VERSION, enable=True)
        self.out = Outputs()
        self.announced: dict[str, Announce] = {}
        self.at: dict[str, int] = {}
        self.passed: dict[str, int] = {}
        self.closed: Counter[str] = Counter()
        self.passes = 0
        self.answers = True  # the daemon, to every trigger
        self.accepted: set[str] = set()
        self.epoch = "e1"
        self.handshake.link_up("e1", "plate", 0)

    def step(self, beat: bool = True, ms: int = 10) -> None:
        self.now += ms * MS
        self.inputs = replace(self.inputs, heartbeat=(self.inputs.heartbeat + beat) & 0xFFFF)
        before, self.out = self.out, self.handshake.step(self.inputs, self.now)
        for action in self.handshake.take():
            if isinstance(action, Announce):
                assert action.part not in self.announced, "a key was announced twice"
                self.announced[action.part], self.at[action.part] = action, self.now
                if self.answers:
                    self.reply(action.part, True)
            elif isinstance(action, Closed):
                self.closed[action.part] += 1
        self.check(before)

    def reply(self, part: str, accepted: bool) -> None:
        if accepted:
            self.accepted.add(part)
        self.handshake.replied(part, accepted, "" if accepted else "overflow", self.now)

    def check(self, before: Outputs) -> None:
        out = self.out
        assert not (out.ready and out.error)
        assert out.error == (out.error_code is not Error.NONE)
        if out.error:
            assert out.verdict is Result.FAULT
        if out.verdict is not Result.PASS:
            return
        assert out.result_valid
        given = self.passed[out.part]
        assert out.part in self.accepted
        assert self.at[out.part] <= given <= self.at[out.part] + TIMING.deadline_ns
        assert out.part not in self.closed or self.closed[out.part] == 0
        if before.result_valid and before.results == out.results:
            assert (before.verdict, before.part) == (Result.PASS, out.part), "it was no PASS before"
        else:
            self.passes += 1
            assert self.now <= self.at[out.part] + TIMING.deadline_ns

    def judge(self, part: str, word: str, live: bool, advisory: bool, product: str) -> None:
        reason = "" if word == "PASS" else "score"
        header, body = verdict(part, word, reason, product, advisory, epoch=self.epoch)
        sure = word == "PASS" and live and not advisory and part in self.announced
        if sure and self.announced[part].product in ("", product):
            self.passed.setdefault(part, self.now)
        self.handshake.delivered(header, body, live, self.now)

    def follow(self, key: str) -> None:
        """The next phase of the handshake, as a well-made program takes it."""
        if self.out.error and not self.inputs.reset:
            self.inputs = replace(self.inputs, reset=True, trigger=False, ack=False, enable=True)
        elif self.out.result_valid:
            self.inputs = replace(self.inputs, ack=True)
        elif self.inputs.ack or self.inputs.reset or self.inputs.trigger:
            self.inputs = replace(self.inputs, ack=False, reset=False, trigger=False)
        elif self.out.ready:
            count = (self.inputs.count + 1) & 0xFFFF
            self.inputs = replace(self.inputs, part=key, count=count, trigger=True)
        self.step()


def play(world: World, what: str, how: object) -> None:
    if what in ("follow", "announce"):
        world.follow(str(how))
        if what == "announce" and world.inputs.trigger:
            world.inputs = replace(world.inputs, trigger=False)
            world.step()
        return
    if what == "say":
        world.inputs = replace(world.inputs, **how)  # type: ignore[arg-type]
    elif what == "judge":
        world.judge(*how)  # type: ignore[misc]
    elif what == "judge_last" and world.announced:
        world.judge(list(world.announced)[-1], *how)  # type: ignore[misc]
    elif what == "reply":
        world.reply(*how)  # type: ignore[misc]
    elif what == "answers":
        world.answers = bool(how)
    elif what == "link" and how == "down":
        world.handshake.link_down(world.now)
    elif what == "link":
        world.epoch = str(how)
        world.handshake.link_up(world.epoch, "plate", world.now)
    elif what == "product":
        world.handshake.product_is(str(how))
    elif what in ("wait", "silence"):
        world.step(beat=what == "wait", ms=int(how))  # type: ignore[call-overload]
        return
    world.step()


@settings(max_examples=400, deadline=None)
@given(depth=st.integers(1, 3), moves=st.lists(MOVES, max_size=60))
def test_no_pass_that_was_not_given_and_one_end_for_every_trigger(
    depth: int, moves: list[tuple[str, object]]
) -> None:
    world = World(depth)
    world.step()
    world.step()
    for what, how in moves:
        play(world, what, how)
    world.inputs = replace(world.inputs, reset=False)
    world.step()
    world.inputs = replace(world.inputs, reset=True, trigger=False)
    world.step()
    assert set(world.announced) <= set(world.closed)
    assert set(world.closed.values()) <= {1}
    assert not world.out.busy and not world.out.result_valid


def test_the_random_plc_does_get_parts_through() -> None:
    world = World(1)
    for key in "ABC":
        for _ in range(3):
            world.follow(key)
        world.judge(key, "PASS", True, False, "plate")
        for _ in range(4):
            world.follow(key)
    assert world.passes == 3 and world.closed == Counter("ABC")
