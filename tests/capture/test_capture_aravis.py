"""GigE Vision through Aravis, from a camera in a process of its own on the loopback network."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from daemon_line import wait_for
from industrial_cameras import FakeGigE, camera_of, fake_gige, source_of

from edge_ad.capture.aravis.camera import AravisCamera
from edge_ad.capture.source import AskedSource, open_source
from edge_ad.daemon.cameras import CameraFeed
from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.parts import PartQueue
from edge_ad.errors import CaptureError

# Buffers enough for a machine that is busy with other tests.
FAST = {"features": {"AcquisitionFrameRate": 100.0}, "buffers": 64}
IP = "genicam://127.0.0.1"  # needs no search, which takes a second


@pytest.fixture(scope="module")
def machine() -> Iterator[FakeGigE]:
    with fake_gige() as camera:
        yield camera


@pytest.fixture
def gige(machine: FakeGigE) -> Iterator[FakeGigE]:
    machine.start()
    yield machine
    machine.kill()


def test_the_only_camera_needs_no_name(gige: FakeGigE) -> None:
    source = source_of("genicam://")
    source.open()
    frame = source.read()
    source.close()
    assert frame.image.shape == (512, 512) and frame.camera_ticks > 0


def test_frame_ids_begin_again_silently_and_the_cameras_clock_is_the_hosts(
    gige: FakeGigE,
) -> None:
    """They start at 65401 and go to 65535."""
    source = source_of(IP, FAST, overflow="wait")
    source.open()
    frames = [source.read() for _ in range(160)]
    source.close()
    counters = [frame.counter for frame in frames]
    assert counters == sorted(set(counters)) and counters[-1] > 65535
    # A busy machine may lose a packet; nothing more is lost, above all not at the wrap.
    assert counters[-1] - counters[0] - 159 == source.lost < 10
    assert source.skipped == 0
    first, last = frames[0], frames[-1]
    camera = (last.camera_ticks - first.camera_ticks) * source.tick_ns
    assert camera == pytest.approx(last.t_trigger_ns - first.t_trigger_ns, abs=1e9)
    assert camera > 1300e6  # 159 periods of 10 ms, or more


def test_a_camera_without_a_heartbeat_is_asked_whether_it_is_there(gige: FakeGigE) -> None:
    """As one on USB, which Aravis does not say is gone."""
    camera = AravisCamera("127.0.0.1")
    camera._ethernet = False
    assert camera.problem() == ""
    gige.kill()
    camera._ask_at = 0.0
    assert "does not answer" in camera.problem()
    camera.close(answers=False)


@pytest.mark.slow
def test_a_camera_that_no_part_triggers_for_long_is_known_to_be_gone(gige: FakeGigE) -> None:
    """By its heartbeat, which takes 5 s."""
    source = source_of(IP, stale_ms=60_000.0, overflow="wait")
    source.open()
    source.read()
    gige.kill()
    begin = time.monotonic()
    with pytest.raises(CaptureError, match="does not answer, or another program took it"):
        while True:
            source.read()
    assert time.monotonic() - begin < 20.0
    source.stop().join(20)


def test_features_are_set_and_read_back(gige: FakeGigE) -> None:
    features = {"Width": 256, "ExposureTimeAbs": 3000, "GainRaw": 5, "GainAuto": "Off"}
    source = source_of(IP, {"features": features}, pixel_format="bayergb8")
    source.open()
    has = source.features()
    assert (has.get("Width"), has.get("PixelFormat"), has.get("GainRaw")) == (256, "BayerGB8", 5)
    assert has.get("ExposureTimeAbs") == pytest.approx(3000)
    assert source.read().image.shape == (512, 256, 3)
    source.close()


@pytest.mark.parametrize(
    ("genicam", "keys", "message"),
    [
        ({"features": {"ExposureTimeAbs": 1e12}}, {}, "ExposureTimeAbs: .*greater than allowed maximum"),
        ({"features": {"ExposureTimeAbs": "long"}}, {}, "takes another kind of value than 'long'"),
        ({"features": {"Width": 1.5}}, {}, "takes another kind of value than 1.5"),
        ({"features": {"Exposure": 5.0}}, {}, "no feature Exposure as it is set"),
        ({"trigger": "Line7"}, {}, "cannot be 'Line7'; it has Line0, Software"),
        ({}, {"pixel_format": "mono12"}, "cannot send pixel_format 'mono12'"),
    ],
)
def test_what_the_camera_refuses_is_said(
    gige: FakeGigE, genicam: dict[str, Any], keys: dict[str, Any], message: str
) -> None:
    source = source_of(IP, genicam, **keys)
    with pytest.raises(CaptureError, match=f"camera 'top': genicam://127.0.0.1: .*{message}"):
        source.open()


def test_a_picture_is_taken_when_it_is_asked_for(gige: FakeGigE) -> None:
    source = source_of(IP, {"trigger": "Software"})
    assert isinstance(source, AskedSource)
    source.open()
    frames = [source.take(key, 0) for key in ("A", "B", "C")]
    source.close()
    assert [frame.part_key for frame in frames] == ["A", "B", "C"]
    assert np.diff([frame.counter for frame in frames]).tolist() == [1, 1]


@pytest.mark.parametrize("lost_per_mille", [2, 20])
def test_frames_that_arrive_incomplete_are_faults(machine: FakeGigE, lost_per_mille: int) -> None:
    """Of 188 packets a frame; nothing is sent twice. Every frame that was sent is told, or counted."""
    machine.start(lost_per_mille)
    source = source_of(IP, FAST, overflow="wait")
    source.open()
    frames = [source.read() for _ in range(60)]
    source.close()
    machine.kill()
    bad = [frame for frame in frames if frame.fault]
    assert {frame.fault for frame in bad} == {"unreadable"}
    assert all(frame.image is None and "packets" in frame.detail for frame in bad)
    assert (len(bad) > 45) == (lost_per_mille == 20) and len(bad) > 5
    # Where the first packet was lost nothing tells the number; the frame counts all the same.
    counters = [frame.counter for frame in frames if frame.counter is not None]
    assert counters == sorted(set(counters))
    assert source.skipped == 0 and counters[-1] - counters[0] + 1 <= 60 + source.lost


def test_a_camera_that_stops_is_lost_in_time_and_comes_back_by_itself(machine: FakeGigE) -> None:
    """Stopped, continued, killed and started again."""
    machine.start()
    camera = camera_of(IP, FAST, stale_ms=300.0)
    lane, told = Lane(4, True), []
    feed = CameraFeed(
        camera, lambda: open_source(camera, None), lane,  # type: ignore[arg-type]
        PartQueue([lane], 0, True, time.monotonic_ns), lambda _, text: told.append(text),
        time.monotonic_ns, time.time_ns, random.Random(0), (0.05, 0.2),
    )  # fmt: skip
    feed.start()
    feed.go()
    try:
        for signals, again in (((signal.SIGSTOP,), (signal.SIGCONT,)), ((signal.SIGKILL,), ())):
            wait_for(lambda: feed.state == "up")
            for number in signals:
                machine.signal(number)
            begin = time.monotonic()
            wait_for(lambda: feed.state == "lost")
            assert time.monotonic() - begin < 3.0
            for number in again:
                machine.signal(number)
            if not again:
                machine.kill()
                machine.start()
            wait_for(lambda: feed.state == "up", 20.0)
        assert feed.reconnects == 2
        lost = [text for text in told if "lost:" in text]
        assert len(lost) == 2 and all("no frame for 300 ms (stale_ms)" in text for text in lost)
        frames = feed.frames
        wait_for(lambda: feed.frames > frames + 5)
    finally:
        feed.stop()
        assert feed.join(10)
        machine.kill()
