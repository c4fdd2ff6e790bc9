"""Basler cameras: pylon's own emulation of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from industrial_cameras import BASLER, camera_of, source_of

from edge_ad.capture import industrial
from edge_ad.capture.basler import PylonCamera, list_basler
from edge_ad.capture.connection import Picture
from edge_ad.capture.features import automatic
from edge_ad.capture.industrial import IndustrialSource
from edge_ad.capture.source import AskedSource
from edge_ad.config import parse_station
from edge_ad.errors import CaptureError, ConfigError

FAST = {"features": {"AcquisitionFrameRateEnable": True, "AcquisitionFrameRate": 50.0}}


class Lossy(PylonCamera):
    """A camera on a line on which every fifth block is lost."""

    def pull(self, timeout_s: float) -> Picture | None:
        picture = super().pull(timeout_s)
        if picture is not None and picture.counter is not None and picture.counter % 5 == 4:
            picture.release()
            return None
        return picture


@pytest.fixture
def opened() -> Any:
    made: list[IndustrialSource] = []

    def make(*arguments: Any, **keys: Any) -> IndustrialSource:
        made.append(source_of(*arguments, **keys))
        made[-1].open()
        return made[-1]

    yield make
    for source in made:
        source.close()


def test_every_frame_is_kept_for_a_reader_that_pauses_where_every_part_counts(opened: Any) -> None:
    source = opened(BASLER, FAST, overflow="wait")
    counters = [source.read().counter for _ in range(3)]
    time.sleep(0.1)
    counters += [source.read().counter for _ in range(12)]
    assert counters == list(range(counters[0], counters[0] + 15))
    assert (source.skipped, source.lost) == (0, 0)
    assert source.live and source.counts_triggers


def test_the_newest_frame_counts_where_the_camera_runs_free(opened: Any) -> None:
    source = opened(BASLER, FAST)
    first = source.read()
    time.sleep(2.0)
    before = time.monotonic_ns()
    newest = source.read()
    # Its time is that of its arrival, which is not before the last frame but one.
    assert before - newest.t_trigger_ns < 1e9
    assert newest.counter - first.counter - 1 == source.skipped > 3
    assert source.lost == 0
    assert newest.image.shape == (1040, 1024) and newest.image.dtype == np.uint8


def test_a_paused_reader_loses_nothing_silently(opened: Any) -> None:
    """All buffers are full then: the emulation stands still, where a camera would lose frames."""
    source = opened(BASLER, FAST | {"buffers": 2}, overflow="wait")
    first = source.read().counter
    time.sleep(0.5)
    counters = [source.read().counter for _ in range(8)]
    assert counters[-1] - first == 8 + source.lost


def test_blocks_that_do_not_arrive_are_counted() -> None:
    source = IndustrialSource(
        camera_of(BASLER, FAST, overflow="wait"), lambda: Lossy("0815-0000"), time.monotonic_ns
    )
    source.open()
    frames = [source.read() for _ in range(12)]
    source.close()
    counters = [frame.counter for frame in frames if frame is not None and frame.counter is not None]
    assert len(counters) == 12 and all(counter % 5 != 4 for counter in counters)
    assert source.lost == counters[-1] - counters[0] + 1 - 12 >= 2


def test_a_library_that_fails_is_a_lost_camera_and_the_next_open_is_another() -> None:
    failing = [True]

    class Failing(PylonCamera):
        def pull(self, timeout_s: float) -> Picture | None:
            if failing:
                raise RuntimeError("a bug of the library")
            return super().pull(timeout_s)

    source = IndustrialSource(camera_of(BASLER), lambda: Failing("0815-0000"), time.monotonic_ns)
    source.open()
    with pytest.raises(CaptureError, match="a bug of the library"):
        source.read()
    failing.clear()
    source.open()
    assert source.read().index == 0
    source.close()


def test_a_buffer_that_failed_is_a_frame_with_a_fault(opened: Any) -> None:
    source = opened(BASLER, FAST, overflow="wait")
    source.read()
    source.features().set("ForceFailedBufferCount", 2)
    source.features().set("ForceFailedBuffer", True)
    frames = [source.read() for _ in range(12)]
    failed = [frame for frame in frames if frame.fault]
    assert [frame.fault for frame in failed] == ["unreadable"] * 2
    assert all(frame.image is None and "incompletely grabbed" in frame.detail for frame in failed)
    counters = [frame.counter for frame in frames]
    assert counters == list(range(counters[0], counters[0] + 12))
    assert source.lost == 0  # they came, only not whole


def test_a_picture_that_is_asked_for_is_no_older_one(opened: Any) -> None:
    source = opened(BASLER, {"trigger": "Software"})
    assert isinstance(source, AskedSource) and not source.live
    first = source.take("A", 0)
    assert (first.part_key, first.shot) == ("A", None)
    source.features().set("TriggerSoftware", True)  # somebody else's picture
    time.sleep(1.0)
    asked = time.monotonic_ns()
    second = source.take("B", 0)
    assert second.part_key == "B" and second.t_trigger_ns > asked
    assert second.counter == first.counter + 2 and source.skipped == 1
    assert source.read().counter == second.counter + 1  # who reads it, asks too


class Mute(PylonCamera):
    """A camera of which nothing comes; with `stuck` its library does not return."""

    stuck: threading.Event | None = None

    def pull(self, timeout_s: float) -> Picture | None:
        if self.stuck is not None:
            self.stuck.wait(30)
        time.sleep(timeout_s)
        return None


def mute(trigger: str, stuck: threading.Event | None = None) -> IndustrialSource:
    def connect() -> Mute:
        made = Mute("0815-0000")
        made.stuck = stuck
        return made

    camera = camera_of(BASLER, {"trigger": trigger}, stale_ms=100.0)
    return IndustrialSource(camera, connect, time.monotonic_ns)


def test_of_a_camera_that_waits_for_the_line_silence_says_nothing(opened: Any) -> None:
    source = opened(BASLER, {"trigger": "Line1"}, stale_ms=60.0)
    assert source.features().get("TriggerMode") == "On"
    assert source.features().get("TriggerSource") == "Line1"
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(source.read()))
    thread.start()
    time.sleep(0.4)  # a break of the line, many times stale_ms
    assert thread.is_alive() and source.trouble == ""
    source.close()
    thread.join(5)
    assert done == [None]


def test_a_camera_that_runs_free_is_silent_no_longer_than_stale_ms() -> None:
    source = mute("")
    source.open()
    start = time.monotonic()
    with pytest.raises(CaptureError, match=r"no frame for 100 ms \(stale_ms\).*trigger"):
        source.read()
    assert 0.08 < time.monotonic() - start < 3.0
    source.close()


def test_a_library_that_does_not_return_is_noticed_whatever_the_trigger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(industrial, "_STUCK_S", 0.3)
    stuck = threading.Event()
    source = mute("Line1", stuck)
    source.open()
    with pytest.raises(CaptureError, match="no frame for 100 ms"):
        source.read()
    stuck.set()
    source.close()


def test_a_camera_that_another_program_has_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pylon's emulation lets everybody in."""
    monkeypatch.setattr("pypylon.pylon.TlFactory.IsDeviceAccessible", lambda *_: False)
    with pytest.raises(CaptureError, match="another program has this camera; end that program"):
        source_of(BASLER).open()


def test_close_ends_a_waiting_read_and_the_camera_can_be_opened_again(opened: Any) -> None:
    source = opened(BASLER, {"trigger": "Line1"})
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(source.read()))
    thread.start()
    source.close()
    thread.join(5)
    assert done == [None]
    again = opened(BASLER)
    indices = [again.read().index for _ in range(2)]
    again.close()
    again.open()
    assert [*indices, again.read().index] == [0, 1, 2]


def test_features_are_set_at_every_open_and_automatic_functions_are_off(opened: Any) -> None:
    features = {
        "ExposureTime": 5000, "Gain": 3.0, "Width": 512, "ReverseX": True,
        "LineMode[LineSelector=Line2]": "Output", "LineSource[LineSelector=Line2]": "ExposureActive",
        "UserSetSelector": "Default",
    }  # fmt: skip
    source = opened(BASLER, {"features": features}, pixel_format="mono12")
    for _ in range(2):
        has = source.features()
        assert has.get("ExposureTime") == pytest.approx(5000)
        assert (has.get("Width"), has.get("PixelFormat")) == (512, "Mono12")
        assert automatic(has) == []
        frame = source.read()
        assert frame.fault == "" and frame.image.shape[1] == 512
        for name, value in (("GainAuto", "Continuous"), ("ExposureTime", 9.0)):
            has.set(name, value)
        assert automatic(has) == ["GainAuto"]
        source.close()
        source.open()
    asked_for = opened(BASLER, {"features": {"ExposureAuto": "Continuous"}})
    assert automatic(asked_for.features()) == ["ExposureAuto"]


@pytest.mark.parametrize("pixel_format", ["mono10", "bayergb8", "rgb8"])
def test_pixel_formats_are_set_and_converted(opened: Any, pixel_format: str) -> None:
    source = opened(BASLER, pixel_format=pixel_format)
    frame = source.read()
    assert frame.fault == ""
    assert frame.image.shape == ((1040, 1024) if "mono" in pixel_format else (1040, 1024, 3))
    assert frame.image.min() < 10 and frame.image.max() > 245  # the test picture is a ramp


@pytest.mark.parametrize(
    ("genicam", "keys", "message"),
    [
        ({"features": {"ExposureTime": 1e12}}, {}, "ExposureTime: Value 1000000000000.* smaller than"),
        ({"features": {"ExposureTime": "long"}}, {}, "ExposureTime takes another kind of value"),
        ({"features": {"Exposuretime": 5.0}}, {}, "no feature Exposuretime as it is set"),
        ({"features": {"LineMode[LineSelector=Line9]": "Input"}}, {}, "LineSelector: .*Line9"),
        ({"trigger": "Line9"}, {}, "TriggerSource.* cannot be 'Line9'; it has Software, Line1"),
        ({}, {"pixel_format": "yuv422_yuyv"}, "cannot send pixel_format 'yuv422_yuyv'.* it has Mono8"),
    ],
)
def test_what_a_camera_does_not_keep_is_refused(
    genicam: dict[str, Any], keys: dict[str, Any], message: str
) -> None:
    source = source_of(BASLER, genicam, **keys)
    with pytest.raises(CaptureError, match=f"camera 'top': basler://0815-0000: .*{message}"):
        source.open()
    with pytest.raises(CaptureError, match="is not open"):
        source.features()


def test_another_pixel_format_than_declared_is_a_fault(opened: Any) -> None:
    source = opened(BASLER, {"trigger": "Software"})
    assert source.take("A", 0).fault == ""
    source.close()
    source.settings = msgspec.structs.replace(source.settings, features={"PixelFormat": "BayerRG8"})
    source.open()
    frame = source.take("B", 0)
    assert frame.fault == "pixel_format" and "sends bayerrg8, pixel_format is 'auto'" in frame.detail


def test_which_camera_is_meant_must_be_clear() -> None:
    assert [device.uri for device in list_basler()] == ["basler://0815-0000", "basler://0815-0001"]
    for uri, message in (
        ("basler://", "pylon finds 2 cameras; write basler://SERIAL for one of .*0815-0000"),
        ("basler://4711", "finds no such camera; it finds .*0815-0001"),
    ):
        with pytest.raises(CaptureError, match=message):
            source_of(uri).open()


@pytest.mark.parametrize(
    ("uri", "genicam", "message"),
    [
        (
            "v4l2:///dev/video0",
            {"trigger": "Line1"},
            "camera[0].genicam: belongs to basler:// and genicam://",
        ),
        (
            BASLER,
            {"features": {"PixelFormat": "Mono8"}},
            "PixelFormat is set by the camera's pixel_format",
        ),
        (BASLER, {"features": {"TriggerMode": "On"}}, "TriggerMode is set by genicam.trigger"),
        (
            BASLER,
            {"features": {"TriggerMode[TriggerSelector=FrameStart]": "On"}},
            "set by genicam.trigger",
        ),
        (BASLER, {"features": {"Gain": float("nan")}}, "Gain must be a finite number"),
        (BASLER, {"features": {"Line Mode": 1}}, "features"),
        (BASLER, {"trigger": "Line 1"}, "camera[0].genicam.trigger"),
        (BASLER, {"buffers": 0}, "camera[0].genicam.buffers"),
    ],
)
def test_keys_that_contradict_are_refused(uri: str, genicam: dict[str, Any], message: str) -> None:
    table = {"name": "top", "uri": uri, "genicam": genicam}
    with pytest.raises(ConfigError) as caught:
        parse_station({"schema": 1, "station": "s", "camera": [table]})
    assert message in str(caught.value)


def test_a_process_that_ends_while_a_camera_sends_ends_well() -> None:
    """Python ends a thread that waits in pylon then, and C++ aborts."""
    code = (
        "from industrial_cameras import BASLER, source_of; import signal\n"
        "signal.signal(signal.SIGALRM, lambda *_: print('alarm'))\n"
        "source = source_of(BASLER, {'trigger': 'Line1'}, stale_ms=300.0); source.open()\n"
        "print(source.features().get('TriggerSource'))\n"
    )
    here = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Line1\n"


def test_frames_keep_their_memory(opened: Any) -> None:
    """A frame's picture is never written to again, whatever comes after it."""
    source = opened(BASLER, FAST | {"buffers": 1})
    frame = source.read()
    copy = replace(frame, image=frame.image.copy())
    for _ in range(12):
        source.read()
    np.testing.assert_array_equal(frame.image, copy.image)
