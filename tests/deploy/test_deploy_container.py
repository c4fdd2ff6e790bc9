"""The container: built from the package without a registry, and its line run as it says (slow)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from debian_root import debian_root, why_no_root

from edge_ad.capture.aravis.library import PACKAGES as ARAVIS
from edge_ad.capture.gst.library import PACKAGES as GSTREAMER

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILE = DEPLOY / "container" / "Containerfile"
LINE = """\
schema = 1
station = "line1"
state_dir = "/var/lib/edge-ad"
[[camera]]
name = "top"
uri = "synthetic://?seed=1&width=320&height=240&fps=10"
[engine]
threads = 1
[scores]
endpoint = "tcp://127.0.0.1:0"
[metrics]
port = 0
"""
# By a camera's URI: what it needs of Debian, which README.md says too.
CAMERAS = {"gst://videotestsrc": GSTREAMER, "genicam://": ARAVIS}


def test_it_copies_only_what_the_package_has() -> None:
    build = (DEPLOY / "package" / "build.py").read_text()
    sources = [
        source
        for line in FILE.read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert len(sources) == 6
    assert [source for source in sources if f'"{source}"' not in build] == []


class Buildah:
    """With images and containers of its own, below a directory."""

    def __init__(self, directory: Path) -> None:
        # Neither a file system nor a runtime that a machine may lack.
        self._command = [
            "buildah", "--root", str(directory / "images"), "--runroot", str(directory / "run"),
            "--storage-driver", "vfs",
        ]  # fmt: skip
        self.environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "BUILDAH_FORMAT": "docker"}

    def arguments(self, *arguments: str) -> list[str]:
        return [*self._command, *arguments]

    def __call__(self, *arguments: str, network: bool = True, succeeds: bool = True) -> str:
        """What it says; where it is to fail, also of why."""
        # Its own --network is of no effect without a runtime.
        alone = [] if network else ["unshare", "--net"]
        done = subprocess.run(
            [*alone, *self.arguments(*arguments)], env=self.environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode == 0) is succeeds, f"{arguments}: {done.stdout}{done.stderr}"
        return (done.stdout + ("" if succeeds else done.stderr)).strip()


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    why_not = why_no_root() or ("" if shutil.which("buildah") else "no buildah; apt-get install buildah")
    if why_not:
        pytest.skip(why_not)
    one = Buildah(tmp_path)
    yield one
    one("rm", "--all")
    shutil.rmtree(tmp_path / "images")  # some GB


@pytest.mark.slow
def test_it_is_built_from_the_package_and_runs_a_line(
    build: ModuleType, buildah: Buildah, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = buildah("from", "scratch")
    buildah("add", empty, str(debian_root(tmp_path_factory)), "/")
    buildah("commit", "-q", empty, "base")
    archive = build.build(tmp_path)
    subprocess.run(["tar", "-xf", str(archive)], cwd=tmp_path, check=True)
    context = str(tmp_path / archive.name.removesuffix(".tar.gz"))
    base = ("bud", "-q", "--build-arg", "BASE=localhost/base")
    buildah(*base, "-t", "edge-ad", context, network=False)

    about: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", "edge-ad"))["Docker"][
        "config"
    ]
    assert (about["User"], about["Volumes"]) == ("edge-ad", {"/var/lib/edge-ad": {}})
    assert about["Entrypoint"] + about["Cmd"] == ["edge-ad", "run", "-c", "/etc/edge-ad/line.toml"]
    health = about["Healthcheck"]["Test"]

    container = buildah("from", "edge-ad")
    (tmp_path / "line.toml").write_text(LINE)
    (tmp_path / "line.toml").chmod(0o644)
    buildah("copy", container, str(tmp_path / "line.toml"), "/etc/edge-ad/line.toml")
    run = ("run", container, "--")
    assert buildah(*run, "id", "-un") == "edge-ad"
    daemon = subprocess.Popen(
        buildah.arguments(*run, *about["Entrypoint"], *about["Cmd"]), env=buildah.environment,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while _asked(buildah, *run, *health[1:]) != 0:
            assert time.monotonic() < end and daemon.poll() is None
            time.sleep(1)
        buildah(*run, "edge-ad", "calibrate", "-c", "/etc/edge-ad/line.toml", "--parts", "30")
        assert buildah(*run, *health[1:]).startswith("line1: RUNNING")
    finally:
        # The daemon itself: a container of the kind that needs no runtime passes no signal on.
        pid = json.loads(buildah(*run, "edge-ad", "status", "-c", "/etc/edge-ad/line.toml", "--json"))[
            "pid"
        ]
        subprocess.run(["kill", str(pid)], check=True)
        assert daemon.wait(60) == 0
    assert _asked(buildah, *run, *health[1:]) != 0  # unhealthy once it is gone

    # What cameras need is not in it, is named, and can be added.
    grab = ("edge-ad", "camera", "grab", "-o", "part.png", "--uri")
    for uri, packages in CAMERAS.items():
        assert f"apt-get install {packages}" in buildah(*run, *grab, uri, succeeds=False)
    added = f"PACKAGES={' '.join(CAMERAS.values())}"
    buildah(*base, "--build-arg", added, "-t", "edge-ad-cameras", context)
    run = ("run", buildah("from", "edge-ad-cameras"), "--")
    assert buildah(*run, "id", "-un") == "edge-ad"
    assert "320 x 240" in buildah(*run, *grab, "gst://videotestsrc ! video/x-raw,width=320,height=240")
    said = buildah(*run, *grab, "genicam://", network=False, succeeds=False)
    assert "No supported device found" in said  # says Aravis


def _asked(buildah: Buildah, *arguments: str) -> int:
    return subprocess.run(
        buildah.arguments(*arguments), env=buildah.environment, capture_output=True, check=False
    ).returncode
