"""What a station does for years: open, lose, close, open. Nothing may be left over."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from gst_sources import installed, source, wait_for

from edge_ad.errors import CaptureError

pytestmark = pytest.mark.usefixtures("gst")

CYCLES, WARM = 500, 50
# Each leaked frame would be 0.9 MB, each leaked pipeline about 0.1 MB.
PIPELINE = "videotestsrc is-live=true ! video/x-raw,format=BGR,width=640,height=480,framerate=1000/1"


@pytest.fixture(scope="module")
def gst() -> None:
    installed()


def held() -> tuple[int, int]:
    process = psutil.Process()
    return process.num_threads(), process.num_fds()


def test_500_openings_leave_no_memory_threads_or_descriptors_behind() -> None:
    made = source(PIPELINE, opened=False, stale_ms=10_000)
    lost = source("videotestsrc ! identity error-after=1", opened=False, stale_ms=10_000)
    absent = source("v4l2src device=/dev/video99", opened=False)
    before, rss = (0, 0), 0
    for cycle in range(CYCLES):
        if cycle == WARM:
            wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("drain-")])
            before, rss = held(), psutil.Process().memory_info().rss
        made.open()
        assert made.read() is not None
        made.close()
        if cycle % 5 == 0:
            lost.open()
            with pytest.raises(CaptureError):
                lost.read()
            lost.close()
            with pytest.raises(CaptureError):
                absent.open()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("drain-")])
    # GStreamer's own threads that wait for work end some seconds later.
    wait_for(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), 30)
    assert psutil.Process().memory_info().rss - rss < 12e6


TRACED = """
import ctypes, sys, time
from pathlib import Path
from edge_ad.capture.source import open_source
from edge_ad.config import Camera
from edge_ad.errors import CaptureError

def use(pipeline, reads, **keys):
    source = open_source(Camera(name="top", uri="gst://" + pipeline, **keys), Path())
    for _ in range(3):
        try:
            source.open()
            for _ in range(reads):
                source.read()
        except CaptureError:
            pass
        source.close()
        if source._thread is not None:
            source._thread.join()

use("videotestsrc is-live=true ! video/x-raw,framerate=500/1", 5)
use("videotestsrc is-live=true ! video/x-raw,framerate=500/1", 5, overflow="wait")
use("videotestsrc num-buffers=3", 5)
use("videotestsrc ! identity error-after=2", 3, stale_ms=1000)
use("videotestsrc ! video/x-raw,format=YUY2,width=33", 2, pixel_format="yuv422_yuyv")
use("videotestsrc", 2, max_megapixels=0.01)
use("v4l2src device=/dev/video99", 1)
use("filesrc location=/none/x ! pngdec", 1)
use("no_such", 1)
use("videotestsrc no=1", 1)
ctypes.CDLL("libgstreamer-1.0.so.0").gst_deinit()
print("done")
"""


@pytest.mark.parametrize("leak", [False, True], ids=["ours", "a leak on purpose"])
def test_gstreamers_own_tracer_finds_every_object_released(leak: bool, tmp_path: Path) -> None:
    code = TRACED
    if leak:
        code = TRACED.replace(
            "import ctypes", "from edge_ad.capture.gst.sample import Sample\nimport ctypes"
        )
        code = code.replace("def use", "Sample.release = lambda self: None\ndef use")
    log = tmp_path / "gst.log"
    environment = os.environ | {
        "GST_TRACERS": "leaks", "GST_DEBUG": "GST_TRACER:7", "GST_DEBUG_FILE": str(log),
        "GST_DEBUG_NO_COLOR": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "done\n", done.stderr
    lines = log.read_text(errors="replace").splitlines()
    # The first such line says what the others consist of.
    alive = [line for line in lines if "object-alive, type-name=(string)Gst" in line]
    assert any("object-alive" in line for line in lines)
    assert bool(alive) == leak, alive
