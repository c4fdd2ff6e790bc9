"""Frames of a camera that takes several pictures of a part: never those of two parts in one."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ad.capture.grab import grab
from edge_ad.capture.parts import grazing_light, render_part
from edge_ad.capture.shots import Place, ShotDealer, read_part
from edge_ad.capture.source import open_source
from edge_ad.config import Camera
from edge_ad.errors import CaptureError
from edge_ad.frame import Frame

MS = 1_000_000
JOIN = 50 * MS


def frame(index: int, at_ms: float, key: str | None = None, shot: int | None = None) -> Frame:
    return Frame("c", index, None, int(at_ms * MS), 0, key, shot=shot)


def test_frames_are_counted_from_the_first_of_a_part() -> None:
    dealer = ShotDealer(3, live=True, keyed=False)
    times = [0, 10, 20, 100, 110, 120, 130, 200, 300]
    found = [dealer.place(frame(i, at), 1, JOIN) for i, at in enumerate(times)]
    assert found == [
        Place(0, 0, True), Place(0, 1, False), Place(0, 2, False),
        Place(1, 0, True), Place(1, 1, False), Place(1, 2, False), None,  # one too many
        Place(2, 0, True),  # the others were lost
        Place(3, 0, True),
    ]  # fmt: skip


def test_files_are_counted_whenever_they_come() -> None:
    dealer = ShotDealer(2, live=False, keyed=False)
    found = [dealer.place(frame(i, 1000.0 * i, str(i)), 1, JOIN) for i in range(4)]
    assert found == [Place(0, 0, True), Place(0, 1, False), Place(1, 0, True), Place(1, 1, False)]


def test_a_camera_that_was_opened_again_begins_a_part() -> None:
    dealer = ShotDealer(2, live=False, keyed=False)
    assert dealer.place(frame(0, 0), 1, JOIN) == Place(0, 0, True)
    assert dealer.place(frame(0, 0), 2, JOIN) == Place(1, 0, True)
    assert dealer.place(frame(1, 0), 2, JOIN) == Place(1, 1, False)


def test_what_the_source_knows_is_not_counted() -> None:
    dealer = ShotDealer(2, live=False, keyed=False)
    given_ = [(0, "A"), (1, "A"), (1, "B"), (0, "C"), (1, "D"), (0, "D"), (2, "D")]
    found = [dealer.place(frame(i, 0, key, shot), 1, JOIN) for i, (shot, key) in enumerate(given_)]
    assert found == [
        Place(0, 0, True), Place(0, 1, False), Place(1, 1, True), Place(2, 0, True), Place(3, 1, True),
        Place(4, 0, True), None,
    ]  # fmt: skip


def test_keys_tell_parts_apart_where_they_are_to() -> None:
    dealer = ShotDealer(2, live=False, keyed=True)
    found = [dealer.place(frame(i, 0, key), 1, JOIN) for i, key in enumerate("AABCC")]
    assert found == [
        Place(0, 0, True), Place(0, 1, False), Place(1, 0, True), Place(2, 0, True), Place(2, 1, False),
    ]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    st.integers(2, 4), st.booleans(), st.integers(1, 16), st.integers(51, 200),
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=20),
)  # fmt: skip
def test_whatever_is_lost_parts_do_not_mix(
    shots: int, told: bool, apart: int, quiet: int, seen: list[list[bool]]
) -> None:
    """Pictures of a part come within join_ms, its last and the next one's first further apart: those
    that are whole are as they were taken."""
    period = (shots - 1) * apart + quiet
    dealer = ShotDealer(shots, live=True, keyed=False)
    parts: dict[int, dict[int, tuple[int, int]]] = {}
    for number, there in enumerate(seen):
        for shot in range(shots):
            if there[shot]:
                one = frame(0, number * period + shot * apart, None, shot if told else None)
                place = dealer.place(one, 1, JOIN)
                assert place is not None
                parts.setdefault(place.part, {})[place.shot] = (number, shot)
    for pictures in parts.values():
        assert len({number for number, _ in pictures.values()}) == 1
        if len(pictures) == shots or told:
            assert all(shot == was for shot, (_, was) in pictures.items())
    whole = [number for number, there in enumerate(seen) if all(there[:shots])]
    assert [p[0][0] for p in parts.values() if len(p) == shots] == whole


def test_parts_too_close_for_join_ms_are_left_out_and_not_shifted() -> None:
    """Pictures 20 ms apart, parts every 60: join_ms = 50 is less than from one part to the next, but not
    than from the last picture to the next first one. A part without its first picture would take that of
    the next one, and so would all others from then on."""
    dealer = ShotDealer(2, live=True, keyed=False)
    times = [0, 20, 60, 80, 120, 140, 300, 320]
    found = [dealer.place(frame(i, at), 1, JOIN) for i, at in enumerate(times)]
    assert found == [
        Place(0, 0, True), Place(0, 1, False), None, None, None, None,
        Place(1, 0, True), Place(1, 1, False),  # it was quiet before: which part's they are shows again
    ]  # fmt: skip


def test_parts_too_close_are_told_apart_where_the_source_or_the_key_says_how() -> None:
    times = [20, 60, 80, 120, 140]  # the first picture of the first part was lost
    parts = [(0, True), (1, True), (1, False), (2, True), (2, False)]
    told, keyed = ShotDealer(2, True, False), ShotDealer(2, True, True)
    for at, (part, begins), shot, key in zip(times, parts, [1, 0, 1, 0, 1], "ABBCC", strict=True):
        assert told.place(frame(0, at, None, shot), 1, JOIN) == Place(part, shot, begins)
        assert keyed.place(frame(0, at, key), 1, JOIN) == Place(part, 0 if begins else 1, begins)


class Stream:
    """A free-running camera, pictures so many ms apart in turn."""

    name, live, skipped, pixel_rule_name = "top", True, 0, "auto8"

    def __init__(self, *apart: float) -> None:
        self._apart = itertools.cycle(apart)
        self._at = 0.0

    def open(self) -> None: ...

    def close(self) -> None: ...

    def read(self) -> Frame:
        self._at += next(self._apart)
        return frame(0, self._at)


def test_whoever_reads_parts_too_close_for_join_ms_is_told_the_remedy() -> None:
    def parts(stream: Stream) -> list[Frame] | None:
        dealer = ShotDealer(2, live=True, keyed=False)
        read_part(stream, dealer, 2, JOIN)
        return read_part(stream, dealer, 2, JOIN)

    assert parts(Stream(60, 20)) is not None
    with pytest.raises(CaptureError, match=r"'top': with join_ms = 50 .*last shot .* first of"):
        parts(Stream(40, 20))


def camera(uri: str, shots: tuple[str, ...] = ("bright", "dark")) -> Camera:
    return Camera(name="top", uri=uri, shots=shots)


def test_rendered_parts_are_seen_under_two_lights() -> None:
    source = open_source(camera("synthetic://?seed=4&width=96&height=72&parts=3&defect_rate=0"), Path())
    source.open()
    frames = []
    while (one := source.read()) is not None:
        frames.append(one)
    assert [(f.part_key, f.shot) for f in frames] == [
        (f"S{part:08d}", shot) for part in range(3) for shot in range(2)
    ]
    bright = render_part(4, 1, 96, 72, 0.0)[0]
    np.testing.assert_array_equal(frames[2].image, bright)
    np.testing.assert_array_equal(frames[3].image, grazing_light(bright))
    assert grazing_light(np.full((9, 9), 200, np.uint8)).max() == 18  # nothing to be seen: dark


def test_files_in_succession_are_one_part(tmp_path: Path) -> None:
    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((8, 8), 10 * index, np.uint8))
    source = open_source(camera(f"folder://{tmp_path}?loop=1"), Path())
    source.open()
    frames = [source.read() for _ in range(6)]
    assert [(f.part_key, f.shot) for f in frames if f] == [
        ("0.png", 0), ("0.png", 1), ("2.png", 0), ("2.png", 1), ("0.png#2", 0), ("0.png#2", 1),
    ]  # fmt: skip


def test_a_part_that_lacks_a_picture_is_passed_over(tmp_path: Path) -> None:
    source = open_source(
        camera("synthetic://?seed=4&width=96&height=72&parts=40&lose=0.3&defect_rate=0"), Path()
    )
    source.open()
    dealer = ShotDealer(2, live=False, keyed=False)
    keys = []
    while (frames := read_part(source, dealer, 2, JOIN)) is not None:
        assert len({one.part_key for one in frames}) == 1
        assert [one.shot for one in frames] == [0, 1]
        keys.append(frames[0].part_key)
    assert 10 < len(keys) < 30


def test_grab_takes_the_picture_that_is_named(tmp_path: Path) -> None:
    one = camera("synthetic://?seed=4&width=96&height=72&defect_rate=0")
    bright, _ = grab(one, Path(), "bright")
    dark, _ = grab(one, Path(), "dark")
    np.testing.assert_array_equal(dark, grazing_light(bright))
    cv2.imwrite(str(tmp_path / "0.png"), bright)
    with pytest.raises(CaptureError, match="delivered no frame"):  # a part lacks its second picture
        grab(camera(f"folder://{tmp_path}"), Path())
