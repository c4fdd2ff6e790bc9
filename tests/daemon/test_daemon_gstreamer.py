"""A GStreamer camera in the daemon: lost and found again, and judged like the same files."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from daemon_line import wait_for
from tiny_station import edge_ad, write_parts, write_station

from edge_ad.capture.gst.library import gstreamer
from edge_ad.capture.source import open_source
from edge_ad.config import Camera
from edge_ad.daemon.cameras import CameraFeed
from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.parts import PartQueue
from edge_ad.delivery.wire import read_journal_line
from edge_ad.errors import CaptureError

LIVE = "gst://videotestsrc is-live=true ! video/x-raw,format=GRAY8,width=64,height=48,framerate=200/1"


@pytest.fixture(scope="module", autouse=True)
def gst() -> None:
    """Where it is not installed: skipped, which fails under CI."""
    try:
        gstreamer()
    except CaptureError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("pipeline", "stale_ms", "why"),
    [
        (f"{LIVE} ! identity error-after=9", 5000.0, "Failed after iterations"),
        (f"{LIVE.replace('is-live', 'num-buffers=8 is-live')}", 5000.0, "ended the stream"),
        (f"{LIVE} ! valve drop=true", 100.0, "no frame for 100 ms"),
        ("gst://v4l2src device=/dev/video99", 5000.0, "Cannot identify device"),
    ],
    ids=["error", "end", "silence", "absent"],
)
def test_a_lost_camera_is_opened_again_and_again(pipeline: str, stale_ms: float, why: str) -> None:
    told: list[str] = []
    camera = Camera(name="top", uri=pipeline, stale_ms=stale_ms, pixel_format="mono8")
    lane = Lane(4, True)
    made = []

    def make() -> object:
        made.append(open_source(camera, Path()))
        return made[-1]

    feed = CameraFeed(
        camera, make, lane, PartQueue([lane], 0, True, time.monotonic_ns),  # type: ignore[arg-type]
        lambda _, text: told.append(text), time.monotonic_ns, time.time_ns, random.Random(0),
        (0.01, 0.02),
    )  # fmt: skip
    feed.start()
    feed.go()
    delivers = "valve" not in pipeline and "v4l2" not in pipeline
    wait_for(lambda: feed.reconnects >= 3 if delivers else feed._opening >= 3 or len(told) == 1)
    assert any(f"lost: camera 'top': {pipeline}" in text and why in text for text in told)
    assert (feed.frames >= 15) == delivers
    feed.stop()
    assert feed.join(10)
    assert len(made) == 1  # one and the same source


def test_the_daemon_judges_a_pipeline_as_it_judges_the_same_files(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", 24)
    write_parts(tmp_path / "line", 9, first=100)
    write_station(tmp_path, extra='pixel_format = "mono8"')
    done = edge_ad("calibrate", "-c", tmp_path / "line.toml", "--from", tmp_path / "good")
    assert done.returncode == 0, done.stderr

    def scores(name: str) -> list[float | None]:
        journal = tmp_path / f"{name}.jsonl"
        done = edge_ad("run", "-c", tmp_path / "line.toml", "--journal", journal)
        assert done.returncode == 0, done.stderr
        return [read_journal_line(line)[1].score for line in journal.read_bytes().splitlines()]

    expected = scores("folder")
    files = f"multifilesrc location={tmp_path}/line/part%04d.png start-index=100"
    write_station(
        tmp_path,
        uri=f"gst://{files} caps=image/png,framerate=1/1 ! pngdec",
        extra='pixel_format = "mono8"',
    )
    found = scores("pipeline")
    assert len(found) == 9 and None not in found
    assert found == expected
