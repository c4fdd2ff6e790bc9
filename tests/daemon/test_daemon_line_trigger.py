"""Cameras that the line triggers: every trigger is a part, what is lost or finds no room is FAULT. And
free-running cameras that tell whether there is a part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemon_line import BLACK, LOST, Line, good, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import HEIGHT, WIDTH, make_bundle

from edge_ad import failpoints
from edge_ad.capture.shots import Place
from edge_ad.config import Camera, Station, parse_station
from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.parts import MOST_WAITING, PartQueue
from edge_ad.daemon.timing import TriggerTime
from edge_ad.errors import ConfigError
from edge_ad.frame import Frame
from edge_ad.verdict import Reason

MS = 1_000_000
SLOW = 60_000.0
IMAGE = np.zeros((4, 4), np.uint8)


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    failpoints.activate(())


def line_options(**trigger: Any) -> dict[str, Any]:
    return {"deadline_ms": SLOW, "trigger": {"kind": "line", **trigger}}


def counted(counter: int, image: Any = None) -> Frame:
    image = good(0) if image is None else image
    return Frame("top", counter, image, time.monotonic_ns(), time.time_ns(), counter=counter)


class Clock:
    now = 10**12

    def __call__(self) -> int:
        return self.now


def every(lanes: int = 1, limit: int = 2, clock: Callable[[], int] = time.monotonic_ns) -> PartQueue:
    queue = PartQueue([Lane(limit, False, every=True) for _ in range(lanes)], 50 * MS, True, clock)
    queue.trigger = "line"
    return queue


def frame(counter: int | None, index: int = 0) -> Frame:
    return Frame("c", index, IMAGE, time.monotonic_ns(), 0, None, counter=counter)


def test_every_frame_is_a_part_and_a_gap_in_the_counter_is_so_many_faults(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path, live=True, options=line_options()) as line:
        line.feed(counted(7), counted(8), counted(11, BLACK), counted(12))
        seen = [line.verdict() for _ in range(6)]
        assert [h.count for h, _ in seen] == [7, 8, 9, 10, 11, 12]
        assert [b.reason for _, b in seen] == ["", "", "no_frame", "no_frame", "score", ""]
        assert {(h.trigger, h.advisory) for h, _ in seen} == {("line", False)}
        assert len({h.part for h, _ in seen}) == 6
        assert all(line.daemon.epoch in h.part for h, _ in seen)
        assert line.metric("edge_ad_frames_lost_total", camera="top") == 2


def test_camera_that_was_opened_anew_counts_from_somewhere_else(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path, live=True, options=line_options()) as line:
        line.feed(counted(1000), LOST, counted(1), counted(2))
        assert [line.verdict()[0].count for _ in range(3)] == [1000, 1, 2]


def test_frames_beyond_the_queue_are_fault_without_pictures_and_none_is_silent(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    failpoints.activate(["inspect.before=sleep:3@1"])
    with Line(tmp_path, live=True, options=line_options(queue=3)) as line:
        line.feed(counted(1))
        wait_for(lambda: line.control.request("status")["progress_age_s"] > 0.2)
        line.feed(*[counted(i) for i in range(2, 12)])
        seen = [line.verdict() for _ in range(11)]
        assert [h.count for h, _ in seen] == list(range(1, 12))
        reasons = [b.reason for _, b in seen]
        assert reasons == [""] * 4 + ["overflow"] * 7
        assert line.metric("edge_ad_frames_skipped_total", camera="top") == 0


def test_scorer_that_fails_in_a_row_is_fault_built_anew_and_asks_for_a_stop(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    built: list[int] = []

    def build(station: Station) -> Any:
        from edge_ad.daemon.loading import build_inspector

        built.append(1)
        if len(built) > 1:
            failpoints.activate(())
        return build_inspector(station)

    failpoints.activate(["inspect.raise=raise"])
    with Line(tmp_path, live=True, options=line_options(line_stop_after=3), build=build) as line:
        line.feed(*[counted(i) for i in range(1, 4)])
        seen = [line.verdict()[1] for _ in range(3)]
        assert [(b.verdict, b.reason) for b in seen] == [("FAULT", "engine")] * 3
        assert [b.line_stop for b in seen] == [False, False, True]
        wait_for(lambda: len(built) == 2 and not line.daemon.changes.rebuilding)
        line.feed(counted(4))
        body = line.verdict()[1]
        assert (body.verdict, body.line_stop) == ("PASS", False)


def test_two_cameras_stay_in_step_where_one_lost_a_frame() -> None:
    queue = every(lanes=2, limit=8)
    a, b = queue.lanes
    for counter in (1, 2, 3):
        queue.put(a, frame(counter), 1)
    for counter in (1, 3):
        queue.put(b, frame(counter), 1)
    parts = [queue.take(0.0) for _ in range(3)]
    pairs = [[f and (f.counter, f.fault) for f in part.frames] for part in parts if part]
    assert pairs == [
        [(1, ""), (1, "")],
        [(2, ""), (2, "no_frame")],
        [(3, ""), (3, "")],
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30), st.booleans())
def test_lost_frames_of_two_cameras_cost_their_own_parts_and_make_none(
    delivered: list[tuple[bool, bool]], at_once: bool
) -> None:
    clock = Clock()
    queue = every(lanes=2, limit=64, clock=clock)
    came: list[list[int | None]] = []

    def drain() -> None:
        while (part := queue.take(0.0)) is not None:
            numbers = {f.counter for f in part.frames if f is not None}
            assert numbers == {part.count}
            came.append([f.counter if f and f.image is not None else None for f in part.frames])

    script = [(True, True), *delivered, (True, True)]
    for counter, views in enumerate(script, start=1):
        for lane, there in zip(queue.lanes, views, strict=True):
            clock.now += 3 * MS
            if there:
                queue.put(lane, Frame("c", 0, IMAGE, clock(), 0, counter=counter), 1)
            if at_once:
                drain()
        clock.now += 200 * MS
        if at_once:
            drain()
    drain()
    assert came == [[n if there else None for there in views] for n, views in enumerate(script, 1)]
    assert sum(lane.lost for lane in queue.lanes) == sum(views.count(False) for views in delivered)
    assert [lane.unmatched for lane in queue.lanes] == [0, 0]


def test_faulty_frame_that_bears_no_counter_hides_no_gap() -> None:
    queue = every(limit=8)
    for counter in (5, None, 9):
        queue.put(queue.lanes[0], frame(counter), 1)
    parts = [queue.take(0.0) for _ in range(5)]
    assert [part and part.count for part in parts] == [5, 6, 7, 8, 9]
    assert queue.lanes[0].lost == 2


def test_parts_are_counted_as_the_first_camera_counts_whichever_was_quicker() -> None:
    clock = Clock()
    queue = every(lanes=2, limit=8, clock=clock)
    counts = []
    for n in range(1, 9):
        cameras = [(queue.lanes[0], 1000 + n), (queue.lanes[1], n)]
        for lane, counter in cameras[:: 1 if n % 2 else -1]:
            clock.now += MS
            if not (lane is queue.lanes[0] and n in (4, 5)):
                queue.put(lane, Frame("c", 0, IMAGE, clock(), 0, counter=counter), 1)
        clock.now += 200 * MS
        part = queue.take(0.0)
        assert part is not None
        assert (part.frames[0] is None) == (n in (4, 5))
        counts.append(part.count)
    assert counts == list(range(1001, 1009))


def test_parts_beyond_the_bound_are_counted_and_the_cameras_stay_in_step() -> None:
    clock = Clock()
    queue = every(lanes=2, limit=4, clock=clock)
    a, b = queue.lanes
    last = MOST_WAITING + 3
    for counter in (1, last, last + 1):
        queue.put(a, Frame("c", 0, IMAGE, clock(), 0, counter=counter), 1)
    assert (len(a.entries), a.skipped, a.lost) == (MOST_WAITING, 2, last - 2)
    for counter in (1, last, last + 1):
        queue.put(b, Frame("c", 0, IMAGE, clock(), 0, counter=counter), 1)
    while (part := queue.take(0.0)) is not None:
        assert len({f.counter for f in part.frames if f is not None}) == 1
    for lane in (a, b):
        queue.put(lane, Frame("c", 0, IMAGE, clock(), 0, counter=last + 2), 1)
    part = queue.take(0.0)
    assert part is not None
    assert [f and f.counter for f in part.frames] == [last + 2] * 2


def test_absurd_gap_holds_no_more_than_the_bound() -> None:
    queue = every()
    queue.put(queue.lanes[0], frame(1), 1)
    queue.put(queue.lanes[0], frame(10**9), 1)
    assert len(queue.lanes[0].entries) == MOST_WAITING
    assert queue.lanes[0].lost == 10**9 - 2


def test_counter_that_steps_back_is_no_gap() -> None:
    queue = every(limit=8)
    for counter in (5, 5, 3, 4):
        queue.put(queue.lanes[0], frame(counter), 1)
    assert len(queue.lanes[0].entries) == 4


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 4), st.just(0)), max_size=60), st.integers(1, 4))
def test_every_trigger_comes_out_once_and_the_bound_on_pictures_holds(
    steps: list[int], limit: int
) -> None:
    queue = every(limit=limit)
    lane, counter, came = queue.lanes[0], 0, []
    for step in steps:
        if step:
            counter += step
            queue.put(lane, frame(counter), 1)
        elif (part := queue.take(0.0)) is not None:
            came.append(part)
        assert sum(e.frame.image is not None for e in lane.entries) == lane.held <= limit
    while (part := queue.take(0.0)) is not None:
        came.append(part)
    first = next((step for step in steps if step), 1)
    assert [part.count for part in came] == list(range(first, counter + 1))
    for part in came:
        (only,) = part.frames
        assert only is not None
        assert (only.image is None) == (Reason(only.fault) in (Reason.NO_FRAME, Reason.OVERFLOW))
    assert lane.held == 0


def test_time_of_the_trigger_is_the_arrival_less_exposure_and_transfer() -> None:
    time_of = TriggerTime(Camera(name="c", uri="x:", exposure_ms=4.0, transfer_ms=6.0))
    time_of.opened(0.0)
    arrived = Frame("c", 0, None, 100 * MS, 0, camera_ticks=5)
    assert time_of.of(arrived).t_trigger_ns == 90 * MS
    assert time_of.uncertainty_s != time_of.uncertainty_s  # NaN: no clock tells


def test_time_of_the_trigger_is_the_cameras_where_it_has_a_clock() -> None:
    time_of = TriggerTime(Camera(name="c", uri="x:", transfer_ms=6.0))
    time_of.opened(1000.0)  # a microsecond
    jitter_ms = [0, 0.3, 0, 9, 0.1]
    for i, late in enumerate(jitter_ms):
        at = 40 * MS * i
        came = Frame("c", i, None, 10**12 + at + int((6 + late) * MS), 0, camera_ticks=77 + at // 1000)
        stamped = time_of.of(came)
        assert abs(stamped.t_trigger_ns - 10**12 - at) < 0.01 * MS
    assert 0 <= time_of.uncertainty_s < 0.01


def present(**rule: Any) -> dict[str, Any]:
    rule = {"camera": "top", "roi": [0, 0, WIDTH, HEIGHT], "grey": 40.0, **rule}
    return {"trigger": {"kind": "free", "present": rule}}


def test_part_is_the_first_frame_that_shows_one_and_others_are_counted(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path, options=present()) as line:
        line.feed(BLACK, BLACK, good(0), good(1), BLACK, good(2), BLACK)
        seen = [line.verdict() for _ in range(2)]
        assert [b.verdict for _, b in seen] == ["PASS", "PASS"]
        assert {(h.trigger, h.advisory) for h, _ in seen} == {("free", False)}
        wait_for(lambda: line.metric("edge_ad_frames_empty_total", camera="top") == 5)
        assert line.scores.receive(0.1) is None


def test_a_camera_that_hangs_between_parts_is_lost(tmp_path: Path) -> None:
    """Else no part would be seen any more, and nobody told."""
    make_bundle(tmp_path)
    camera = {"frozen": "auto", "stale_ms": 1000.0}
    with Line(tmp_path, live=True, options=present(), camera_options=camera) as line:
        floor = np.full((HEIGHT, WIDTH), 20, np.uint8)
        floor[0, 0] = 21
        line.feed(BLACK, floor, good(0), BLACK, floor)
        assert line.verdicts(1) == ["PASS"]
        wait_for(lambda: line.metric("edge_ad_frames_empty_total", camera="top") == 4)
        line.feed(floor)  # once is chance
        wait_for(lambda: line.metric("edge_ad_frames_empty_total", camera="top") == 5)
        assert line.metric("edge_ad_camera_up", camera="top") == 1
        while line.metric("edge_ad_camera_up", camera="top") == 1:
            line.feed(floor)
            time.sleep(0.05)
        assert line.metric("edge_ad_frames_empty_total", camera="top") > 10  # type: ignore[operator]
        line.feed(good(1))
        assert line.verdicts(1) == ["PASS"]
        assert line.metric("edge_ad_camera_reconnects_total", camera="top") >= 1  # type: ignore[operator]


def test_frame_that_cannot_be_read_is_a_part_for_all_one_knows(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path, options=present()) as line:
        line.feed(BLACK, Frame("top", 0, None, time.monotonic_ns(), 0, None, "unreadable", "x"))
        assert line.verdicts(1) == ["FAULT unreadable"]


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ({"kind": "line", "endpoint": "tcp://127.0.0.1:1"}, "trigger.endpoint"),
        ({"kind": "message", "period_ms": 5.0}, "trigger.period_ms"),
        ({"kind": "line", "present": present()["trigger"]["present"]}, "trigger.present"),
        (present(camera="side")["trigger"], "side"),
        (present(grey=999.0)["trigger"], "trigger.present.grey"),
        ({"kind": "often"}, "trigger.kind"),
        ({"kind": "line", "queue": 0}, "trigger.queue"),
    ],
)
def test_trigger_keys_that_contradict_are_refused_in_words(trigger: dict[str, Any], words: str) -> None:
    table = {
        "schema": 1, "station": "s", "camera": [{"name": "top", "uri": "synthetic://"}],
        "trigger": trigger,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        parse_station(table)


def test_present_needs_one_camera() -> None:
    table = {
        "schema": 1, "station": "s",
        "camera": [{"name": n, "uri": "synthetic://"} for n in ("top", "side")], **present(),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="kind 'message' or 'line'"):
        parse_station(table)


def test_frame_without_its_picture_is_still_the_same_trigger() -> None:
    queue = every(limit=1)
    at = replace(frame(1), t_trigger_ns=5, part_key="K1")
    queue.put(queue.lanes[0], frame(None), 1)
    queue.put(queue.lanes[0], at, 1)
    queue.take(0.0)
    part = queue.take(0.0)
    assert part is not None
    assert (part.key, part.t_trigger_ns, part.count) == ("K1", 5, 1)


def test_camera_with_shots_keeps_no_pictures_beyond_its_queue_and_every_part_comes_out() -> None:
    queue = PartQueue([Lane(2, False, 2, every=True)], 50 * MS, True, time.monotonic_ns)
    queue.trigger = "line"
    lane = queue.lanes[0]
    for part in range(4):
        for shot in (0, 1):
            queue.put_shot(lane, frame(2 * part + shot), 1, Place(part, shot, begins=not shot))
    assert lane.held == 2
    parts = [queue.take(0.0) for _ in range(4)]
    faults = [[f and f.fault for f in part.frames] for part in parts if part]
    assert faults == [["", ""]] * 2 + [["overflow", "overflow"]] * 2
    assert lane.held == 0
    queue.put_shot(lane, frame(9), 1, Place(4, 0, begins=True))
    queue.put_shot(lane, frame(10), 1, Place(4, 1, begins=False))
    again = queue.take(0.0)
    assert again is not None
    assert [f and f.fault for f in again.frames] == ["", ""]
