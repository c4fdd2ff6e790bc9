"""A camera that fails, hangs, ends or comes back."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from daemon_line import BLACK, LOST, Line, ScriptedSource, wait_for
from tiny_bundle import make_bundle

from edge_ad.capture.shots import MOST_LEFT_OUT, ShotDealer
from edge_ad.config import Camera
from edge_ad.daemon.cameras import MAX_STUCK, CameraFeed
from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.parts import PartQueue
from edge_ad.errors import CaptureError
from edge_ad.frame import Frame

MS = 1_000_000


class Bench:
    """A feed, its script, and what it told."""

    def __init__(self, live: bool = True, stale_ms: float = 100.0, shots: int = 1) -> None:
        self.script: SimpleQueue[Any] = SimpleQueue()
        self.told: list[str] = []
        self.sources: list[ScriptedSource] = []
        self.lane = Lane(4, False, shots)
        self.parts = PartQueue([self.lane], 50 * MS * (shots > 1), live, time.monotonic_ns)
        camera = Camera(name="top", uri="fake://", stale_ms=stale_ms)
        self.feed = CameraFeed(
            camera, self.make, self.lane, self.parts, lambda _, text: self.told.append(text),
            time.monotonic_ns, time.time_ns, random.Random(0), (0.01, 0.04),
            ShotDealer(shots, live, False) if shots > 1 else None,
        )  # fmt: skip

    def make(self) -> ScriptedSource:
        self.sources.append(ScriptedSource("top", self.script))
        return self.sources[-1]

    def supervise(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.feed.supervise()
            time.sleep(0.005)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.feed.start()
    bench.feed.go()
    yield bench
    bench.feed.stop()
    bench.feed.join(0.2)


def test_nothing_is_read_before_go() -> None:
    bench = Bench()
    bench.script.put(BLACK)
    bench.feed.start()
    time.sleep(0.05)
    assert bench.feed.frames == 0
    bench.feed.go()
    wait_for(lambda: bench.feed.frames == 1)
    bench.feed.stop()
    assert bench.feed.join(5)


def test_lost_camera_comes_back_and_both_are_said_once(bench: Bench) -> None:
    bench.script.put(BLACK)
    assert bench.parts.take(5) is not None
    assert bench.feed.state == "up"
    for _ in range(4):
        bench.script.put(LOST)
    wait_for(lambda: bench.feed.state == "lost")
    time.sleep(0.1)
    bench.script.put(BLACK)
    assert bench.parts.take(5) is not None
    assert bench.feed.state == "up"
    assert bench.feed.reconnects == 1
    assert [t.split(";")[0] for t in bench.told] == [
        "camera top: up, auto8",
        "camera top: lost: fake: unplugged",
        "camera top: back",
    ]


def test_any_failure_of_a_driver_is_a_lost_camera(bench: Bench) -> None:
    bench.script.put(ValueError("driver bug"))
    wait_for(lambda: bench.feed.state == "lost")
    assert "driver bug" in bench.told[0]
    bench.script.put(BLACK)
    assert bench.parts.take(5) is not None


def test_source_that_cannot_be_made_is_a_lost_camera() -> None:
    bench = Bench()
    make, failures = bench.make, [OSError("no library"), OSError("no library")]

    def fail_first() -> ScriptedSource:
        if failures:
            raise failures.pop()
        return make()

    bench.feed._make = fail_first
    bench.feed.start()
    bench.feed.go()
    bench.script.put(BLACK)
    wait_for(lambda: bench.feed.frames == 1)
    assert "lost: OSError('no library')" in bench.told[0]
    bench.feed.stop()
    assert bench.feed.join(1)


def test_read_that_hangs_is_noticed_and_the_camera_opened_again(bench: Bench) -> None:
    bench.script.put("hang")
    wait_for(lambda: bench.script.empty())
    assert bench.feed.state == "opening"
    bench.supervise(0.3)
    assert "does not return" in bench.told[0]
    assert len(bench.sources) >= 2
    bench.script.put(BLACK)
    assert bench.parts.take(5) is not None
    assert bench.feed.state == "up"


def test_camera_that_always_hangs_does_not_pile_up_threads_without_end() -> None:
    bench = Bench(stale_ms=50.0)
    for _ in range(40):
        bench.script.put("hang")
    bench.feed.start()
    bench.feed.go()
    bench.supervise(1.5)
    assert 2 <= len(bench.sources) <= MAX_STUCK
    assert bench.feed.state == "lost"
    bench.feed.stop()
    assert not bench.feed.join(0.05)
    assert bench.parts.finished


def test_waiting_for_room_is_not_a_hang() -> None:
    bench = Bench()
    for _ in range(10):
        bench.script.put(BLACK)
    bench.feed.start()
    bench.feed.go()
    bench.supervise(0.4)
    assert bench.feed.state == "up"
    assert len(bench.sources) == 1
    bench.parts.close()
    bench.feed.stop()
    assert bench.feed.join(5)


def test_finite_source_ends(bench: Bench) -> None:
    bench.script.put(BLACK)
    bench.script.put(None)
    assert bench.parts.take(5) is not None
    wait_for(lambda: bench.parts.finished)
    assert bench.feed.state == "ended"


def test_backoff_grows_to_its_bound_with_jitter(tmp_path: Path) -> None:
    opened: list[float] = []

    class Absent(ScriptedSource):
        def open(self) -> None:
            opened.append(time.monotonic())
            raise CaptureError("no camera")

    bench = Bench()
    bench.make = lambda: Absent("top", bench.script)  # type: ignore[method-assign]
    bench.feed._make = bench.make
    bench.feed.start()
    bench.supervise(0.4)
    bench.feed.stop()
    gaps = [b - a for a, b in itertools.pairwise(opened)]
    assert len(gaps) >= 4
    assert len(opened) < 30
    assert len({round(gap, 4) for gap in gaps}) > 1
    assert len(bench.told) == 1


def test_frames_dropped_inside_the_source_are_counted_across_reopening(bench: Bench) -> None:
    bench.script.put(BLACK)
    bench.parts.take(5.0)
    bench.sources[0].skipped = 3
    bench.script.put("hang")  # the source is given up and another one made
    bench.supervise(0.4)
    bench.script.put(BLACK)
    bench.parts.take(5.0)
    bench.sources[-1].skipped = 2
    assert len(bench.sources) > 1
    assert bench.feed.skipped == 5


@pytest.fixture
def two_shots() -> Iterator[Bench]:
    bench = Bench(stale_ms=5000.0, shots=2)
    bench.feed.start()
    bench.feed.go()
    yield bench
    bench.feed.stop()
    bench.feed.join(0.2)


def test_a_camera_that_was_lost_within_a_part_does_not_join_it_with_another(two_shots: Bench) -> None:
    now = time.monotonic_ns()
    items = [now, LOST, now + 10 * MS, now + 70 * MS, now + 80 * MS]
    for number, item in enumerate(items):
        two_shots.script.put(Frame("top", number, BLACK, item, 0) if isinstance(item, int) else item)
    found = []
    while len(found) < 3:
        part = two_shots.parts.take(5.0)
        assert part is not None
        found.append([None if one is None else one.index for one in part.frames])
    assert found == [[0, None], [2, None], [3, 4]]
    assert two_shots.feed.unmatched == 0


def test_parts_too_close_for_join_ms_are_said_once(two_shots: Bench) -> None:
    start = time.monotonic_ns()
    count = 2 * MOST_LEFT_OUT + 2
    for number in range(count):
        two_shots.script.put(Frame("top", number, BLACK, start + 30 * number * MS, 0))
    wait_for(lambda: two_shots.feed.unmatched == count - 2)
    (said,) = (text for text in two_shots.told if "join_ms" in text)
    assert "camera 'top': with join_ms = 50" in said
    part = two_shots.parts.take(5.0)
    assert part is not None
    assert None not in part.frames
    assert two_shots.parts.take(0.0) is None


def test_an_asked_camera_that_knows_of_its_loss_is_opened_anew_before_a_part_needs_it(
    tmp_path: Path,
) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path, asked=True, options={"trigger": {"kind": "software"}}) as line:
        wait_for(lambda: line.metric("edge_ad_camera_up", camera="top") == 1)
        line.opened[-1].trouble = "the cable is out"  # type: ignore[attr-defined]
        wait_for(lambda: line.metric("edge_ad_camera_reconnects_total", camera="top") == 1)
        assert line.control.request("trigger", part="A")["accepted"]
        assert line.verdicts(1) == ["PASS"]
