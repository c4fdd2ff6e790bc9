"""The package in a booted Debian that has systemd, python3 and no network: installed, a line set up and
run, upgraded, rolled back by itself and by hand, removed, and the line moved on (slow)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from booted import CleanMachine, Machine, why_not
from debian_root import debian_root, why_no_root

from edge_ad.capture.aravis.library import PACKAGES as ARAVIS
from edge_ad.capture.gst.library import PACKAGES as GSTREAMER

UNIT, CALIBRATE = "edge-ad@line1", "edge-ad-calibrate@line1"
PROGRAM, LINE, STATE = "/usr/local/bin/edge-ad", "/etc/edge-ad/line1/line.toml", "/var/lib/edge-ad/line1"
CAMERA = "synthetic://?seed=1&width=320&height=240&fps=10&defect_rate=0.1"
VERSIONS = ("0.1.0", "0.2.0", "0.3.0")  # the last one does not get ready
SCRAPE = (
    "import urllib.request;"
    "print(urllib.request.urlopen('http://127.0.0.1:9570/metrics').read().decode())"
)
WAITING = (
    "import sqlite3;"
    f"print(sqlite3.connect('file:{STATE}/outbox.db?mode=ro', uri=True)"
    ".execute('SELECT min(rowid), count(*) FROM verdicts').fetchone())"
)

WHY_NOT = why_no_root() or why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]


@pytest.fixture(scope="module")
def packages(build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By version, unpacked. The first one as build.py makes it; the others have its wheels, but for
    edge_ad's own. With what cameras of Basler need."""
    base = tmp_path_factory.mktemp("packages")
    found = {VERSIONS[0]: _unpack(build.build(base, added=["basler"]))}
    for version in VERSIONS[1:]:
        wheels = base / f"wheels-{version}"
        source = build.copy_source(base / f"source-{version}")
        for name in ("pyproject.toml", "edge_ad/__init__.py"):
            text = (source / name).read_text()
            assert VERSIONS[0] in text
            (source / name).write_text(text.replace(VERSIONS[0], version))
        if version == VERSIONS[2]:
            (source / "edge_ad/cli/run.py").write_text("raise RuntimeError('this release is broken')\n")
        shutil.copytree(found[VERSIONS[0]] / "wheels", wheels)
        next(wheels.glob("edge_ad-*.whl")).unlink()
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(wheels), str(source)],
            check=True,
        )
        pip = next((found[VERSIONS[0]] / "pip").glob("*.whl"))
        found[version] = _unpack(build.assemble(wheels, pip, (*build.EXTRAS, "basler"), base))
    return found


def _unpack(archive: Path) -> Path:
    subprocess.run(["tar", "-xf", archive.name], cwd=archive.parent, check=True)
    return archive.parent / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def machine(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    base = tmp_path_factory.mktemp("machine")
    (base / "root").mkdir()
    archive = debian_root(tmp_path_factory, "systemd")
    subprocess.run(["tar", "-xf", str(archive), "-C", str(base / "root")], check=True)
    with CleanMachine(base / "over", base / "root") as one:
        for version, directory in packages.items():
            shutil.copytree(directory, one.path(f"/srv/{version}"))
        yield one


def install(machine: Machine, version: str, command: str, *, succeeds: bool = True) -> str:
    """Run the package's script."""
    said = machine.run(f"/srv/{version}/install.sh", command, check=succeeds, timeout_s=300)
    if not succeeds:
        assert "error: " in said
    return said


def in_use(machine: Machine) -> tuple[str, str]:
    """The release that is in use, and the one that the daemon runs."""
    pid = machine.show(UNIT, "MainPID")
    shown = machine.run("cat", f"/proc/{pid}/cmdline").split("\0")
    return machine.path("/opt/edge-ad/current").readlink().name, shown[0].split("/")[4]


def bundle(machine: Machine) -> str:
    return str(machine.path(f"{STATE}/bundles/default/current").readlink())


def waiting(machine: Machine) -> tuple[int, int]:
    """The oldest verdict that waits, and how many do."""
    first, count = machine.run("/opt/edge-ad/current/bin/python", "-c", WAITING).strip("()").split(",")
    return int(first), int(count)


def scrape(machine: Machine) -> str:
    return machine.run("/opt/edge-ad/current/bin/python", "-c", SCRAPE)


def change(machine: Machine, old: str, new: str) -> None:
    text = machine.path(LINE).read_text()
    assert old in text, old
    machine.path(LINE).write_text(text.replace(old, new, 1))


def test_a_line_lives_through_its_releases(machine: Machine) -> None:
    assert machine.run("ls", "/sys/class/net").split() == ["lo"]
    for absent in ("pip", "cc", "git", "dbus-daemon"):  # or the machine shows less than it should
        assert not machine.run("sh", "-c", f"command -v {absent}", check=False)
    said = install(machine, "0.1.0", "install")
    assert "release 0.1.0 is in use" in said
    assert "is there already" in install(machine, "0.1.0", "install")
    assert "release 0.1.0 is installed; 'install.sh upgrade'" in install(
        machine, "0.2.0", "install", succeeds=False
    )

    # Pylon is in the package; of what else cameras need, Debian's packages are named.
    grab = (PROGRAM, "camera", "grab", "-o", "/srv/part.png", "--uri")
    assert "1024 x 1040 grey" in machine.run("env", "PYLON_CAMEMU=1", *grab, "basler://0815-0000")
    for uri, packages in (("genicam://", ARAVIS), ("gst://videotestsrc", GSTREAMER)):
        assert f"apt-get install {packages}" in machine.run(*grab, uri, check=False)

    machine.run(PROGRAM, "init", "--service", "line1")
    change(machine, '\nuri = "v4l2:///dev/video0"', f'\nuri = "{CAMERA}"')
    change(machine, "\n#min_free = 0.05", "\nmin_free = 0.0")
    change(machine, "\n#threads = 0", "\nthreads = 1")
    change(machine, "\n#consumers = []", '\nconsumers = ["gate"]')
    machine.path("/etc/edge-ad/line1/calibrate.env").write_text("EDGE_AD_CALIBRATE=--parts 40\n")
    machine.run("systemctl", "enable", "--now", UNIT)
    machine.run("systemctl", "start", CALIBRATE, timeout_s=300)
    first = bundle(machine)
    machine.wait(lambda: 'edge_ad_state{state="RUNNING"} 1.0' in scrape(machine))
    assert 'version="0.1.0"' in scrape(machine)
    machine.wait(lambda: waiting(machine)[1] > 20)

    before = waiting(machine)
    assert f"starting anew: {UNIT}.service" in install(machine, "0.2.0", "upgrade")
    assert in_use(machine) == ("0.2.0", "0.2.0")
    assert 'version="0.2.0"' in scrape(machine)
    after = waiting(machine)
    assert (bundle(machine), after[0]) == (first, before[0]) and after[1] >= before[1]
    assert machine.run("ls", f"{STATE}/calibration/default/frames").count("png") == 40

    # One that does not get ready is left by itself.
    said = install(machine, "0.3.0", "upgrade", succeeds=False)
    assert "this release is broken" in said
    assert "release 0.3.0 did not get ready; 0.2.0 is in use again" in said
    assert in_use(machine) == ("0.2.0", "0.2.0")
    assert machine.show(UNIT, "ActiveState") == "active"

    before = waiting(machine)
    machine.run("/opt/edge-ad/install.sh", "rollback")
    assert in_use(machine) == ("0.1.0", "0.1.0")
    after = waiting(machine)
    assert (bundle(machine), after[0]) == (first, before[0]) and after[1] >= before[1]
    machine.wait(lambda: 'edge_ad_state{state="RUNNING"} 1.0' in scrape(machine))

    # And on to a spare PC, which this one is once everything is removed.
    machine.run(PROGRAM, "backup", "-c", LINE, "/srv/line1.tar.zst")
    kept = install(machine, "0.1.0", "uninstall")
    assert "stations are kept" in kept and bundle(machine) == first
    machine.run("/srv/0.1.0/install.sh", "uninstall", "--purge")
    for path in ("/opt/edge-ad", "/etc/edge-ad", "/var/lib/edge-ad", PROGRAM):
        assert not machine.path(path).exists(), path
    assert not machine.run("systemctl", "list-units", "--plain", "--no-legend", "edge-ad*")
    install(machine, "0.1.0", "install")
    said = machine.run(PROGRAM, "restore", "/srv/line1.tar.zst", "--service", "line1")
    assert "station line1 as of" in said
    machine.run("systemctl", "enable", "--now", UNIT)
    machine.wait(lambda: 'edge_ad_state{state="RUNNING"} 1.0' in scrape(machine))
    assert bundle(machine) == first and waiting(machine)[1] >= after[1]
