"""What sources know of triggers: pictures on request, counters that wrap, clocks that drift."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ad.capture.clockmap import ClockMap
from edge_ad.capture.counting import Unwrapped
from edge_ad.capture.parts import part_key, render_part
from edge_ad.capture.presence import Presence
from edge_ad.capture.source import AskedSource, Source, open_source
from edge_ad.config import Camera, Present
from edge_ad.frame import Image

MS = 1_000_000
S = 1_000_000_000


def synthetic(parameters: str, **options: object) -> Source:
    uri = f"synthetic://?width=64&height=48&{parameters}"
    source = open_source(Camera(name="c", uri=uri, **options), Path())  # type: ignore[arg-type]
    source.open()
    return source


def test_synthetic_camera_takes_the_part_that_the_key_names() -> None:
    source = synthetic("seed=3&defect_rate=0")
    assert isinstance(source, AskedSource)
    for number in (7, 3):
        frame = source.take(part_key(number), 0)
        assert frame is not None
        assert frame.part_key == part_key(number)
        assert np.array_equal(frame.image, render_part(3, number, 64, 48, 0.0)[0])
    other = source.take("4711/b", 0)
    assert other is not None
    assert np.array_equal(other.image, render_part(3, 4, 64, 48, 0.0)[0])  # the next
    source.close()
    assert source.take(part_key(1), 0) is None


def test_synthetic_camera_with_shots_takes_each_of_one_part() -> None:
    source = synthetic("seed=3&defect_rate=0", shots=("a", "b"))
    assert isinstance(source, AskedSource)
    for key in (part_key(5), "x"):
        bright, grazing = source.take(key, 0), source.take(key, 1)
        assert bright is not None
        assert grazing is not None
        number = 5 if key == part_key(5) else 6
        assert np.array_equal(bright.image, render_part(3, number, 64, 48, 0.0)[0])
        assert (bright.shot, grazing.shot) == (0, 1)
        assert not np.array_equal(bright.image, grazing.image)


def test_synthetic_camera_may_miss_a_part_that_it_is_asked_for() -> None:
    source = synthetic("seed=3&lose=0.5")
    assert isinstance(source, AskedSource)
    missed = [source.take(part_key(i), 0) is None for i in range(60)]
    assert 10 < sum(missed) < 50


def test_folder_takes_the_file_that_the_key_names_else_the_next(tmp_path: Path) -> None:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8), i, np.uint8))
    source = open_source(Camera(name="c", uri=f"folder://{tmp_path}"), Path())
    source.open()
    assert isinstance(source, AskedSource)

    def grey(key: str) -> tuple[int, str | None]:
        frame = source.take(key, 0)  # type: ignore[attr-defined]
        assert frame is not None
        assert frame.image is not None
        return int(frame.image[0, 0]), frame.part_key

    assert grey("1.png") == (1, "1.png")
    assert grey("../../etc/passwd") == (2, "../../etc/passwd")  # a key, not a path
    assert source.take("any", 0) is None  # it was the last
    assert grey("0.png") == (0, "0.png")


def test_counter_shows_what_was_lost_on_its_way_and_never_wraps() -> None:
    source = synthetic("drop=0.3&wrap=5&parts=60")
    counters = []
    while (frame := source.read()) is not None:
        assert frame.part_key == part_key((frame.counter or 0) - 1)
        counters.append(frame.counter)
    assert counters == sorted(counters)  # type: ignore[type-var]
    assert 25 < len(counters) < 55


def test_part_that_the_camera_was_not_triggered_for_is_not_counted() -> None:
    source = synthetic("lose=0.3&parts=60")
    counters = []
    while (frame := source.read()) is not None:
        counters.append(frame.counter)
    assert counters == list(range(1, len(counters) + 1))
    assert len(counters) < 60


@given(st.integers(1, 70_000), st.lists(st.integers(1, 30_000), max_size=50))
def test_counter_of_sixteen_bits_goes_on_past_its_end(start: int, steps: list[int]) -> None:
    def raw(count: int) -> int:  # as GigE Vision has it: 0 is left out
        return (count - 1) % 65535 + 1

    counter = Unwrapped(1, 65535)
    base = counter.of(raw(start)) - start
    for step in steps:
        start += step
        assert counter.of(raw(start)) == start + base


def test_counter_that_begins_anew_is_no_wrap() -> None:
    counter = Unwrapped(1, 65535)
    assert [counter.of(raw) for raw in (20, 21, 1, 2)] == [20, 21, 1, 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(-200e-6, 200e-6), st.integers(0, 10**15), st.integers(1, 20))
def test_cameras_clock_is_mapped_to_within_its_stated_uncertainty(
    seed: int, drift: float, origin: int, delay_ms: int
) -> None:
    rng = np.random.default_rng(seed)
    clock = ClockMap(8.0, delay_ms * MS)
    host = 10**13
    errors = []
    for i in range(1200):  # two minutes of ten frames a second
        at = i * 100 * MS
        ticks = int((origin + at * (1 + drift)) / 8)
        jitter = int(rng.exponential(1.0) * MS) * int(rng.random() < 0.7)
        arrival = host + at + delay_ms * MS + jitter
        mapped = clock.map(ticks, arrival)
        assert mapped <= arrival - delay_ms * MS
        errors.append(abs(mapped - host - at))
    assert max(errors[300:]) < 0.8 * MS  # where the arrival alone is off by up to some milliseconds
    assert clock.uncertainty_ns < 2 * MS


def test_clock_that_was_set_anew_is_learnt_anew() -> None:
    clock = ClockMap(1.0)
    for i in range(100):
        clock.map(5 * S + i * 100 * MS, 100 * S + i * 100 * MS)
    for i in range(20):
        arrival = 110 * S + i * 100 * MS
        assert clock.map(i * 100 * MS, arrival) == pytest.approx(arrival, abs=MS)
    for i in range(20):
        arrival = 112 * S + i * 100 * MS
        assert clock.map(9000 * S + i * 100 * MS, arrival) == pytest.approx(arrival, abs=MS)


@pytest.mark.parametrize("worked_s", [2, 600])
def test_after_a_break_of_the_line_nothing_is_known_of_the_clocks(worked_s: int) -> None:
    """What they differed in is no guide over hours."""
    rng = np.random.default_rng(3)
    clock, drift = ClockMap(1.0), 1 + 30e-6
    times = [i * 500 * MS for i in range(2 * worked_s)]
    times += [times[-1] + 8 * 3600 * S + i * 500 * MS for i in range(200)]
    errors = [clock.map(int(t * drift), S + t + int(rng.exponential(1.0) * MS)) - (S + t) for t in times]
    assert max(map(abs, errors[2 * worked_s :])) < 15 * MS
    assert max(map(abs, errors)) < 15 * MS


def test_transfer_that_stalls_does_not_move_the_time_of_the_trigger() -> None:
    clock = ClockMap(1.0)
    for i in range(50):
        clock.map(i * 100 * MS, S + i * 100 * MS)
    assert clock.map(5 * S, S + 5 * S + 3 * S) == pytest.approx(S + 5 * S, abs=MS)


def grey(level: float) -> Image:
    return np.full((40, 60), level, np.uint8)


def begins(rule: Present, levels: list[float]) -> list[int]:
    presence = Presence(rule)
    return [i for i, level in enumerate(levels) if presence.begins(grey(level))]


def test_part_begins_where_the_grey_rises_and_not_again_before_it_was_back() -> None:
    rule = Present(camera="c", roi=(0, 0, 60, 40), grey=100.0, hysteresis=10.0)
    assert begins(rule, [20, 20, 120, 130, 95, 120, 20, 101, 20]) == [2, 7]
    dark = Present(camera="c", roi=(0, 0, 60, 40), side="below", grey=100.0, hysteresis=10.0)
    assert begins(dark, [200, 80, 70, 105, 80, 120, 99]) == [1, 6]


def test_part_that_lies_there_at_the_start_has_not_just_come() -> None:
    rule = Present(camera="c", roi=(0, 0, 60, 40), grey=100.0)
    assert begins(rule, [120, 120, 20, 120]) == [3]


def test_part_may_be_waited_for_by_frames() -> None:
    rule = Present(camera="c", roi=(0, 0, 60, 40), grey=100.0, delay_frames=2)
    assert begins(rule, [20, 120, 120, 120, 20, 120, 20, 120, 20, 20]) == [3, 7, 9]


def test_region_alone_counts_and_one_outside_of_the_frame_shows_nothing() -> None:
    image = grey(20)
    image[30:, 40:] = 200
    for roi, there in (((40, 30, 20, 10), True), ((0, 0, 20, 20), False), ((500, 500, 8, 8), False)):
        presence = Presence(Present(camera="c", roi=roi, grey=100.0))
        presence.begins(grey(20))
        assert presence.begins(image) is there
        assert presence.begins(np.dstack([image] * 3)) is False
