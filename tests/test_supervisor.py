"""What a supervisor is told, and what it does about a daemon whose inspection hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_bundle import HEIGHT, WIDTH, make_bundle

from edge_ad.supervisor import Supervisor

RUN = [sys.executable, "-c", "from edge_ad.cli.main import main; main()", "run"]
WATCHDOG_S = 4.0


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(60)
        yield server


def lines(told: socket.socket) -> list[str]:
    return told.recv(4096).decode().split("\n")


def start(root: Path, *failing: str) -> subprocess.Popen[bytes]:
    uri = f"synthetic://?seed=1&width={WIDTH}&height={HEIGHT}&fps=20"
    (root / "line.toml").write_text(
        f'schema = 1\nstation = "line1"\n[[camera]]\nname = "top"\nuri = "{uri}"\n'
        '[scores]\nendpoint = "tcp://127.0.0.1:0"\n[metrics]\nport = 0\n'
    )
    words = [word for place in failing for word in ("--failpoint", place)]
    watched = {"NOTIFY_SOCKET": str(root / "notify"), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
    return subprocess.Popen(
        [*RUN, "-c", str(root / "line.toml"), *words], env={**os.environ, **watched}, cwd=root,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def ready(told: socket.socket) -> None:
    while "READY=1" not in lines(told):
        pass


def test_a_hang_is_ended_by_the_watchdog_and_the_next_start_judges_again(
    tmp_path: Path, told: socket.socket
) -> None:
    make_bundle(tmp_path / "state")
    hangs = start(tmp_path, "inspect.before=sleep:3600@40")
    try:
        ready(told)
        alive = 0
        told.settimeout(3 * WATCHDOG_S)  # systemd waits for WatchdogSec; a busy machine is late
        with pytest.raises(TimeoutError):
            while True:
                alive += "WATCHDOG=1" in lines(told)
        assert alive >= 1
        assert hangs.poll() is None  # it hangs: nothing ends it but its supervisor
    finally:
        hangs.send_signal(signal.SIGABRT)  # as systemd does
        hangs.wait()
    told.settimeout(60)
    again = start(tmp_path)
    try:
        ready(told)
        began, alive = time.monotonic(), 0
        while time.monotonic() < began + 2 * WATCHDOG_S:
            alive += "WATCHDOG=1" in lines(told)
        assert alive >= 2
        again.terminate()
        said: list[str] = []
        while "STOPPING=1" not in said:
            said = lines(told)
        assert "STATUS=STOPPING" in said
        assert again.wait(60) == 0
    finally:
        if again.poll() is None:
            again.kill()
            again.wait()


def test_who_is_not_watched_or_has_no_supervisor_says_nothing(
    tmp_path: Path, told: socket.socket
) -> None:
    told.settimeout(0.2)
    address = str(tmp_path / "notify")
    for environment in (
        {},
        {"NOTIFY_SOCKET": address},
        {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000"},
    ):
        supervisor = Supervisor.of(environment)
        supervisor.alive(0.0)
    with pytest.raises(TimeoutError):
        told.recv(10)


def test_a_sign_of_life_only_where_parts_are_judged(tmp_path: Path, told: socket.socket) -> None:
    told.settimeout(0.2)
    now = [0.0]
    supervisor = Supervisor(str(tmp_path / "notify"), 10.0, lambda: now[0])
    supervisor.alive(5.0)  # half of the time: it may hang
    with pytest.raises(TimeoutError):
        told.recv(10)
    supervisor.alive(4.9)
    assert told.recv(20) == b"WATCHDOG=1"
    now[0] = 2.4
    supervisor.alive(0.0)  # said a moment ago
    with pytest.raises(TimeoutError):
        told.recv(20)
    now[0] = 2.5
    supervisor.alive(0.0)
    assert told.recv(20) == b"WATCHDOG=1"


def test_a_supervisor_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    supervisor = Supervisor(str(tmp_path / "nobody"), 1.0)
    supervisor.say("READY=1")
    supervisor.alive(0.0)
    assert supervisor.untold == 2
