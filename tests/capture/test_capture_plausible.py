"""Frames that cannot be a picture of a part are FAULT."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.capture.parts import render_part
from edge_ad.capture.plausible import Plausible, make_plausible
from edge_ad.config import Camera
from edge_ad.frame import Frame, Image


def frame(image: Image | None, fault: str = "") -> Frame:
    return Frame("top", 0, image, 1, 2, fault=fault)


def part(index: int = 0) -> Image:
    return render_part(1, index, 320, 240, 0.0)[0]


def doubts(plausible: Plausible, *images: Image) -> list[str]:
    return [plausible.check(frame(image)).fault for image in images]


def test_parts_are_plausible_and_handed_on_as_they_are() -> None:
    plausible = Plausible(8, 248, 1)
    for index in range(5):
        given = frame(part(index))
        assert plausible.check(given) is given


@pytest.mark.parametrize("shape", [(240, 320), (240, 320, 3), (2048, 2448), (20, 5)])
@pytest.mark.parametrize(
    ("value", "fault"), [(0, "dark"), (7, "dark"), (249, "saturated"), (255, "saturated")]
)
def test_black_and_white_frames_are_none(shape: tuple[int, ...], value: int, fault: str) -> None:
    checked = Plausible(8, 248, 0).check(frame(np.full(shape, value, np.uint8)))
    assert checked.fault == fault
    assert checked.image is not None  # for the evidence
    assert "camera top" in checked.detail
    assert "camera.dark" in checked.detail or "camera.bright" in checked.detail


def test_a_lit_part_on_a_black_or_white_ground_is_one() -> None:
    dark, light = np.zeros((240, 320), np.uint8), np.full((240, 320), 255, np.uint8)
    dark[100:140, 100:160] = light[100:140, 100:160] = 120  # 3 % of the frame
    assert doubts(Plausible(8, 248, 0), dark, light) == ["", ""]


def test_noise_of_a_sensor_in_the_dark_is_still_dark() -> None:
    noise = np.random.default_rng(0).integers(0, 7, (240, 320)).astype(np.uint8)
    assert doubts(Plausible(8, 248, 1), noise) == ["dark"]


def test_the_same_frame_again_is_frozen_until_another_comes() -> None:
    plausible = Plausible(8, 248, 1)
    assert doubts(plausible, part(0), part(0).copy(), part(0), part(1)) == ["", "frozen", "frozen", ""]


def test_one_pixel_is_a_difference() -> None:
    other = part()
    other[1, 1] += 1  # not among those that are looked at first
    assert doubts(Plausible(8, 248, 1), part(), other) == ["", ""]


def test_so_many_repetitions_are_allowed() -> None:
    assert doubts(Plausible(8, 248, 2), part(), part(), part(), part()) == ["", "", "frozen", "frozen"]
    assert doubts(Plausible(8, 248, 0), part(), part(), part()) == ["", "", ""]


def test_a_frame_that_is_none_already_keeps_its_reason() -> None:
    given = frame(None, "unreadable")
    assert Plausible(8, 248, 1).check(given) is given
    empty = frame(np.empty((0, 0), np.uint8))
    assert Plausible(8, 248, 1).check(empty) is empty


@pytest.mark.parametrize(
    ("uri", "live", "frozen", "expected"),
    [
        ("v4l2:///dev/video0", True, "auto", ["", "frozen"]),
        ("rtsp://camera/1", True, "auto", ["", ""]),
        ("rtsps://camera/1", True, "auto", ["", ""]),
        ("gst://rtspsrc location=rtsp://camera/1 ! decodebin", True, "auto", ["", ""]),
        ("RTSP://camera/1", True, 1, ["", "frozen"]),
        ("folder:///parts", False, "auto", ["", ""]),
        ("basler://1", False, "auto", ["", "frozen"]),  # one that is asked
        ("v4l2:///dev/video0", True, 0, ["", ""]),
    ],
)
def test_files_and_video_may_repeat_themselves(
    uri: str, live: bool, frozen: object, expected: list[str]
) -> None:
    camera = Camera(name="top", uri=uri, frozen=frozen)  # type: ignore[arg-type]
    assert doubts(make_plausible(camera, live), part(), part()) == expected
