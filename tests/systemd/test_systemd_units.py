"""The units as text: what systemd says of them without being booted."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "systemd").glob("*.service"))
PROGRAM = "/opt/edge-ad/bin/edge-ad"
# What a unit has of its own; in everything else they are alike.
OWN = {
    "Description", "After", "StartLimitIntervalSec", "Type", "Environment", "EnvironmentFile",
    "ExecStart", "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus", "TimeoutStartSec",
    "TimeoutStopSec", "WatchdogSec", "Nice", "CPUWeight", "OOMScoreAdjust", "OOMPolicy",
    "IOSchedulingClass",
    "MemoryDenyWriteExecute", "DeviceAllow", "BindPaths", "CacheDirectory", "WantedBy",
}  # fmt: skip


def version() -> int:
    """Of systemd-analyze; 0 without one."""
    if not shutil.which("systemd-analyze"):
        return 0
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[1])


needs_systemd = pytest.mark.skipif(
    version() < 250,
    reason="needs systemd 250 or later, to check units strictly: apt-get install systemd",
)


@pytest.fixture(params=UNITS, ids=lambda path: path.name)
def unit(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@needs_systemd
def test_systemd_knows_every_key_and_value(unit: Path, tmp_path: Path) -> None:
    program = tmp_path / "edge-ad"
    program.touch(0o755)
    for other in UNITS:  # one orders itself after another
        (tmp_path / other.name).write_text(other.read_text().replace(PROGRAM, str(program)))
    done = subprocess.run(
        ["systemd-analyze", "--man=no", "--recursive-errors=yes", "verify",
         str(tmp_path / unit.name.replace("@", "@line1"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_it_is_exposed_to_little(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    level = re.search(r"Overall exposure level for .*: ([\d.]+) OK", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= 1.8


def test_all_are_alike_but_for_what_each_is_for() -> None:
    first, *others = [
        [line for line in path.read_text().splitlines() if "=" in line and line.split("=")[0] not in OWN
         and not line.startswith("#")]
        for path in UNITS
    ]  # fmt: skip
    assert first
    assert all(other == first for other in others)


def test_what_runs_for_ever_is_watched_and_comes_back(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    if "Type=oneshot" in lines:
        return
    for line in ("Type=notify", "Restart=always", "StartLimitIntervalSec=0", "WatchdogSec=10"):
        assert line in lines
    assert "RestartPreventExitStatus=2 3" in lines  # wrong configuration, refused artifact
