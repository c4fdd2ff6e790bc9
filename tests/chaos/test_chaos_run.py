"""The chaos run itself: daemon and station are killed, and nothing happens that must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_station import edge_ad

MUST_NOT = (
    "bad_passed", "wrong_part", "unanswered", "lost", "altered", "duplicated", "reordered",
    "good_rejected_outside_windows", "unexplained_rejects",
)  # fmt: skip


def chaos(directory: Path, timeout_s: float, **options: Any) -> dict[str, Any]:
    path = directory / "chaos.json"
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    done = edge_ad("chaos", *words, "--json", path, timeout=timeout_s)
    assert path.exists(), done.stderr
    result: dict[str, Any] = json.loads(path.read_text())
    assert {kind: result[kind] for kind in MUST_NOT} == dict.fromkeys(MUST_NOT, 0), result["examples"]
    assert result["triggers"] == result["gate_actions"] == options["parts"]
    assert result["bad_parts"] > 0 and result["wrong_triggers"] >= 8 and result["committed"] > 0
    short = any(result["kills"].get(victim, 0) < options["kills"] for victim in ("daemon", "station"))
    assert done.returncode == (1 if short else 0), done.stderr
    return result


@pytest.mark.timeout(600)
def test_a_short_run(tmp_path: Path) -> None:
    result = chaos(tmp_path, 580, parts=150, kills=2, seed=7, rate=12)
    # A machine that takes its time to start them has no time left for the second one.
    assert min(result["kills"].get(victim, 0) for victim in ("daemon", "station")) >= 1
    assert result["passed"] > 0


@pytest.mark.slow
@pytest.mark.alone  # a part that is 10 ms late is rejected
def test_ten_thousand_parts_and_thirty_kills_of_each(tmp_path: Path) -> None:
    result = chaos(tmp_path, 3500, parts=10_000, kills=30, seed=1)
    assert min(result["kills"]["daemon"], result["kills"]["station"]) >= 30
    assert result["passed"] > 3000
