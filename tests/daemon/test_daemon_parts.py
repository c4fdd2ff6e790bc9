"""Frames to parts: order, bounds, and never frames of different parts in one."""

from __future__ import annotations

import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ad.capture.shots import ShotDealer
from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.part import Part
from edge_ad.daemon.parts import PartQueue
from edge_ad.frame import Frame

MS = 1_000_000
JOIN = 50 * MS


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def frame(index: int, at_ms: float = 0.0, key: str | None = None) -> Frame:
    return Frame("c", index, None, int(at_ms * MS), 0, key)


def queue(lanes: int, timed: bool = True, limit: int = 8, skip: bool = False) -> tuple[PartQueue, Clock]:
    clock = Clock()
    return PartQueue([Lane(limit, skip) for _ in range(lanes)], JOIN, timed, clock), clock


def indices(part: Part | None) -> list[int | None] | None:
    return None if part is None else [None if f is None else f.index for f in part.frames]


def test_one_camera_in_order() -> None:
    parts, _ = queue(1)
    for i in range(5):
        parts.put(parts.lanes[0], frame(i), 1)
    assert [indices(parts.take(0)) for _ in range(6)] == [[0], [1], [2], [3], [4], None]


def test_skip_drops_the_oldest_and_counts() -> None:
    parts, _ = queue(1, limit=2, skip=True)
    for i in range(5):
        parts.put(parts.lanes[0], frame(i), 1)
    assert [indices(parts.take(0)) for _ in range(3)] == [[3], [4], None]
    assert parts.lanes[0].skipped == 3


def test_wait_blocks_until_there_is_room_or_the_queue_closes() -> None:
    parts, _ = queue(1, limit=2)
    lane = parts.lanes[0]
    thread = threading.Thread(target=lambda: [parts.put(lane, frame(i), 1) for i in range(4)])
    thread.start()
    time.sleep(0.05)
    assert len(lane.entries) == 2
    assert indices(parts.take(0)) == [0]
    parts.close()
    thread.join(5)
    assert [indices(parts.take(0)) for _ in range(3)] == [[1], [2], [3]]


def test_join_takes_the_earliest_trigger_and_the_first_key() -> None:
    parts, _ = queue(2)
    parts.put(parts.lanes[1], frame(0, 3.0, "B"), 1)
    assert parts.take(0) is None
    parts.put(parts.lanes[0], frame(0, 5.0, "A"), 1)
    part = parts.take(0)
    assert part is not None
    assert (part.key, part.t_trigger_ns) == ("A", 3 * MS)


def test_gap_in_the_index_is_a_missing_view_and_stays_in_step() -> None:
    parts, _ = queue(2, timed=False)
    for i in range(4):
        parts.put(parts.lanes[0], frame(i), 1)
        if i != 1:
            parts.put(parts.lanes[1], frame(i), 1)
    assert [indices(parts.take(0)) for _ in range(4)] == [[0, 0], [1, None], [2, 2], [3, 3]]


def test_missed_trigger_without_a_gap_is_seen_by_time_and_stays_in_step() -> None:
    parts, clock = queue(2)
    late = [0, 2, 3]  # camera 1 sees no part 1, and numbers what it sees 0, 1, 2
    for i in range(4):
        clock.now = i * 200 * MS
        parts.put(parts.lanes[0], frame(i, i * 200), 1)
    for i, part in enumerate(late):
        parts.put(parts.lanes[1], frame(i, part * 200 + 1), 1)
    assert [indices(parts.take(0)) for _ in range(4)] == [[0, 0], [1, None], [2, 1], [3, 2]]


def test_missing_view_is_not_waited_for_longer_than_join() -> None:
    parts, clock = queue(2)
    parts.put(parts.lanes[0], frame(0, 0), 1)
    clock.now = JOIN - 1
    assert parts.take(0) is None
    clock.now = JOIN
    assert indices(parts.take(0)) == [0, None]
    parts.put(parts.lanes[1], frame(0, 10), 1)  # of the part that has been judged
    assert parts.take(0) is None
    assert parts.lanes[1].unmatched == 1
    clock.now = 300 * MS
    parts.put(parts.lanes[0], frame(1, 300), 1)
    parts.put(parts.lanes[1], frame(1, 300), 1)
    assert indices(parts.take(0)) == [1, 1]


def test_camera_that_is_down_is_not_waited_for_and_comes_back_in_step() -> None:
    parts, clock = queue(2)
    parts.put(parts.lanes[0], frame(0, 0), 1)
    parts.put(parts.lanes[1], frame(0, 0), 1)
    assert indices(parts.take(0)) == [0, 0]
    parts.set_down(parts.lanes[1], True)
    for i in (1, 2, 3):
        parts.put(parts.lanes[0], frame(i, 200 * i), 1)
        assert indices(parts.take(0)) == [i, None]
    clock.now = 800 * MS
    parts.put(parts.lanes[1], frame(0, 800), 2)  # counts from zero again
    parts.put(parts.lanes[0], frame(4, 800), 1)
    assert indices(parts.take(0)) == [4, 0]


def test_waiting_sources_are_waited_for_without_limit() -> None:
    parts, clock = queue(2, timed=False)
    parts.put(parts.lanes[0], frame(0, 0), 1)
    clock.now = 3_600_000 * MS
    assert parts.take(0) is None
    parts.end(parts.lanes[1])
    assert indices(parts.take(0)) == [0, None]
    assert not parts.finished
    parts.end(parts.lanes[0])
    assert parts.finished


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.lists(st.floats(0, 20), min_size=30, max_size=30),
)
def test_whatever_is_missed_no_part_mixes_and_every_part_comes_once(
    seen: list[tuple[bool, bool, bool]], delay_ms: list[float]
) -> None:
    """Parts 100 ms apart, frames up to 20 ms late, any camera misses any trigger without a gap."""
    parts, clock = queue(3, limit=100)
    counts = [0, 0, 0]
    made: list[dict[int, int]] = []
    for number, cameras in enumerate(seen):
        for c, sees in enumerate(cameras):
            if sees:
                at = number * 100 + (delay_ms[number] if c else 0)
                clock.now = int((number * 100 + 25) * MS)
                parts.put(parts.lanes[c], Frame("c", counts[c], None, int(at * MS), number), 1)
                counts[c] += 1
        clock.now = (number * 100 + 90) * MS
        while (part := parts.take(0)) is not None:
            made.append({c: f.t_wall_ns for c, f in enumerate(part.frames) if f is not None})
    expected = [{c: n for c, s in enumerate(cs) if s} for n, cs in enumerate(seen) if any(cs)]
    assert made == expected


def keyed(lanes: int, timed: bool = True) -> tuple[PartQueue, Clock]:
    clock = Clock()
    return PartQueue([Lane(8, False) for _ in range(lanes)], JOIN, timed, clock, by_key=True), clock


def test_keys_join_whatever_was_missed() -> None:
    """Camera 0 misses part B, camera 1 part C; time alone would pair A's with B's."""
    parts, clock = keyed(2)
    for place, key, at in (
        (0, "A", 0),
        (0, "C", 20),
        (0, "D", 30),
        (1, "A", 2),
        (1, "B", 10),
        (1, "D", 31),
    ):
        parts.put(parts.lanes[place], frame(0, at, key), 1)
    clock.now = 40 * MS
    found = []
    while (part := parts.take(0)) is not None:
        found.append((part.key, [f.part_key if f else None for f in part.frames]))
    assert found == [
        ("A", ["A", "A"]),
        ("B", [None, "B"]),
        ("C", ["C", None]),
        ("D", ["D", "D"]),
    ]


def test_a_keyed_view_is_waited_for_as_long_as_parts_are_joined_and_late_ones_are_counted() -> None:
    parts, clock = keyed(2)
    parts.put(parts.lanes[0], frame(0, 0, "A"), 1)
    clock.now = JOIN - 1
    assert parts.take(0) is None
    clock.now = JOIN
    part = parts.take(0)
    assert part is not None
    assert [f is None for f in part.frames] == [False, True]
    parts.put(parts.lanes[1], frame(0, 1, "A"), 1)  # late: its part has its verdict
    parts.put(parts.lanes[1], frame(1, 60, "B"), 1)
    parts.put(parts.lanes[0], frame(1, 61, "B"), 1)
    part = parts.take(0)
    assert part is not None
    assert (part.key, None in part.frames) == ("B", False)
    assert parts.lanes[1].unmatched == 1


def test_a_frame_without_a_key_is_a_part_of_its_own() -> None:
    parts, _ = keyed(2, timed=False)
    parts.put(parts.lanes[0], frame(0, 0, None), 1)
    parts.put(parts.lanes[1], frame(0, 1, None), 1)
    for lane in parts.lanes:
        parts.end(lane)
    assert [indices(parts.take(0)) for _ in range(2)] == [[0, None], [None, 0]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_keyed_parts_never_mix_and_come_once(seen: list[tuple[bool, bool]]) -> None:
    parts, clock = keyed(2)
    for number, cameras in enumerate(seen):
        for place, there in enumerate(cameras):
            if there:
                parts.put(parts.lanes[place], frame(number, number * 60.0, str(number)), 1)
        clock.now = int((number * 60 + 59) * MS)
        part = parts.take(0)
        if any(cameras):
            assert part is not None
            assert part.key == str(number)
            assert [f is not None for f in part.frames] == list(cameras)
        else:
            assert part is None


def test_what_is_queued_behind_another_part_is_not_older() -> None:
    """Camera 0 missed part A and shows B already; camera 1 is a little later, but shows both."""
    parts, _ = keyed(2)
    parts.put(parts.lanes[0], frame(0, 10, "B"), 1)
    parts.put(parts.lanes[1], frame(0, 12, "A"), 1)
    parts.put(parts.lanes[1], frame(1, 14, "B"), 1)
    found = [parts.take(0), parts.take(0)]
    assert [part.key for part in found if part] == ["A", "B"]
    assert [[f is None for f in part.frames] for part in found if part] == [
        [True, False],
        [False, False],
    ]


def test_a_key_that_comes_again_much_later_is_another_pass() -> None:
    parts, clock = keyed(2)
    parts.put(parts.lanes[0], frame(0, 0, "A"), 1)
    parts.put(parts.lanes[1], frame(0, 10_000, "A"), 1)
    clock.now = 10_000 * MS
    part = parts.take(0)
    assert part is not None
    assert [f is None for f in part.frames] == [False, True]


def test_the_same_part_shown_again_is_judged_again() -> None:
    """By its key, as at a hand scanner, however many parts ago."""
    parts, clock = keyed(2)
    for turn, key in enumerate("ABAA"):
        clock.now = turn * 200 * MS
        for lane in parts.lanes:
            parts.put(lane, frame(turn, turn * 200, key), 1)
        part = parts.take(0)
        assert part is not None
        assert (part.key, None in part.frames) == (key, False)
    assert [lane.unmatched for lane in parts.lanes] == [0, 0]


class Shots:
    """A queue of cameras that take so many pictures of each part, and what deals their frames."""

    def __init__(self, shots: list[int], timed: bool = True, limit: int = 8) -> None:
        self.clock = Clock()
        lanes = [Lane(limit, False, count) for count in shots]
        self.queue = PartQueue(lanes, JOIN, timed, self.clock)
        self.dealers = [ShotDealer(count, timed, False) for count in shots]

    def put(self, camera: int, index: int, at_ms: float) -> None:
        one = frame(index, at_ms)
        place = self.dealers[camera].place(one, 1, JOIN)
        self.queue.put_shot(self.queue.lanes[camera], one, 1, place)


def test_a_part_waits_for_all_of_its_pictures() -> None:
    line = Shots([3])
    for index in range(2):
        line.put(0, index, index)
        assert line.queue.take(0) is None
    line.put(0, 2, 2)
    part = line.queue.take(0)
    assert indices(part) == [0, 1, 2]
    assert part is not None and part.t_trigger_ns == 0


def test_a_lost_picture_costs_its_own_part_alone() -> None:
    line = Shots([2])
    line.put(0, 0, 0)
    line.clock.now = JOIN - 1
    assert line.queue.take(0) is None
    line.clock.now = JOIN
    assert indices(line.queue.take(0)) == [0, None]
    line.put(0, 1, 45)  # too late, and not of the next part
    assert line.queue.lanes[0].unmatched == 1
    line.put(0, 2, 100)
    line.put(0, 3, 110)
    line.put(0, 4, 120)  # one too many
    assert line.queue.lanes[0].unmatched == 2
    assert indices(line.queue.take(0)) == [2, 3]
    # The next part has begun: what this one lacks will not come.
    line.put(0, 5, 200)
    line.put(0, 6, 300)
    assert indices(line.queue.take(0)) == [5, None]
    assert line.queue.take(0) is None


def test_pictures_of_several_cameras_are_one_part() -> None:
    line = Shots([2, 1])
    line.put(0, 0, 0)
    line.put(1, 0, 1)
    assert line.queue.take(0) is None
    line.put(0, 1, 2)
    assert indices(line.queue.take(0)) == [0, 1, 0]
    line.clock.now = 100 * MS + JOIN
    line.put(0, 2, 100)
    line.put(0, 3, 101)
    assert indices(line.queue.take(0)) == [2, 3, None]


def test_a_camera_that_is_lost_within_a_part_leaves_it_without() -> None:
    line = Shots([2], timed=False)
    line.put(0, 0, 0)
    assert line.queue.take(0) is None
    line.queue.set_down(line.queue.lanes[0], True)
    assert indices(line.queue.take(0)) == [0, None]
    line.put(0, 1, 0)
    assert line.queue.lanes[0].unmatched == 1


def test_a_full_queue_whose_parts_lack_pictures_does_not_stand_still() -> None:
    """One place, and the source waits: the part at hand will not get whole any more."""
    parts = PartQueue([Lane(1, False, 2)], JOIN, False, Clock())
    dealer = ShotDealer(2, False, False)

    def feed() -> None:
        for number in range(5):
            one = Frame("c", number, None, 0, 0, str(number), shot=0)
            parts.put_shot(parts.lanes[0], one, 1, dealer.place(one, 1, JOIN))

    thread = threading.Thread(target=feed)
    thread.start()
    found = []
    for _ in range(4):
        end = time.monotonic() + 5
        while (part := parts.take(0)) is None and time.monotonic() < end:
            time.sleep(0.002)
        found.append(indices(part))
    thread.join(5)
    assert found == [[n, None] for n in range(4)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=25))
def test_pictures_never_mix_and_every_part_comes_once(seen: list[list[bool]]) -> None:
    """Two cameras with two shots each, parts 120 ms apart; any picture may be lost."""
    line = Shots([2, 2])
    made = []
    counts = [0, 0]
    for number, there in enumerate(seen):
        for shot in (0, 1):
            for c in (0, 1):
                if there[2 * c + shot]:
                    line.clock.now = (number * 120 + 10 * shot) * MS
                    one = Frame("c", counts[c], None, line.clock.now, number)
                    place = line.dealers[c].place(one, 1, JOIN)
                    line.queue.put_shot(line.queue.lanes[c], one, 1, place)
                    counts[c] += 1
        line.clock.now = (number * 120 + 100) * MS
        while (part := line.queue.take(0)) is not None:
            made.append([None if f is None else f.t_wall_ns for f in part.frames])
    expected = [number for number, there in enumerate(seen) if any(there)]
    assert [{n for n in part if n is not None} for part in made] == [{n} for n in expected]
    for number, part in zip(expected, made, strict=True):
        assert (None not in part) == all(seen[number])


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=25),
)
def test_what_is_skipped_for_newer_parts_never_mixes_them(
    limit: int, seen: list[tuple[bool, bool, bool]]
) -> None:
    """Two shots, parts 120 ms apart, any of them lost, and a reader that does not always keep up."""
    clock = Clock()
    lane = Lane(limit, True, 2)
    queue = PartQueue([lane], JOIN, True, clock)
    dealer = ShotDealer(2, True, False)
    made: list[list[tuple[int, int] | None]] = []
    sent = 0

    def drain() -> None:
        while (part := queue.take(0)) is not None:
            made.append([None if f is None else divmod(f.t_wall_ns, 2) for f in part.frames])

    for number, (*there, reads) in enumerate(seen):
        for shot in (0, 1):
            if there[shot]:
                clock.now = (number * 120 + 10 * shot) * MS
                one = Frame("c", sent, None, clock.now, 2 * number + shot)
                queue.put_shot(lane, one, 1, dealer.place(one, 1, JOIN))
                sent += 1
        clock.now = (number * 120 + 100) * MS
        if reads:
            drain()
    drain()
    for part in made:
        assert len({one[0] for one in part if one is not None}) == 1
        assert None in part or [one[1] for one in part if one is not None] == [0, 1]
    assert sent == sum(one is not None for part in made for one in part) + lane.skipped
