"""Industrial cameras without hardware: pylon's emulation, and Aravis's camera on the loopback."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_ad.capture.aravis.library import aravis
from edge_ad.capture.industrial import IndustrialSource
from edge_ad.capture.source import open_source
from edge_ad.config import Camera, parse_station
from edge_ad.errors import CaptureError

# Read when pylon looks for cameras first. It finds 0815-0000 and 0815-0001 then.
os.environ["PYLON_CAMEMU"] = "2"
BASLER = "basler://0815-0000"
GENICAM = "genicam://Aravis-Fake-GV01"


def camera_of(uri: str, genicam: dict[str, Any] | None = None, **keys: Any) -> Camera:
    """A checked `[[camera]]`."""
    table = {"name": "top", "uri": uri, **keys, **({} if genicam is None else {"genicam": genicam})}
    return parse_station({"schema": 1, "station": "s", "camera": [table]}).camera[0]


def source_of(uri: str, genicam: dict[str, Any] | None = None, **keys: Any) -> IndustrialSource:
    """Its source, not yet opened."""
    source = open_source(camera_of(uri, genicam, **keys), Path())
    assert isinstance(source, IndustrialSource)
    return source


class FakeGigE:
    """A GigE camera with the serial number GV01 on the loopback network, in a process of its own."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, lost_per_mille: int = 0) -> None:
        command = ["arv-fake-gv-camera-0.8", "-i", "lo", "-s", "GV01", "-r", str(lost_per_mille)]
        self._process = subprocess.Popen(command)
        end = time.monotonic() + 10
        while _control_port() not in Path("/proc/net/udp").read_text():
            assert time.monotonic() < end, "the camera does not listen"
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


_HOLD = """import sys
from industrial_cameras import source_of
source = source_of(sys.argv[1])
source.open()
source.read()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(camera: Camera) -> Iterator[None]:
    """Another program reads it."""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, camera.uri], env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None and program.stdout.readline() == "held\n"
        yield
        program.communicate("")


def _control_port() -> str:
    """Where it listens, as the kernel writes it."""
    return f":{3956:04X} 00000000:0000"


@contextmanager
def fake_gige() -> Iterator[FakeGigE]:
    """The only one of this machine: there is one port for all."""
    try:
        aravis()
    except CaptureError as error:
        pytest.skip(str(error))
    if shutil.which("arv-fake-gv-camera-0.8") is None:
        pytest.skip("arv-fake-gv-camera-0.8 is not installed; apt-get install aravis-tools")
    with (Path(tempfile.gettempdir()) / "edge-ad-fake-gige.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        camera = FakeGigE()
        try:
            yield camera
        finally:
            camera.kill()
