"""`edge-ad plc` as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_ad.config.plc import load_plc
from edge_ad.delivery.control import ControlClient
from edge_ad.errors import DeliveryError


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="plc-", dir="/tmp") as directory:
        yield Path(directory)


def run(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_ad", "plc", *arguments], stderr=subprocess.PIPE, text=True
    )


def test_it_waits_for_daemon_and_plc_and_stops_when_told(short: Path) -> None:
    path = short / "plc.toml"
    path.write_text("schema = 1\n[fieldbus.options]\nport = 0\n[metrics]\nport = 0\n")
    process = run("-c", str(path))
    try:
        with ControlClient(load_plc(path).control_endpoint) as control:
            end = time.monotonic() + 60
            while True:
                try:
                    status = control.request("status", timeout_s=0.5)
                    break
                except DeliveryError:
                    assert process.poll() is None and time.monotonic() < end
        assert status["state"] in ("PREOPERATIONAL", "ERROR") and status["daemon_up"] is False
        assert "Modbus-TCP server" in status["fieldbus"]
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and "Traceback" not in said
    assert "stopped after 0 triggers" in said


@pytest.mark.parametrize(
    "text, code, words",
    [
        ("schema = 1\n[fieldbus]\nkind = 'profinet'\n", 2, "fieldbus.kind"),
        ("schema = 1\n[fieldbus.options]\nhost = '203.0.113.7'\n", 5, "203.0.113.7:1502"),
        ("schema = 1\n[handshake]\ndepth = 99\n", 2, "handshake.depth"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    short: Path, text: str, code: int, words: str
) -> None:
    (short / "plc.toml").write_text(text)
    process = run("-c", str(short / "plc.toml"))
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said.splitlines()[-1].startswith("edge-ad: ") and words in said and "Traceback" not in said
