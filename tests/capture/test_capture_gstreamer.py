"""A pipeline's life: frames in order, newest first, silence, errors, ends, closing, opening again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from gst_sources import drain, installed, source

from edge_ad.capture.gst.library import bind
from edge_ad.capture.source import open_source
from edge_ad.cli.camera import command
from edge_ad.config import Camera
from edge_ad.errors import CaptureError, ConfigError
from edge_ad.frame import Frame

pytestmark = pytest.mark.usefixtures("gst")

LIVE = "videotestsrc is-live=true ! video/x-raw,format=GRAY8,width=64,height=48,framerate=100/1"


@pytest.fixture(scope="module")
def gst() -> None:
    installed()


def number(frame: Frame | None) -> int:
    """Which frame of LIVE it is, by its presentation time; the first ones of a start are not 0."""
    assert frame is not None and frame.camera_ticks is not None
    return round(frame.camera_ticks / 1e7)


def test_files_are_read_frame_by_frame_to_their_end() -> None:
    made = source("videotestsrc num-buffers=7 ! video/x-raw,framerate=10/1,width=320")
    assert not made.live
    time.sleep(0.3)  # nothing goes while nobody reads
    frames = drain(made)
    assert [f.index for f in frames] == list(range(7)) and made.skipped == 0
    assert [f.camera_ticks for f in frames] == [i * 100_000_000 for i in range(7)]
    assert made.read() is None
    made.open()
    assert [f.index for f in drain(made)] == list(range(7, 14))


def test_who_is_live_is_told_by_the_source_without_opening_it() -> None:
    pipelines = ("v4l2src device=/dev/video99", "rtspsrc location=rtsp://h/x ! decodebin", "no_such")
    assert all(source(pipeline, opened=False).live for pipeline in pipelines)
    assert not source("multifilesrc location=x%d.jpg ! jpegdec", opened=False).live


def test_a_live_camera_gives_its_newest_frame_and_counts_the_others() -> None:
    made = source(LIVE)
    before = number(made.read())
    counted = made.skipped
    time.sleep(0.3)
    frame = made.read()
    skipped = made.skipped - counted
    made.close()
    assert made.live and number(frame) - before - 1 == skipped >= 10


def test_a_camera_with_shots_keeps_all_of_a_part() -> None:
    made = source(LIVE, shots=("a", "b", "c"))
    made.read()
    time.sleep(0.3)
    numbers = [number(made.read()) for _ in range(3)]
    made.close()
    assert numbers[1:] == [numbers[0] + 1, numbers[0] + 2]


def test_a_live_camera_may_wait_instead_and_what_is_lost_in_front_of_it_is_counted() -> None:
    made = source(f"{LIVE} ! identity drop-probability=0.5", overflow="wait", stale_ms=5000)
    frames = [made.read() for _ in range(40)]
    skipped = made.skipped
    made.close()
    numbers = [number(frame) for frame in frames]
    lost = numbers[-1] - numbers[0] + 1 - 40
    # The one that waits already may have been lost a few before.
    assert lost >= 5 and lost <= skipped <= lost + 20
    assert numbers == sorted(set(numbers))


def test_times_are_of_the_arrival() -> None:
    begun = time.monotonic_ns()
    made = source(LIVE)
    frames = [made.read() for _ in range(20)]
    now = time.monotonic_ns()
    made.close()
    times = [frame.t_trigger_ns for frame in frames if frame is not None]
    assert begun < times[0] and times[-1] < now and times == sorted(times)
    pace = (times[-1] - times[0]) / (number(frames[-1]) - number(frames[0]))
    assert pace == pytest.approx(10e6, rel=0.5)


def test_a_frame_taken_before_a_reader_came_has_its_own_time() -> None:
    made = source("videotestsrc is-live=true num-buffers=1", stale_ms=5000)
    time.sleep(0.4)
    frame = made.read()
    assert frame is not None and time.monotonic_ns() - frame.t_trigger_ns > 0.2e9
    made.close()


def test_a_live_camera_that_ends_is_lost_not_over() -> None:
    made = source("videotestsrc is-live=true num-buffers=2", overflow="wait")
    assert made.read() is not None and made.read() is not None
    with pytest.raises(CaptureError, match=r"camera 'top': gst://.*ended the stream; check cable"):
        made.read()
    made.close()


def test_a_pipeline_that_stops_delivering_is_noticed_in_time() -> None:
    made = source(f"{LIVE} ! valve drop=true", stale_ms=150)
    begun = time.monotonic()
    with pytest.raises(CaptureError, match=r"no frame for 150 ms \(stale_ms\); check cable"):
        made.read()
    assert 0.1 < time.monotonic() - begun < 5
    made.close()


def test_an_error_of_an_element_comes_after_the_frames_before_it() -> None:
    made = source("videotestsrc ! identity name=bad error-after=4", overflow="wait")
    for _ in range(3):
        assert made.read() is not None
    with pytest.raises(CaptureError, match="bad: Failed after iterations as requested"):
        made.read()
    made.close()
    made.open()
    assert made.read() is not None
    made.close()


def test_an_error_costs_no_frame_before_it_however_soon_it_comes() -> None:
    for _ in range(60):  # it comes with the last frame in some of them
        made, frames = source("videotestsrc ! identity name=bad error-after=4", overflow="wait"), 0
        with pytest.raises(CaptureError, match="bad: Failed after iterations as requested"):
            while made.read() is not None:
                frames += 1
        assert frames == 3
        made.close()


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("nvnosuch ! nvvidconv", r'no element "nvnosuch"; correct its name, or install the package'),
        ("v4l2src device=/dev/video99", r"v4l2src\d*: Cannot identify.*check that the camera is conn"),
        ("videotestsrc color=1", r'no property "color" in element "videotestsrc"; \'gst-inspect-1'),
        ("videotestsrc ! jpegdec", r"could not link videotestsrc.*agree on no format"),
        ("videotestsrc !! =", "syntax error; try the pipeline with gst-launch-1.0"),
        ("filesrc location=/none/x ! pngdec", r"No such file .*correct the path"),
    ],
)
def test_what_cannot_be_opened_is_one_line_with_its_remedy(
    pipeline: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    made = source(pipeline, opened=False)
    for _ in range(2):
        with pytest.raises(CaptureError, match=rf"camera 'top': gst://.*{message}") as caught:
            made.open()
        assert "\n" not in str(caught.value)
    assert made.read() is None
    assert capfd.readouterr() == ("", "")


def test_formats_that_do_not_meet_say_which_key_to_set() -> None:
    made = source("videotestsrc ! video/x-raw,format=GRAY8", opened=False, pixel_format="mono16")
    with pytest.raises(CaptureError, match="set pixel_format to what the camera sends"):
        made.open()
    late = source("videotestsrc ! jpegenc ! decodebin", pixel_format="yuv422_yuyv")
    with pytest.raises(CaptureError, match="set pixel_format to what the camera sends"):
        late.read()
    late.close()


def test_passwords_stay_out_of_messages() -> None:
    made = source(
        "rtspsrc location=rtsp://me:secret1@127.0.0.1:9/x user-pw=secret2 ! decodebin", stale_ms=5000
    )
    with pytest.raises(CaptureError, match=r"\*\*\*@127\.0\.0\.1:9/x user-pw=\*\*\*") as caught:
        made.read()
    assert "secret" not in str(caught.value)
    made.close()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gst://", "names no pipeline; write for example gst://v4l2src"),
        ("GST://  ! ", "names no pipeline"),
        ("gst://videotestsrc name='edge_ad'", "has an element named edge_ad.*rename it"),
    ],
)
def test_a_uri_that_is_no_pipeline_is_refused(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"camera 'top': uri .* {message}"):
        open_source(Camera(name="top", uri=uri), Path())


def test_a_missing_library_names_the_packages() -> None:
    with pytest.raises(CaptureError, match=r"libgstnone\.so.*apt-get install libgstreamer1\.0-0"):
        bind({"libgstnone.so.0": {}})


@pytest.mark.parametrize("pipeline", [f"{LIVE} ! valve drop=true", "fakesrc ! valve drop=true"])
def test_close_from_another_thread_ends_a_waiting_read(pipeline: str) -> None:
    caps = "" if "GRAY8" in pipeline else " ! capsfilter caps=video/x-raw"
    made = source(pipeline + caps, stale_ms=60_000)
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(made.read()))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    made.close()
    made.close()
    thread.join(5)
    assert done == [None]
    assert made.read() is None


def test_closing_while_frames_rush_in_and_opening_at_once() -> None:
    made = source("videotestsrc ! video/x-raw,width=640,height=480")
    for _ in range(30):
        stop = threading.Thread(target=made.close)
        frame = made.read()
        stop.start()
        while frame is not None:
            frame = made.read()
        stop.join(10)
        made.open()
    made.close()


def test_grab_writes_the_picture(tmp_path: Path) -> None:
    uri = f"gst://{LIVE.replace('64', '65')}"
    out = str(tmp_path / "a.png")
    done = CliRunner().invoke(command, ["grab", "--uri", uri, "--pixel-format", "mono8", "-o", out])
    assert done.exit_code == 0, done.exception
    assert "65 x 48 grey, pixel rule mono8" in done.output
