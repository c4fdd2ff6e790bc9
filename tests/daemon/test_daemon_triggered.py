"""Announced parts: each comes out once, and no frame of another part is ever in it."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ad.daemon.announced import Answer, Call, TriggeredLane
from edge_ad.daemon.part import Part
from edge_ad.daemon.triggered import MOST_KEYS, MOST_WAITING, TriggeredParts
from edge_ad.frame import Frame
from edge_ad.verdict import Reason

MS = 1_000_000
FRAME, EARLY = 100 * MS, 20 * MS
IMAGE = np.zeros((4, 4), np.uint8)


class Clock:
    now = 10**12

    def __call__(self) -> int:
        return self.now


class Line:
    """Triggers, cameras and inspection of one station, on a clock of its own."""

    def __init__(self, *asked: bool, shots: int = 1, limit: int = 4) -> None:
        self.clock = Clock()
        self.lanes = [TriggeredLane(f"c{i}", shots, a, 2 * limit) for i, a in enumerate(asked)]
        self.parts = TriggeredParts(self.lanes, limit, FRAME, EARLY, self.clock)

    def wait(self, ms: float) -> None:
        self.clock.now += int(ms * MS)

    def trigger(self, key: str, fault: Reason = Reason.NONE, encoder: int | None = None) -> Answer:
        call = Call(key, self.clock(), 0, "", encoder, fault)
        return self.parts.trigger(call)

    def picture(self, lane: int = 0, ago_ms: float = 0.0, shot: int | None = None) -> None:
        at = self.clock() - int(ago_ms * MS)
        self.parts.put(self.lanes[lane], Frame("c", 0, IMAGE, at, 0, shot=shot), 1)

    def shoot(self, lane: int = 0) -> str:
        """The key of the picture that a camera was asked for, and took."""
        asked = self.parts.next_request(self.lanes[lane], 0.0)
        assert asked is not None
        frame = Frame("c", 0, IMAGE, self.clock(), 0, asked.key, trigger=asked.number)
        self.parts.put(self.lanes[lane], frame, 1)
        return asked.key

    def take(self) -> Part | None:
        return self.parts.take(0.0)

    def outcome(self) -> tuple[str, str]:
        """The next part as (key, reason), settled at once."""
        part = self.take()
        assert part is not None
        assert part.key is not None
        return part.key, self.parts.settle(part)[0].value


def test_part_has_what_its_trigger_said_and_the_picture_that_was_asked_for() -> None:
    line = Line(True)
    assert line.trigger("A", encoder=77) == Answer(True)
    assert line.take() is None
    line.wait(5)
    assert line.shoot() == "A"
    part = line.take()
    assert part is not None
    assert (part.key, part.trigger, part.count, part.encoder, part.fault) == (
        "A", "message", 1, 77, Reason.NONE,
    )  # fmt: skip
    assert [frame and frame.part_key for frame in part.frames] == ["A"]
    assert part.t_trigger_ns == line.clock() - 5 * MS
    assert line.take() is None


def test_several_cameras_and_shots_make_one_part() -> None:
    line = Line(False, False, shots=2)
    line.trigger("A")
    for lane in (0, 1):
        line.picture(lane)
        line.wait(10)
    assert line.take() is None
    line.picture(1, shot=1)
    line.picture(0)
    part = line.take()
    assert part is not None
    assert part.fault is Reason.NONE
    assert None not in part.frames
    assert len(part.frames) == 4


def test_no_frame_in_time_is_fault_and_a_late_one_is_nobodys() -> None:
    line = Line(False)
    line.trigger("A")
    line.wait(99)
    assert line.take() is None
    line.wait(2)
    assert line.outcome() == ("A", "no_frame")
    line.picture(ago_ms=50)  # taken in time, but it took too long on its way
    assert line.lanes[0].unmatched == 1
    line.wait(200)
    line.trigger("B")
    line.picture()
    assert line.outcome() == ("B", "")


def test_camera_that_is_down_is_fault_at_once_and_is_not_asked() -> None:
    line = Line(True)
    line.trigger("A")
    line.parts.set_down(line.lanes[0], True)
    assert line.outcome() == ("A", "no_frame")
    line.trigger("B")
    assert line.outcome() == ("B", "no_frame")
    assert line.parts.next_request(line.lanes[0], 0.0) is None
    line.parts.set_down(line.lanes[0], False)
    line.trigger("C")
    assert line.shoot() == "C"
    assert line.outcome() == ("C", "")


def test_picture_that_would_be_taken_too_late_is_not_asked_for() -> None:
    line = Line(True)
    line.trigger("A")
    line.wait(101)
    assert line.parts.next_request(line.lanes[0], 0.0) is None
    line.trigger("B")
    asked = line.parts.next_request(line.lanes[0], 0.0)
    assert asked is not None
    line.wait(101)  # the camera took its time: another part may lie there by now
    frame = Frame("c", 0, IMAGE, line.clock(), 0, trigger=asked.number)
    line.parts.put(line.lanes[0], frame, 1)
    assert [line.outcome(), line.outcome()] == [("A", "no_frame"), ("B", "no_frame")]


def test_full_queue_is_fault_without_pictures_and_the_others_go_on() -> None:
    line = Line(False, limit=2)
    answers = []
    for key in "ABCD":
        answers.append(line.trigger(key))
        line.picture()
        line.wait(130)
    assert [answer.reason for answer in answers] == ["", "", "overflow", "overflow"]
    assert all(answer.judged for answer in answers)
    assert line.lanes[0].skipped == 2
    parts = [line.take() for _ in range(4)]
    assert [p and p.fault.value for p in parts] == ["", "", "overflow", "overflow"]
    assert [p and p.frames[0] is not None for p in parts] == [True, True, False, False]


def test_burst_without_end_is_refused_in_words_once_too_many_wait() -> None:
    line = Line(True, limit=2)
    for i in range(MOST_WAITING):
        assert line.trigger(f"K{i}").judged
    answer = line.trigger("more")
    assert (answer.judged, answer.reason) == (False, "overflow")
    line.wait(1000)
    keys = [line.outcome()[0] for _ in range(MOST_WAITING)]
    assert keys == [f"K{i}" for i in range(MOST_WAITING)]
    assert line.take() is None


def test_key_that_comes_again_faults_both_unless_the_first_is_out() -> None:
    line = Line(False)
    line.trigger("A")
    line.picture()
    assert line.trigger("A").reason == "key_reused"
    assert [line.outcome(), line.outcome()] == [("A", "key_reused")] * 2
    line.wait(200)
    line.trigger("B")
    line.picture()
    assert line.outcome() == ("B", "")
    assert line.trigger("B").reason == "key_reused"
    assert line.outcome() == ("B", "key_reused")


def test_key_that_comes_again_while_its_part_is_inspected_faults_that_one_too() -> None:
    line = Line(False)
    line.trigger("A")
    line.picture()
    part = line.take()
    assert part is not None
    assert part.fault is Reason.NONE
    line.trigger("A")
    assert line.parts.settle(part)[0] is Reason.KEY_REUSED


def test_keys_are_remembered_for_thousands_of_parts_and_no_longer() -> None:
    line = Line(True)
    for i in range(MOST_KEYS):
        line.trigger(f"K{i}")
        line.shoot()
        assert line.outcome() == (f"K{i}", "")
    assert line.trigger("K0").reason == "key_reused"
    line.outcome()
    line.trigger("new")
    line.shoot()
    line.outcome()
    assert line.trigger("K0").reason == ""


def test_frame_between_two_triggers_too_close_proves_nothing() -> None:
    line = Line(False)
    line.trigger("A")
    line.wait(60)
    line.trigger("B")
    line.wait(5)
    line.picture()
    assert [line.outcome(), line.outcome()] == [("A", "no_frame"), ("B", "no_frame")]
    assert line.parts.ambiguous == 1


def test_frame_that_was_long_under_way_proves_nothing_between_two_triggers_too_close() -> None:
    line = Line(False)
    line.trigger("A")
    line.wait(110)
    line.trigger("B")
    line.wait(120)
    line.trigger("C")  # A's window is long over, but B waits
    line.picture(ago_ms=135)  # taken in the windows of A and B
    assert [line.outcome() for _ in range(2)] == [("A", "no_frame"), ("B", "no_frame")]
    line.picture()
    assert line.outcome() == ("C", "")


def test_second_frame_of_a_trigger_that_waits_for_another_camera_faults_it() -> None:
    line = Line(False, False)
    line.trigger("A")
    line.picture(0)
    line.picture(0)
    part = line.take()
    assert part is not None
    assert part.fault is Reason.NO_FRAME
    assert "more frames" in part.detail


def test_second_frame_while_the_part_is_inspected_faults_it() -> None:
    line = Line(False)
    line.trigger("A")
    line.picture()
    part = line.take()
    assert part is not None
    line.picture()
    assert line.parts.settle(part)[0] is Reason.NO_FRAME


def test_frame_a_little_before_its_message_is_its_own_and_an_older_one_is_not() -> None:
    line = Line(False)
    line.picture()
    line.wait(15)
    line.trigger("A")
    assert line.outcome() == ("A", "")
    line.wait(300)
    line.picture()
    line.wait(30)
    line.trigger("B")
    assert line.take() is None
    assert line.lanes[0].unmatched == 1


def test_message_that_comes_after_anothers_frame_of_the_same_time_doubts_both() -> None:
    line = Line(False)
    line.trigger("A")
    line.wait(10)
    line.picture()
    part = line.take()
    assert part is not None
    line.wait(5)
    line.trigger("B")  # the frame is 5 ms before it, so it may be this one's
    assert line.parts.settle(part)[0] is Reason.NO_FRAME
    assert line.outcome() == ("B", "no_frame")


def test_end_answers_what_waits_and_accepts_nothing_more() -> None:
    line = Line(True)
    line.trigger("A")
    line.parts.close()
    assert line.trigger("B") == Answer(False, "not_ready", "the daemon is stopping")
    assert not line.parts.finished
    line.parts.end(line.lanes[0])
    assert line.outcome() == ("A", "stopped")
    assert line.parts.finished


class Passing(NamedTuple):
    """A real part that passes the station."""

    pitch_ms: int  # since the one before
    announced: int  # messages
    frames: int
    jitter_ms: int  # from trigger to frame
    transfer_ms: int
    polled: bool  # the inspection looks after each event


PASSINGS = st.builds(
    Passing, st.integers(121, 400), st.integers(0, 2), st.integers(0, 2), st.integers(-20, 100),
    st.integers(0, 60), st.booleans(),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PASSINGS, max_size=25), st.booleans())
def test_whatever_triggers_and_cameras_drop_or_double_no_part_has_anothers_frame(
    passings: list[Passing], slow: bool
) -> None:
    line = Line(False, limit=3)
    start = at = line.clock.now
    events: list[tuple[int, str, int, int]] = []
    for number, p in enumerate(passings):
        at += p.pitch_ms * MS
        for again in range(p.announced):
            events.append((at + again * MS, "trigger", number, 0))
        for again in range(p.frames):
            taken = at + min(100, p.jitter_ms + again) * MS
            events.append((taken + p.transfer_ms * MS, "frame", number, taken))
    passed: Counter[str] = Counter()
    came: Counter[str] = Counter()

    def drain() -> None:
        while (part := line.take()) is not None:
            assert part.key is not None
            fault, _ = line.parts.settle(part)
            came[part.key] += 1
            if fault is Reason.NONE:
                passed[part.key] += 1
                assert [f and f.detail for f in part.frames] == [part.key]

    announced: Counter[str] = Counter()
    for when, what, number, taken in sorted(events):
        line.clock.now = max(start, when)
        if what == "trigger":
            announced[f"P{number}"] += line.trigger(f"P{number}").judged
        else:
            frame = Frame("c", 0, IMAGE, taken, 0, detail=f"P{number}")
            line.parts.put(line.lanes[0], frame, 1)
        assert line.parts.held <= 3
        if passings[number].polled and not slow:
            drain()
    line.wait(1000)
    drain()
    assert came == announced  # each accepted trigger once, nothing else
    assert all(count == 1 for count in passed.values())
    whole = [
        f"P{i}" for i, p in enumerate(passings)
        if p.announced == p.frames == 1 and p.jitter_ms + p.transfer_ms <= 100
        and p.transfer_ms <= EARLY / MS
    ]  # fmt: skip
    if all(p.polled for p in passings) and not slow:
        assert set(whole) <= set(passed)  # and what went well passes


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["trigger", "again", "frame", "ask", "take", "wait", "down", "up"]),
        st.integers(0, 1),
        st.integers(1, 90),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.tuples(st.booleans(), st.booleans()))
def test_every_accepted_trigger_comes_out_once_whatever_happens(
    steps: list[tuple[str, int, int]], asked: tuple[bool, bool]
) -> None:
    line = Line(*asked, limit=3)
    accepted: list[str] = []
    came: list[str] = []
    for what, lane, number in steps:
        if what in ("trigger", "again"):
            key = f"K{len(accepted) if what == 'trigger' else max(0, len(accepted) - number % 3)}"
            if line.trigger(key).judged:
                accepted.append(key)
        elif what == "frame" and not asked[lane]:
            line.picture(lane, ago_ms=number / 4)
        elif what == "ask" and asked[lane]:
            request = line.parts.next_request(line.lanes[lane], 0.0)
            if request is not None:
                line.wait(number / 3)
                frame = Frame("c", 0, IMAGE, line.clock(), 0, request.key, trigger=request.number)
                line.parts.put(line.lanes[lane], frame, 1)
        elif what == "take":
            part = line.take()
            if part is not None:
                came.append(str(part.key))
                if part.fault is Reason.NONE:
                    for frame_, own in zip(part.frames, asked, strict=True):
                        assert frame_ is not None
                        assert not own or (frame_.part_key, frame_.trigger) == (part.key, part.number)
        elif what == "wait":
            line.wait(number)
        elif what in ("down", "up"):
            line.parts.set_down(line.lanes[lane], what == "down")
        waiting = [p for p in line.parts._waiting if any(f is not None for f in p.frames)]
        assert len(waiting) <= 3
        assert 0 <= line.parts.held <= 3
    line.wait(1000)
    while (part := line.take()) is not None:
        came.append(str(part.key))
    assert came == accepted
    assert line.parts.held == 0
