"""A line that runs for long, with all that one has: the daemon stays as it was, and forgets no part."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from daemon_line import wait_for
from free_ports import free_ports
from industrial_cameras import FakeGigE, fake_gige
from listening_gate import Gate
from tiny_bundle import HEIGHT, WIDTH, make_bundle
from tiny_station import ENTRY

from edge_ad.bundle import activate, shadow
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.trigger import TriggerClient
from edge_ad.errors import DeliveryError

MINUTES = float(os.environ.get("EDGE_AD_SOAK_MINUTES", "10"))
PARTS_PER_S = 10
BUNDLES = {"rejects": 1e-6, "passes": 1e9}  # all parts, by their thresholds
FILE = """schema = 1
station = "line1"
state_dir = "state"
[[camera]]
name = "top"
uri = "genicam://127.0.0.1"
stale_ms = 1000.0
[camera.genicam]
trigger = "Software"
features = {{ Width = {width}, Height = {height} }}
[trigger]
kind = "message"
frame_ms = 400.0
[verdicts]
consumers = ["gate"]
[evidence]
sample = 3
sample_megabytes = 1.0
max_megabytes = 1.0
min_free = 0.0
[monitor]
sample_ms = 50.0
[scores]
endpoint = "tcp://127.0.0.1:0"
[metrics]
port = {port}
"""


def say(line: str) -> None:
    """Seen with `pytest -s`."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@contextmanager
def every(seconds: float, what: object) -> Iterator[None]:
    """Call it again and again in a thread; it must not raise."""
    ended = threading.Event()
    failed: list[Exception] = []

    def run() -> None:
        while not ended.wait(seconds):
            try:
                what()  # type: ignore[operator]
            except Exception as error:  # noqa: BLE001 - the test's end tells
                failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert failed == []


class Troubles:
    """What a camera does to a line: it stalls every minute, and dies every third."""

    def __init__(self, camera: FakeGigE) -> None:
        self._camera = camera
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.count % 3:
            self._camera.signal(signal.SIGSTOP)
            time.sleep(3.0)
            self._camera.signal(signal.SIGCONT)
        else:
            self._camera.kill()
            time.sleep(3.0)
            self._camera.start()


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 300)
def test_nothing_grows_and_every_trigger_has_its_verdict(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    bundles = [make_bundle(tmp_path / "state", threshold=t, name=n).name for n, t in BUNDLES.items()]
    shadow(tmp_path / "state", "default", bundles[0])
    file = tmp_path / "line.toml"
    file.write_text(FILE.format(width=WIDTH, height=HEIGHT, port=port))
    usage: list[tuple[int, int, int]] = []  # RSS, descriptors, threads
    accepted: list[str] = []
    refused: list[str] = []
    with fake_gige() as camera, (tmp_path / "log").open("w") as log:
        camera.start()
        daemon = subprocess.Popen([*ENTRY, "run", "-c", str(file)], stderr=log)
        process = psutil.Process(daemon.pid)
        control = ControlClient(f"ipc://{tmp_path / 'state' / 'control.sock'}", timeout_s=30)
        wait_for(lambda: control.request("status")["state"] == "RUNNING", 60)
        wait_for(lambda: control.request("status")["cameras"]["top"]["state"] == "up", 60)
        gate = Gate(f"ipc://{tmp_path / 'state' / 'verdicts.sock'}")

        def scrape() -> None:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                answer.read()

        def reload() -> None:
            bundles.reverse()
            activate(tmp_path / "state", "default", bundles[0])
            with ControlClient(control.endpoint, timeout_s=30) as client:
                client.request("reload")

        def measure() -> None:
            usage.append((process.memory_info().rss, process.num_fds(), process.num_threads()))
            if len(usage) % 150 == 0:
                say(f"{2 * len(usage) // 60} min: {len(accepted)} parts, {usage[-1]}")

        troubles = Troubles(camera)
        with (
            TriggerClient(f"ipc://{tmp_path / 'state' / 'trigger.sock'}") as trigger,
            every(1.0, scrape), every(2.0, measure), every(60.0, troubles),
            every(150.0, reload),
        ):  # fmt: skip
            end = time.monotonic() + 60 * MINUTES
            while time.monotonic() < end:
                began, key = time.monotonic(), f"K{len(accepted) + len(refused)}"
                try:
                    reply = trigger.send(key)
                except DeliveryError as error:
                    pytest.fail(f"{key}: {error}")
                if reply.accepted or reply.reason == "overflow":
                    accepted.append(key)  # also the latter has its verdict: FAULT overflow
                else:  # this process was not woken in time: the sender knows, and has no verdict
                    refused.append(reply.reason)
                time.sleep(max(0.0, began + 1 / PARTS_PER_S - time.monotonic()))
            wait_for(lambda: len(gate.verdicts) >= len(accepted), 30)
        status = control.request("status")
        control.close()
        daemon.terminate()
        assert daemon.wait(30) == 0
        gate.close()
    told = Counter(f"{one.body.verdict} {one.body.reason}".strip() for one in gate.verdicts)
    say(f"{len(accepted)} parts, {troubles.count} losses of the camera, {dict(told)}, refused {refused}")
    assert [one.header.part for one in gate.verdicts] == accepted
    assert set(refused) <= {"stale"} and len(refused) < 0.001 * len(accepted) + 2
    # A frame of which a camera that died had sent a part is unreadable.
    assert told["FAULT unreadable"] <= 1 + troubles.count / 10
    faults = {f"FAULT {why}" for why in ("no_frame", "late", "overflow", "frozen", "unreadable")}
    assert set(told) <= {"PASS", "REJECT score", *faults}
    # The fake camera's pictures come again after 255; one that died may begin with that it ended with.
    assert told["FAULT frozen"] <= 1 + troubles.count / 30
    assert told["PASS"] + told["REJECT score"] > 0.8 * len(accepted)
    assert min(told["PASS"], told["REJECT score"]) > 0.1 * len(accepted)
    assert status["cameras"]["top"]["reconnects"] >= troubles.count - 1
    fifth = len(usage) // 5
    early, late = (zip(*some, strict=True) for some in (usage[fifth : 2 * fifth], usage[-fifth:]))
    for name, first, last in zip(("RSS", "descriptors", "threads"), early, late, strict=True):
        before, after = statistics.median(first), statistics.median(last)
        say(f"{name}: {before:.0f} -> {after:.0f}")
        assert after <= before * 1.03 + (4e6 if name == "RSS" else 1), name
