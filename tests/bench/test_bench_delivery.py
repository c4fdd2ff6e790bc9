"""The bench of delivery as a command, on a small network: what it counts and how its figures add up."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tiny_backbone import write_tiny_backbone

from edge_ad.bench.delivery.result import spread

FRAMES = 210


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_ad", "bench", "--delivery", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("tiny")
    write_tiny_backbone(directory / "net")
    file = directory / "bench.json"
    size = ["--width", "320", "--height", "200", "--reject-rate", "0.1"]
    done = _bench("--backbone", str(directory / "net"), "--frames", str(FRAMES), *size,
                  "--json", str(file))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "trigger to action at the gate" in done.stdout
    data: dict[str, Any] = json.loads(file.read_text())
    return data


def test_each_is_measured_as_often_as_the_others(result: dict[str, Any]) -> None:
    quiet = result["quiet"]
    assert quiet["engine"]["count"] == FRAMES
    for name in ("inspector", "wire", "judged", "commit"):
        assert quiet[f"{name}_reject"]["count"] == FRAMES // 5
        assert quiet[f"{name}_pass"]["count"] == FRAMES - FRAMES // 5


def test_what_is_added_and_its_bound_are_of_the_medians(result: dict[str, Any]) -> None:
    quiet = result["quiet"]
    for decision in ("pass", "reject"):
        wire, alone = quiet[f"wire_{decision}"]["p50"], quiet[f"inspector_{decision}"]["p50"]
        assert quiet[f"added_{decision}"] == pytest.approx(wire - alone, abs=1e-3)
        assert quiet[f"judged_{decision}"]["p50"] < wire  # what is judged is not on the wire yet
    bound = 0.1 * quiet["engine"]["p50"] + quiet["commit_pass"]["p50"]
    assert quiet["bound"] == pytest.approx(bound, abs=1e-3)
    assert quiet["within"] == (quiet["added_pass"] <= quiet["bound"])


def test_every_part_has_its_verdict_and_its_action_at_the_gate(result: dict[str, Any]) -> None:
    loaded = result["loaded"]
    bad = FRAMES // 100 * 10  # the last ten of each hundred
    assert (loaded["good"], loaded["bad"]) == (FRAMES - bad, bad)
    assert loaded["wire_pass"]["count"] == FRAMES - bad
    assert loaded["wire_reject"]["count"] == bad
    assert loaded["action"]["count"] == loaded["lateness"]["count"] == FRAMES
    assert (loaded["without_action"], loaded["bad_passed"]) == (0, 0)
    # On a machine that stands still for longer than the belt is, good parts are rejected, and told.
    assert loaded["good_missed"] >= loaded["good"] - loaded["promised"]["count"]


def test_the_gate_acts_when_the_part_is_there(result: dict[str, Any]) -> None:
    loaded = result["loaded"]
    assert loaded["action"]["p10"] >= loaded["travel_ms"] - 4.0
    assert loaded["lateness"]["p10"] >= 0
    assert loaded["scrapes"] >= 1


def test_the_spread_is_of_percentiles() -> None:
    values = spread([1_000_000 * number for number in range(1, 1002)])
    assert (values.count, values.p10, values.p50, values.p99) == (1001, 101.0, 501.0, 991.0)
    assert (values.p999, values.longest) == (1000.0, 1001.0)
    assert spread([]).count == 0


@pytest.mark.parametrize(
    "option", [["--gpu"], ["--tiles", "2", "2"], ["--beside", "."], ["--precision", "f16"]]
)
def test_options_of_other_benches_are_refused(option: list[str]) -> None:
    done = _bench(*option, "--frames", "10")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert option[0] in done.stderr
