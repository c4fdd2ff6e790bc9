"""The demo as a user runs it, shortened, on a network small enough for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tiny_backbone import write_tiny_backbone


@pytest.fixture
def short() -> Iterator[Path]:
    """Where the demo works: the names of sockets may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as directory:
        yield Path(directory)


def demo(backbone: Path, tmp: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_ad", "demo", "--backbone", str(backbone), *options],
        env={**os.environ, "TMPDIR": str(tmp)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_whole_line_end_to_end(tmp_path: Path, short: Path) -> None:
    write_tiny_backbone(tmp_path / "net")
    out, svg, keep = tmp_path / "out.json", tmp_path / "demo.svg", tmp_path / "keep"
    done = demo(
        tmp_path / "net", short, "--parts", "120", "--good-parts", "60", "--fps", "60",
        "--defect-rate", "0.3", "--plc", "25", "--json", str(out), "--svg", str(svg),
        "--keep", str(keep),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert result["ok"] is True and result["problems"] == []
    assert result["parts"] >= 120
    assert sum(result["verdicts"].values()) == result["parts"]
    assert result["good_parts"] + result["defective_parts"] == result["parts"]
    assert result["defective_parts"] > 0
    assert sum(sum(row.values()) for row in result["confusion"].values()) == result["parts"]
    assert result["false_rejects"] == result["confusion"]["good"].get("REJECT", 0)
    assert 0 <= result["missed_defects"] <= result["defective_parts"]
    detection = result["detection"]
    assert detection["parts"] == detection["detected"] + detection["missed"] == 100
    assert 0 <= detection["confident"] <= detection["rate"]
    _, high = result["promised_false_rejects"]
    assert result["false_rejects"] <= high
    agreement = result["agreement"]
    assert agreement["daemon"] == agreement["consumer"] >= result["parts"] + 60
    assert result["metrics_parts"] >= result["parts"]
    assert result["calibration_parts"] == 60
    assert result["engine"] == "openvino-f32"
    assert set(result["judged_by"]) == {"openvino-f32"}
    plc = result["plc"]
    assert plc["triggers"] == sum(plc["results"].values()) == sum(plc["gate"].values()) == 25
    assert plc["gate"]["passed"] <= plc["results"]["PASS"] and plc["results"]["NONE"] == 0
    assert "25 triggers, each one result" in done.stdout
    assert "Daemon and consumer agree part by part" in done.stdout
    assert "Traceback" not in done.stderr
    picture = svg.read_text()
    assert picture.startswith("<svg")
    assert 'url("http' not in picture  # looking at it fetches nothing
    journal = (keep / "journal.jsonl").read_text().splitlines()
    assert len(journal) >= agreement["daemon"]
    assert list(short.iterdir()) == []


def test_a_step_that_fails_is_told_in_its_own_words(tmp_path: Path, short: Path) -> None:
    """The calibration cannot succeed on a graph that the engine refuses."""
    import hashlib

    write_tiny_backbone(tmp_path / "net")
    onnx, spec = tmp_path / "net" / "backbone.onnx", tmp_path / "net" / "backbone.json"
    old = hashlib.sha256(onnx.read_bytes()).hexdigest()
    onnx.write_bytes(b"no graph")
    spec.write_text(spec.read_text().replace(old, hashlib.sha256(b"no graph").hexdigest()))
    done = demo(tmp_path / "net", short, "--parts", "10", "--good-parts", "20", "--fps", "60")
    assert done.returncode == 1
    assert "'edge-ad calibrate' ended with exit code" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(short.iterdir()) == []  # nothing is left behind, no process holds it


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_stopped_leaves_no_process_behind(
    stop: signal.Signals, tmp_path: Path, short: Path
) -> None:
    write_tiny_backbone(tmp_path / "net")
    # A shell starts background jobs with SIGINT ignored, and Python then leaves it so.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "edge_ad", "demo"]
    command += ["--backbone", str(tmp_path / "net")]
    running = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(short)}, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("listen"):
            break
    children = psutil.Process(running.pid).children(recursive=True)
    assert children
    running.send_signal(stop)
    assert running.wait(60) in (143, 130)
    running.stdout.close()
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert list(short.iterdir()) == []


@pytest.mark.parametrize("case", ["missing backbone", "directory in use"])
def test_wrong_use_is_refused_before_anything_starts(case: str, tmp_path: Path, short: Path) -> None:
    write_tiny_backbone(tmp_path / "net")
    if case == "missing backbone":
        done = demo(tmp_path / "none", short)
        assert (done.returncode, "no backbone here" in done.stderr) == (3, True)
    else:
        done = demo(tmp_path / "net", short, "--keep", str(tmp_path / "net"))
        assert (done.returncode, "is not empty" in done.stderr) == (2, True)
