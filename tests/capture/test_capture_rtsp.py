"""A network camera: GStreamer's RTSP server, whose pictures count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from free_ports import free_ports

from edge_ad.capture.opencv import LiveSource
from edge_ad.config import Camera
from edge_ad.errors import CaptureError
from edge_ad.frame import Frame

FPS = 25
SERVER = Path(__file__).with_name("rtsp_server.py")


class Server:
    """The server in a process of its own, of the system's Python."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.process = subprocess.Popen(
            ["/usr/bin/python3", str(SERVER), str(self.port), str(FPS)],
            stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def uri(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/count"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    try:
        if not made.ready:
            pytest.skip("no RTSP server; apt-get install python3-gi gir1.2-gst-rtsp-server-1.0")
        yield made
    finally:
        made.end()


def number(frame: Frame | None) -> int:
    """What the picture counts."""
    assert frame is not None and frame.image is not None
    squares = [frame.image[8:24, 32 * i + 8 : 32 * i + 24] for i in range(12)]
    return sum(int(square.mean() > 128) << i for i, square in enumerate(squares))


def test_a_reader_that_pauses_gets_the_newest_frame(server: Server) -> None:
    """OpenCV alone would give it those of the pause, one by one."""
    source = LiveSource(Camera(name="top", uri=server.uri))
    source.open()
    try:
        before = [number(source.read()) for _ in range(5)]
        assert before == sorted(before)
        time.sleep(2.0)
        asked = time.monotonic_ns()
        frame = source.read()
        assert abs(asked - frame.t_trigger_ns) < 0.5e9
        assert number(frame) - before[-1] > 1.5 * FPS
        assert source.skipped > FPS
    finally:
        source.stop().join(10)


def test_a_server_that_stalls_is_lost_in_time_and_its_old_frames_stay_away(server: Server) -> None:
    source = LiveSource(Camera(name="top", uri=server.uri, stale_ms=400.0))
    source.open()
    last = [number(source.read()) for _ in range(5)][-1]
    server.process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(CaptureError, match=r"no frame for 400 ms \(stale_ms\)"):
        while True:
            last = number(source.read())
    assert time.monotonic() - begin < 2.0  # a read of OpenCV alone: 6 s
    source.close()
    server.process.send_signal(signal.SIGCONT)
    time.sleep(0.5)  # it sends what it had to whoever listened
    source.open()
    back = [source.read() for _ in range(3)]
    source.stop().join(10)
    now = [number(frame) for frame in back]
    assert now == sorted(set(now)) and now[0] > last


def test_a_process_that_ends_while_a_stream_is_read_ends_well(server: Server) -> None:
    code = (
        "from edge_ad.capture.opencv import LiveSource; from edge_ad.config import Camera\n"
        f"source = LiveSource(Camera(name='top', uri={server.uri!r})); source.open()\n"
        "print(source.read().index)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
