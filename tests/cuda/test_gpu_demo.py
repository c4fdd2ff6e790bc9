"""The demo on a GPU, with stand-ins for driver and TensorRT."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gpu_programs import edge_ad, stand_in_for_tensorrt
from tiny_backbone import write_tiny_backbone

pytestmark = pytest.mark.fake_driver


@pytest.fixture(scope="module", autouse=True)
def tensorrt(fake_library: Path) -> None:
    stand_in_for_tensorrt()


def demo(directory: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any], set[str]]:
    """The demo on TensorRT: how it ended, its result, and by the journal which engines judged."""
    write_tiny_backbone(directory / "net")
    out, keep = directory / "out.json", directory / "keep"
    done = edge_ad(
        "demo", "--engine", "tensorrt", "--backbone", directory / "net", "--parts", 60,
        "--good-parts", 60, "--fps", 10, "--defect-rate", 0.3, "--json", out, "--keep", keep,
    )  # fmt: skip
    assert out.exists(), done.stdout + done.stderr
    journal = [json.loads(line) for line in (keep / "journal.jsonl").read_text().splitlines()]
    judged = [one["body"] for one in journal if one["body"]["verdict"] in ("PASS", "REJECT")]
    return done, json.loads(out.read_text()), {body["engine"] for body in judged}


def test_the_whole_line_on_tensorrt(tmp_path: Path) -> None:
    done, result, engines = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result["ok"] is True
    assert result["engine"] == "tensorrt-f16"
    assert engines == set(result["judged_by"]) == {"tensorrt-f16"}
    assert list((tmp_path / "keep/state/engines").glob("*/engine.plan"))
    assert "TensorRT's engine for this card" in done.stdout


def test_a_line_that_falls_back_to_the_cpu_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_NO_MEMORY_FOR", "run")
    done, result, engines = demo(tmp_path)
    assert engines == set(result["judged_by"]) == {"openvino-f32"}
    assert done.returncode == 1
    assert result["ok"] is False
    (problem,) = result["problems"]
    count = sum(result["judged_by"].values())
    assert re.match(rf"{count} parts did not go to tensorrt-f16 but {count} to openvino-f32; ", problem)
    assert problem in done.stderr
    assert "tiny, openvino-f32" in done.stdout
