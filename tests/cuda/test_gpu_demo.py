"""The demo on a GPU, with stand-ins for driver and TensorRT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gpu_programs import edge_ad, stand_in_for_tensorrt
from tiny_backbone import write_tiny_backbone

pytestmark = pytest.mark.fake_driver


@pytest.fixture(scope="module", autouse=True)
def tensorrt(fake_library: Path) -> None:
    stand_in_for_tensorrt()


def test_the_whole_line_on_tensorrt(tmp_path: Path) -> None:
    write_tiny_backbone(tmp_path / "net")
    out, keep = tmp_path / "out.json", tmp_path / "keep"
    done = edge_ad(
        "demo", "--engine", "tensorrt", "--backbone", tmp_path / "net", "--parts", 60,
        "--good-parts", 60, "--fps", 10, "--defect-rate", 0.3, "--json", out, "--keep", keep,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert result["ok"] is True
    assert result["engine"] == "tensorrt-f16"
    journal = [json.loads(line) for line in (keep / "journal.jsonl").read_text().splitlines()]
    judged = [one["body"] for one in journal if one["body"]["verdict"] in ("PASS", "REJECT")]
    assert judged
    assert {body["engine"] for body in judged} == {"tensorrt-f16"}
    assert list((keep / "state/engines").glob("*/engine.plan"))
    assert "TensorRT's engine for this card" in done.stdout
