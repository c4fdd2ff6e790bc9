"""The package for a PC without a network: what is in it, and what its install.sh does on a made-up
machine. (tests/systemd/test_systemd_package.py installs the real one under a real systemd.)"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from made_up_package import SYSTEMCTL, MadeUp, unpack, write_wheels

PACKAGE = Path(__file__).resolve().parents[2] / "deploy" / "package"
UNIT = "edge-ad@line1.service"


@pytest.fixture(scope="module")
def packages(
    build: ModuleType, pip_wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """By version, packed."""
    base = tmp_path_factory.mktemp("packages")
    return {
        version: build.assemble(write_wheels(base / version, version), pip_wheel, ("gpio",), base)
        for version in ("1.0", "1.1")
    }


def test_the_bill_of_materials_is_cyclonedx_and_complete(build: ModuleType, tmp_path: Path) -> None:
    bill = build.bill_of_materials(write_wheels(tmp_path, "1.0"), ("gpio",))
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(bill)) is None
    product = bill["metadata"]["component"]
    components = {one["name"]: one for one in (product, *bill["components"])}
    assert {name: one["version"] for name, one in components.items()} == {
        "edge-ad": "1.0", "plain-one": "1.5", "gear": "3.0",
    }  # fmt: skip
    for path in tmp_path.glob("*.whl"):
        name = path.name.split("-")[0].replace("_", "-")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert components[name]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert [components[n].get("licenses") for n in ("edge-ad", "plain-one", "gear")] == [
        [{"expression": "Apache-2.0"}], [{"license": {"name": "BSD License"}}],
        [{"license": {"name": "MIT"}}],
    ]  # fmt: skip
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert needs == {
        "pkg:pypi/edge-ad@1.0": ["pkg:pypi/gear@3.0", "pkg:pypi/plain-one@1.5"],
        "pkg:pypi/plain-one@1.5": ["pkg:pypi/gear@3.0"],
        "pkg:pypi/gear@3.0": [],
    }
    with (
        pytest.raises(ValueError, match="is no wheel"),
        zipfile.ZipFile(tmp_path / "x.whl", "w") as none,
    ):
        none.close()
        build.read_wheel(tmp_path / "x.whl")


def test_the_archive_has_everything_with_its_hash_and_is_made_the_same_again(
    build: ModuleType, pip_wheel: Path, packages: dict[str, Path], tmp_path: Path
) -> None:
    archive = packages["1.0"]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert archive.name == f"edge-ad-1.0-py{python}-{platform.machine()}.tar.gz"
    root = unpack(archive, tmp_path)
    lines = (root / "SHA256SUMS").read_text().splitlines()
    said = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    files = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
    assert said == {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if name != "SHA256SUMS"
    }
    assert {"install.sh", "LICENSE", "sbom.cdx.json", "systemd/edge-ad@.service"} <= set(files)
    requirements = (root / "requirements.txt").read_text().splitlines()
    assert [line.split(" --hash=sha256:")[0] for line in requirements] == [
        "edge-ad[gpio]==1.0", "gear==3.0", "plain-one==1.5",
    ]  # fmt: skip
    assert not any("://" in files[name].read_text() for name in ("requirements.txt", "PACKAGE"))
    again = build.assemble(root / "wheels", pip_wheel, ("gpio",), tmp_path)
    with tarfile.open(archive) as one, tarfile.open(again) as other:
        facts = [
            [(m.name, m.size, m.mode, m.mtime, m.uid, m.uname) for m in tar] for tar in (one, other)
        ]
    assert facts[0] == facts[1]
    next((root / "wheels").glob("gear*")).unlink()
    with pytest.raises(subprocess.CalledProcessError):
        build.assemble(root / "wheels", pip_wheel, ("gpio",), tmp_path)


@pytest.fixture(scope="module")
def unpacked(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("unpacked")
    return {version: unpack(archive, base) for version, archive in packages.items()}


def test_shellcheck_has_nothing_to_say() -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck; apt-get install shellcheck")
    done = subprocess.run(
        [program, str(PACKAGE / "install.sh")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_from_the_first_release_to_the_last_uninstall(
    made_up: MadeUp, unpacked: dict[str, Path]
) -> None:
    line, first, second = made_up.station(), unpacked["1.0"], unpacked["1.1"]
    kept = made_up.root / "var/lib/edge-ad/line1/outbox.db"
    kept.parent.mkdir(parents=True)
    kept.touch()

    done = made_up.install(first, "install")
    assert done.returncode == 0, done.stderr
    assert made_up.in_use == "1.0"
    root = f"--root={made_up.root}"
    assert {f"systemd-sysusers {root} edge-ad.conf", "daemon-reload"} <= set(made_up.asked)
    units = made_up.root / "etc/systemd/system"
    assert sorted(p.name for p in units.iterdir()) == sorted(
        p.name for p in (first / "systemd").glob("*.service")
    )
    # Units name /opt/edge-ad/bin/edge-ad, whatever the release is.
    assert (
        (made_up.prefix / "bin" / "edge-ad")
        .resolve()
        .is_relative_to(made_up.prefix / "releases" / "1.0")
    )

    # Once more: nothing is installed or started anew.
    written = (made_up.prefix / "releases/1.0/pyvenv.cfg").stat().st_mtime_ns
    made_up.tell("running", f"{UNIT} loaded active running\n")
    done = made_up.install(first, "install")
    assert done.returncode == 0 and "is there already" in done.stdout
    assert (made_up.prefix / "releases/1.0/pyvenv.cfg").stat().st_mtime_ns == written
    assert not [line for line in made_up.asked if "restart" in line]
    assert "there is no release before this one" in made_up.install(first, "rollback").stderr

    # A station that the new release cannot run, and a calibration: nothing is changed.
    line.write_text("not for 1.1\n")
    done = made_up.install(second, "upgrade")
    assert (
        done.returncode == 1 and "not with 1.1" in done.stderr and "nothing has changed" in done.stderr
    )
    line.write_text("schema = 1\n")
    made_up.tell("calibrating", "edge-ad-calibrate@line1.service loaded activating start\n")
    assert "a calibration is running" in made_up.install(second, "upgrade").stderr
    made_up.tell("calibrating", "")
    assert (made_up.in_use, [c for c in made_up.asked if "restart" in c]) == ("1.0", [])

    # One that does not get ready: back to the old one, and that is started.
    made_up.tell("broken", "1.1\n")
    done = made_up.install(second, "upgrade")
    assert done.returncode == 1 and "1.1 did not get ready; 1.0 is in use again" in done.stderr
    assert "why it failed" in done.stderr and made_up.in_use == "1.0"
    assert made_up.asked.count(f"restart {UNIT}") == 2

    made_up.tell("broken", "")
    done = made_up.install(second, "upgrade")
    assert done.returncode == 0, done.stderr
    assert (made_up.in_use, made_up.asked.count(f"restart {UNIT}")) == ("1.1", 1)
    # Without the package, and back again.
    for version in ("1.0", "1.1"):
        done = made_up.install(made_up.prefix, "rollback")
        assert (done.returncode, made_up.in_use) == (0, version), done.stderr

    done = made_up.install(second, "uninstall")
    assert done.returncode == 0 and "stations are kept" in done.stdout
    assert not made_up.prefix.exists() and not list(units.iterdir())
    assert not list((made_up.root / "usr/local/bin").iterdir())
    assert kept.exists() and line.exists()
    assert made_up.install(second, "uninstall", "--purge").returncode == 0
    assert not kept.exists() and not line.exists()


def test_an_upgrade_that_was_killed_is_finished_by_the_next(
    made_up: MadeUp, unpacked: dict[str, Path]
) -> None:
    assert made_up.install(unpacked["1.0"], "install").returncode == 0
    made_up.tell("running", f"{UNIT} loaded active running\n")
    half = made_up.prefix / "releases" / "1.1" / "half"  # of an installation that was killed
    half.mkdir(parents=True)
    # Killed by what it asks systemd for, after the release is another and before anything is started.
    made_up.command("systemctl", f'[ "$1" != daemon-reload ] || kill -9 $PPID\n{SYSTEMCTL}')
    assert made_up.install(unpacked["1.1"], "upgrade").returncode == -9
    made_up.command("systemctl", SYSTEMCTL)
    assert not [line for line in made_up.asked if "restart" in line]
    assert made_up.install(unpacked["1.1"], "upgrade").returncode == 0
    assert (made_up.in_use, made_up.asked.count(f"restart {UNIT}")) == ("1.1", 1)
    assert not half.exists()


def test_the_way_back_from_an_upgrade_that_was_killed_is_kept(
    made_up: MadeUp, unpacked: dict[str, Path]
) -> None:
    assert made_up.install(unpacked["1.0"], "install").returncode == 0
    made_up.tell("running", f"{UNIT} loaded active running\n")
    made_up.command("systemctl", f'[ "$1" != daemon-reload ] || kill -9 $PPID\n{SYSTEMCTL}')
    assert made_up.install(unpacked["1.1"], "upgrade").returncode == -9
    made_up.command("systemctl", SYSTEMCTL)
    assert made_up.in_use == "1.1"
    made_up.tell("running", "")  # nor has it come up since
    done = made_up.install(unpacked["1.1"], "rollback")
    assert (done.returncode, made_up.in_use) == (0, "1.0"), done.stderr
    assert made_up.asked.count(f"restart {UNIT}") == 1  # what was ready before the upgrade
    made_up.command("systemctl", f'[ "$1" != list-units ] || exit 1\n{SYSTEMCTL}')
    assert made_up.install(unpacked["1.1"], "upgrade").returncode != 0  # nobody knows what runs
    assert made_up.in_use == "1.0"


def test_what_cannot_be_installed_is_refused_in_words(
    made_up: MadeUp, unpacked: dict[str, Path], tmp_path: Path
) -> None:
    package = tmp_path / "package"
    shutil.copytree(unpacked["1.0"], package)

    def refused(message: str, *arguments: str) -> None:
        done = made_up.install(package, *arguments)
        assert done.returncode == 1 and message in done.stderr, done.stdout + done.stderr
        assert not (made_up.prefix / "current").exists()

    refused("nothing is installed; 'install.sh install'", "upgrade")
    refused("there is no release before this one", "rollback")
    refused("--now: unknown after 'install'", "install", "--now")
    refused("give a command", "go")
    made_up.command("python9", "echo 2.7 x86_64")
    refused(
        "is Python 2.7 x86_64, this package is for 3.",
        "install",
        "--python",
        str(made_up.bin / "python9"),
    )
    (made_up.prefix).mkdir(parents=True)
    (made_up.prefix / "pyvenv.cfg").touch()
    refused("is a virtual environment that was made by hand", "install")
    (made_up.prefix / "pyvenv.cfg").unlink()
    made_up.command("id", "echo 1000")
    refused("be root", "install")
    made_up.command("id", "echo 0")
    wheel = next((package / "wheels").glob("gear*"))
    wheel.write_bytes(wheel.read_bytes() + b"x")
    refused("does not match SHA256SUMS", "install")
    # Where somebody corrects the sums, pip still has the hashes.
    (package / "SHA256SUMS").write_text(
        subprocess.check_output(
            ["sha256sum", *sorted(map(str, _files(package)))], text=True, cwd=package
        )
    )
    refused("release 1.0 could not be installed; nothing has changed", "install")
    assert not list((made_up.prefix / "releases").iterdir())
    shutil.rmtree(package / "wheels")
    refused("is no package; unpack", "install")


def _files(package: Path) -> list[Path]:
    return [p.relative_to(package) for p in package.rglob("*") if p.is_file() and p.name != "SHA256SUMS"]
