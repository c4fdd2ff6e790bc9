"""A line without keys: the real daemon, whose camera is triggered by the line and loses frames, and the
station, whose sensor misses parts too. Only time and counts say which verdict is whose."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from test_station_end_to_end import GATE, Plant
from tiny_bundle import HEIGHT, WIDTH

from edge_ad.capture.parts import part_dropped
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.scores import ScoreSubscriber
from edge_ad.delivery.station.messages import LineMessage

PITCH_MS = 100
DROP = 0.02
MISSED = 70  # of the parts the sensor misses every so many
URI = f"synthetic://?seed=1&width={WIDTH}&height={HEIGHT}&defect_rate=0.2&fps={1000 / PITCH_MS}"
LINE = f"""schema = 1
station = "line1"
state_dir = "state"
deadline_ms = 20000.0
[[camera]]
name = "top"
uri = "{URI}&drop={DROP}"
[trigger]
kind = "line"
[verdicts]
consumers = ["gate"]
[scores]
endpoint = "tcp://127.0.0.1:0"
[metrics]
port = 0
[evidence]
keep = "none"
min_free = 0.0
"""
TIMED = """deadline_ms = 1400.0
[identity]
key = "time"
match_ms = 20.0
resync_parts = 2
"""


class Sensor:
    """Sees the parts that the camera is triggered for: when, the daemon's scores say, and in the middle
    between two, where frames were lost. `saw`: the camera's count of each part that it told of."""

    def __init__(self, plant: Plant, scores: ScoreSubscriber) -> None:
        self.plant, self.scores = plant, scores
        self.saw: list[int] = []
        self.missed: list[int] = []
        self._last: tuple[int, int] | None = None  # count, when

    def look(self) -> None:
        message = self.scores.receive(0.05)
        if message is None or message[2].reason == "no_frame":
            return
        count, t_ns = message[1].count, message[1].t_trigger_ns
        assert count is not None
        before, then = self._last or (count - 1, t_ns)
        self._last = (count, t_ns)
        for number in range(before + 1, count + 1):
            if number % MISSED == MISSED // 2:
                self.missed.append(number)
                continue
            at = then + (t_ns - then) * (number - before) // (count - before)
            self.saw.append(number)
            assert self.plant.announcer.send(LineMessage(t_ns=at))


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with ExitStack() as stack:
        made = Plant(tmp_path, stack)
        (tmp_path / "line.toml").write_text(LINE)
        text = GATE.replace("deadline_ms = 1400.0\n[identity]\nhold_ms = 10000.0\n", TIMED)
        assert "time" in text
        (tmp_path / "gate.toml").write_text(text)
        yield made


def passed_around(passed: set[int], lost: set[int]) -> int:
    """How many of the lost have parts that passed on either side."""
    return sum(bool(passed) and min(passed) < number < max(passed) for number in lost)


@pytest.mark.timeout(240)
def test_only_by_time_and_counts_no_part_passes_by_the_verdict_of_another(plant: Plant) -> None:
    plant.run()
    plant.station()
    plant.until(lambda: plant.status().get("state") == "RESYNC")
    assert plant.announcer.wait()
    control = ControlClient(f"ipc://{plant.directory}/state/control.sock")
    plant.stack.callback(control.close)
    scores = plant.stack.enter_context(ScoreSubscriber(control.request("status")["scores"]))
    scores.sync(control)
    sensor = Sensor(plant, scores)

    def acted(action: str) -> dict[int, str]:
        rows = plant.rows(f"SELECT number, verdicts FROM actions WHERE action = '{action}'")
        return {sensor.saw[number - 1]: verdicts for number, verdicts in rows}

    def is_lost(count: int) -> bool:
        return part_dropped(1, count - 1, 0, DROP)

    def enough() -> bool:
        passed = set(acted("pass"))
        lost = {count for count in sensor.saw if is_lost(count)}
        return passed_around(passed, lost) >= 2 and passed_around(passed, set(sensor.missed)) >= 1

    end = time.monotonic() + 200
    looked = 0.0
    while time.monotonic() < looked or not enough():
        assert time.monotonic() < end, (sensor.saw[-1:], sorted(acted("pass")))
        if time.monotonic() >= looked:
            looked = time.monotonic() + 0.5
        sensor.look()
        plant.gate.receive(0)

    passes, rejects = acted("pass"), acted("reject")
    assert not passes.keys() & rejects.keys()
    assert not [count for count in passes if is_lost(count)]
    said = {
        (epoch, seq): (json.loads(header)["count"], verdict)
        for epoch, seq, header, verdict in plant.rows("SELECT epoch, seq, header, verdict FROM verdicts")
    }
    for count, verdicts in passes.items():
        ((_, epoch, seq),) = json.loads(verdicts)
        assert said[epoch, seq] == (count, "PASS")
    assert {verdict for _, verdict in said.values()} == {"PASS", "REJECT", "FAULT"}
    whys = {why for (why,) in plant.rows("SELECT DISTINCT why FROM actions WHERE action = 'reject'")}
    assert {"not_pass", "unsynced"} <= whys
    assert len(plant.rows("SELECT 1 FROM events WHERE kind = 'resync main'")) >= 4
