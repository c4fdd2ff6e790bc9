"""The bench as a command, on a small network: what it counts and what its figures mean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.spec import load_backbone
from edge_ad.bench.trial import make_trial
from edge_ad.bundle import open_bundle
from edge_ad.capture.source import open_source
from edge_ad.inspector import load

FRAMES = 200


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_ad", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("tiny")
    write_tiny_backbone(directory / "net")
    write_tiny_backbone(directory / "other", size=96)
    file = directory / "bench.json"
    size = ["--width", "320", "--height", "200", "--reject-rate", "0.1"]
    nets = ["--backbone", str(directory / "net"), "--beside", str(directory / "other")]
    done = _bench(*nets, "--frames", str(FRAMES), *size, "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "ratio" in done.stdout
    data: dict[str, Any] = json.loads(file.read_text())
    return data


def test_the_figures_at_the_top_are_the_loaded_ones(result: dict[str, Any]) -> None:
    for key in (
        "engine_p50_ms", "path_p50_ms", "path_p99_ms", "path_p999_ms", "ratio_p50", "dropped",
    ):  # fmt: skip
        assert result[key] == result["loaded"][key]
    assert (result["frames"], result["width"], result["height"]) == (FRAMES, 320, 200)
    assert result["threads"] >= 1
    assert result["input"] == "64 x 64"
    assert result["engine"] == "tiny at 96 x 96"


@pytest.mark.parametrize("run", ["quiet", "loaded"])
def test_the_path_holds_its_stages(result: dict[str, Any], run: str) -> None:
    figures = result[run]
    assert figures["ratio_p50"] == pytest.approx(
        figures["path_p50_ms"] / figures["engine_p50_ms"], rel=2e-3
    )
    for key in ("preprocess", "scoring", "verdict", "hand_over"):
        assert 0 < figures[f"{key}_p50_ms"] < figures["path_p50_ms"]
    ordered = [figures[f"path_{key}_ms"] for key in ("p50", "p99", "p999", "max")]
    assert ordered == sorted(ordered)


def test_every_part_arrives_and_the_share_asked_for_is_rejected(result: dict[str, Any]) -> None:
    for run in ("quiet", "loaded"):
        assert result[run]["dropped"] == 0
        assert result[run]["reject_share"] == pytest.approx(0.1, abs=0.01)
    assert result["loaded"]["scrapes"] >= 1
    assert result["loaded"]["scrape_ms"] > 0
    assert result["quiet"]["scrapes"] == 0


@pytest.mark.parametrize(("rate", "rejected"), [(0.0, 0), (0.05, 2), (0.5, 20)])
def test_the_trial_rejects_the_share_asked_for(tmp_path: Path, rate: float, rejected: int) -> None:
    backbone = write_tiny_backbone(tmp_path / "tiny")
    trial = make_trial(tmp_path, backbone, (320, 200), 40, rate, threads=1)
    state = trial.station.state_path
    inspector = load(state / "bundles" / trial.station.product / "current")
    source = open_source(trial.station.camera[0], Path())
    source.open()
    images = []
    while (frame := source.read()) is not None:
        assert frame.image is not None
        images.append(frame.image)
    assert sum(not inspector.inspect(image).passed for image in images) == rejected
    assert len(np.unique(images, axis=0)) == 40
    assert (
        open_bundle(inspector.bundle.path).manifest.backbone.sha256
        == load_backbone(tmp_path / "tiny").sha256
    )


def test_a_backbone_that_is_not_there_is_one_line() -> None:
    done = _bench("--backbone", "/nowhere", "--frames", "10")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
