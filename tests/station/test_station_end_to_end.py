"""The daemon and the station as processes, some of them killed: parts are announced to both."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from daemon_line import good
from tiny_bundle import HEIGHT, WIDTH, make_bundle
from tiny_station import ENTRY, edge_ad

from edge_ad.config.gate import load_gate
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.station.messages import Announcer, GateReceiver
from edge_ad.delivery.trigger import TriggerClient
from edge_ad.errors import DeliveryError

LINE = """schema = 1
station = "line1"
state_dir = "state"
deadline_ms = 20000.0
[[camera]]
name = "top"
uri = "folder://{folder}?loop=1"
[trigger]
kind = "message"
frame_ms = 10000.0
[verdicts]
consumers = ["gate"]
heartbeat_ms = 50.0
lost_ms = 400.0
[scores]
endpoint = "tcp://127.0.0.1:0"
[metrics]
port = 0
[evidence]
keep = "none"
min_free = 0.0
"""
GATE = """schema = 1
station = "line1"
[[source]]
name = "main"
endpoint = "ipc://state/verdicts.sock"
heartbeat_ms = 50.0
lost_ms = 400.0
[belt]
travel_ms = 1500.0
before = 10.0
after = 20.0
deadline_ms = 1400.0
[identity]
hold_ms = 10000.0
[present]
uri = "ipc://present.sock"
[output]
uri = "ipc://gate.sock"
heartbeat_ms = 50.0
[metrics]
port = 0
"""
BAD_EVERY = 3  # of the pictures every third shows nothing


class Plant:
    """A line of parts, which it announces to both sides, and its gate."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self.stack = directory, stack
        folder = directory / "pictures"
        folder.mkdir()
        for number in range(BAD_EVERY * 4):
            bad = number % BAD_EVERY == BAD_EVERY - 1
            image = np.zeros((HEIGHT, WIDTH), np.uint8) if bad else good(number)
            assert cv2.imwrite(str(folder / f"{number:03d}.png"), image)
        make_bundle(directory / "state")
        (directory / "line.toml").write_text(LINE.format(folder=folder))
        (directory / "gate.toml").write_text(GATE)
        self.gate_toml = load_gate(directory / "gate.toml")
        self.gate = GateReceiver(f"ipc://{directory}/gate.sock")
        self.announcer = Announcer(f"ipc://{directory}/present.sock")
        stack.callback(self.gate.close)
        stack.callback(self.announcer.close)
        self.said: list[Any] = []

    def process(self, *arguments: Any) -> subprocess.Popen[bytes]:
        command = [*ENTRY, *map(str, arguments)]
        process = subprocess.Popen(command, cwd=self.directory, stderr=subprocess.DEVNULL)
        self.stack.callback(end, process)
        return process

    def run(self) -> subprocess.Popen[bytes]:
        return self.process("run", "-c", "line.toml")

    def station(self, *failpoints: str) -> subprocess.Popen[bytes]:
        options = [option for point in failpoints for option in ("--failpoint", point)]
        return self.process("station", "-c", "gate.toml", *options)

    def status(self) -> dict[str, Any]:
        with (
            suppress(DeliveryError),
            ControlClient(self.gate_toml.control_endpoint, timeout_s=0.5) as control,
        ):
            return control.request("status")
        return {}

    def ready(self) -> dict[str, Any]:
        """Wait until the station runs with its link up, and the line's sensor reaches it."""
        self.until(lambda: self.status().get("state") == "RUNNING")
        assert self.announcer.wait()
        return self.status()

    def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, "it did not happen"
            self.said += self.gate.receive(0.02)

    def passed(self) -> set[str]:
        return {m.key for m in self.said if m.kind == "pass"}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        path = self.directory / "gate-state" / "station.db"
        if not path.exists():
            return []
        database = sqlite3.connect(path)
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            database.close()


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(20)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with ExitStack() as stack:
        yield Plant(tmp_path, stack)


def announce(plant: Plant, trigger: TriggerClient, *keys: str) -> None:
    """Parts come by the camera, and then by the station's sensor."""
    for key in keys:
        reply = trigger.send(key)
        assert reply.accepted, reply
        plant.announcer.present(key)
        time.sleep(0.1)  # their distance on the belt


@pytest.mark.parametrize(
    "point", ["act.before=kill@4", "act.after=kill@4", "commit.before=kill@6", "commit.after=kill@6"]
)
def test_good_parts_pass_bad_ones_do_not_and_a_killed_station_acts_on_nothing_twice(
    point: str, plant: Plant
) -> None:
    daemon, station = plant.run(), plant.station(f"station.{point}")
    plant.ready()
    keys = [f"A{number}" for number in range(6)]
    with TriggerClient(f"ipc://{plant.directory}/state/trigger.sock", 20.0) as trigger:
        announce(plant, trigger, *keys)
        plant.until(lambda: station.poll() is not None)
        assert station.returncode == -signal.SIGKILL
        second = plant.station()
        status = plant.ready()
        assert status["parts"] == 0
        more = [f"B{number}" for number in range(6)]
        announce(plant, trigger, *more)
        plant.until(lambda: len(plant.rows("SELECT 1 FROM actions WHERE key LIKE 'B%'")) == 6)
        plant.until(lambda: plant.status()["sources"]["main"]["acked"] is not None)
        plant.until(lambda: len(plant.rows("SELECT 1 FROM verdicts")) == 12)
    goods = {key for number, key in enumerate([*keys, *more]) if number % BAD_EVERY != BAD_EVERY - 1}
    assert plant.passed() <= goods, "a bad part passed"
    told = [m.key for m in plant.said if m.kind == "pass"]
    assert len(told) == len(set(told)), "a part was told twice"
    # Whatever was committed before the kill, every verdict is in the log once and in order.
    seqs = [seq for (seq,) in plant.rows("SELECT seq FROM verdicts ORDER BY rowid")]
    assert seqs == list(range(1, 13))
    acted = plant.rows("SELECT key, action FROM actions ORDER BY rowid")
    assert len(acted) == len({key for key, _ in acted}), "two actions for one part"
    replayed = plant.rows("SELECT part FROM verdicts WHERE NOT live")
    assert not {key for (key,) in replayed} & {key for key, action in acted if action == "pass"}
    passes = {key for key, action in acted if action == "pass"}
    assert passes <= goods and passes >= goods & set(more), acted
    refused = edge_ad("station", "-c", plant.directory / "gate.toml")
    assert refused.returncode == 5 and "pid" in refused.stderr
    second.terminate()
    assert second.wait(20) == 0
    daemon.terminate()
    assert daemon.wait(30) == 0


def test_a_killed_daemon_costs_good_parts_and_passes_no_bad_one(plant: Plant) -> None:
    daemon, station = plant.run(), plant.station()
    first = plant.ready()["sources"]["main"]["epoch"]
    endpoint = f"ipc://{plant.directory}/state/trigger.sock"
    with TriggerClient(endpoint, 20.0) as trigger:
        announce(plant, trigger, "A0", "A1", "A2")
        plant.until(lambda: len(plant.rows("SELECT 1 FROM verdicts")) == 3)
        daemon.kill()
        daemon.wait(20)
    plant.announcer.present("lost")
    plant.until(lambda: plant.status().get("state") == "LINK_DOWN")
    plant.run()
    status = plant.ready()
    assert status["sources"]["main"]["epoch"] > first
    with TriggerClient(endpoint, 20.0) as trigger:
        announce(plant, trigger, "B0", "B1", "B2")
        plant.until(lambda: len(plant.rows("SELECT 1 FROM actions")) == 7)
    acted = dict(plant.rows("SELECT key, action FROM actions"))
    assert acted["lost"] == acted["A2"] == acted["B2"] == "reject"
    assert (acted["B0"], acted["B1"]) == ("pass", "pass")
    assert station.poll() is None
    asked = edge_ad("station", "status", "-c", plant.directory / "gate.toml")
    assert asked.returncode == 0 and "line1: RUNNING, 7 parts" in asked.stdout
