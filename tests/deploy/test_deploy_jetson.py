"""The install script: read by shellcheck, asked what it would do, and run on a made-up Jetson."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "jetson" / "install.sh"
R36 = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8\n"
TOOLS = ("bash", "cat", "cp", "dirname", "env", "grep")


class Jetson:
    """A directory of commands that answer like a Jetson's, and nothing else on the path."""

    def __init__(self, root: Path, release: str = R36, environment: Path | None = None) -> None:
        """`environment` is what `-m venv --system-site-packages` copies."""
        self.root, self.bin = root, root / "bin"
        self.prefix = root / "edge_ad"
        self.packages = root / "packages"  # dpkg's, one a line
        self.packages.touch()
        self.bin.mkdir()
        (root / "release").write_text(release)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        self.command("uname", "echo aarch64")
        self.command("id", "echo 0")
        self.command("dpkg-query", f'grep -qx "$4" {self.packages} && echo installed')
        self.command("apt-get", f'for p in "$@"; do echo "$p" >> {self.packages}; done')
        self.command("gst-inspect-1.0", "exit 1")
        self.command("nvpmodel", '[ "$1" = -q ] && echo "NV Power Mode: 25W"')
        self.command("jetson_clocks", '[ "$1" = --show ] && echo "GPU MinFreq=306000000"')
        for name in ("python3.10", "python3.12"):
            self.command(
                name,
                f'if [ "$2 $3" = "venv --system-site-packages" ]; then cp -a {environment} "$4"\n'
                f'else exec {sys.executable} "$@"; fi',
            )

    def command(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
        path.chmod(0o755)

    def install(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        made = {
            "PATH": str(self.bin), "NV_TEGRA_RELEASE": str(self.root / "release"),
            "HOME": str(self.root), "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }  # fmt: skip
        return subprocess.run(
            ["bash", str(SCRIPT), "--prefix", str(self.prefix), *options],
            env=made | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


def commands(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What it ran or would run."""
    return [line[2:] for line in done.stdout.splitlines() if line.startswith("+ ")]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: that takes some seconds."""
    path = tmp_path_factory.mktemp("jetson") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(path)], check=True)
    return path


@pytest.fixture
def jetson(tmp_path: Path, environment: Path) -> Jetson:
    return Jetson(tmp_path, environment=environment)


def test_shellcheck_has_nothing_to_say() -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck; apt-get install shellcheck")
    done = subprocess.run([program, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("release", "python", "jetpack"),
    [
        (R36, "python3.10", "JetPack 6 (CUDA 12, TensorRT 10.3)"),
        (R36.replace("4.3", "5.2"), "python3.10", "JetPack 6"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464\n", "python3.12", "JetPack 7 (CUDA 13, "),
        ("# R39 (release), REVISION: 2.1, GCID: 1\n", "python3.12", "JetPack 7 (CUDA 13.2, "),
        ("# R41 (release), REVISION: 0.0, GCID: 1\n", "python3.12", "JetPack unknown"),
    ],
)
def test_a_dry_run_prints_the_commands_and_does_nothing(
    tmp_path: Path, release: str, python: str, jetpack: str
) -> None:
    jetson = Jetson(tmp_path, release)
    before = sorted(tmp_path.rglob("*"))
    done = jetson.install("--dry-run")
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.rglob("*")) == before and not jetson.packages.read_text()
    assert jetpack in done.stdout
    apt, venv, pip, tensorrt, *_ = commands(done)
    assert apt.startswith("apt-get install -y") and "python3-libnvinfer" in apt
    assert venv == f"{python} -m venv --system-site-packages {jetson.prefix}"
    assert f"{jetson.prefix}/bin/python -m pip install" in pip and pip.endswith("\\[build\\,cuda\\]")
    assert "import tensorrt" in tensorrt
    assert ("newer than this script" in done.stderr) == ("R41" in release)


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ("# R36 (release), REVISION: 3.0, GCID: 1\n", "L4T 36.3.0 is JetPack 6.0, whose TensorRT 8.6"),
        ("# R35 (release), REVISION: 4.1, GCID: 1\n", "L4T 35.4.1 has a Python or a CUDA"),
        ("# R32 (release), REVISION: 7.1, GCID: 1\n", "update to JetPack 6.1 or later"),
        ("Ubuntu\n", "its first line is not an L4T release (Ubuntu); expected '# R36"),
        ("", "its first line is not an L4T release"),
    ],
)
def test_a_release_that_cannot_do_is_refused(tmp_path: Path, release: str, message: str) -> None:
    done = Jetson(tmp_path, release).install("--dry-run")
    assert done.returncode == 1 and message in done.stderr
    assert commands(done) == []


def test_no_jetson_at_all_and_wrong_use_are_refused(jetson: Jetson) -> None:
    done = jetson.install(NV_TEGRA_RELEASE="/nonexistent")
    assert done.returncode == 1 and "/nonexistent is not there: this is no Jetson" in done.stderr
    jetson.command("uname", "echo x86_64")
    done = jetson.install()
    assert done.returncode == 1 and "this is x86_64, a Jetson is aarch64" in done.stderr
    assert commands(done) == []
    for options, message in ((["--wheels"], "unknown"), (["--wheelhouse"], "needs a directory")):
        done = jetson.install(*options)
        assert done.returncode == 1 and f"{options[0]}: {message}" in done.stderr


def test_root_is_asked_for_only_where_it_is_needed(jetson: Jetson) -> None:
    jetson.command("id", "echo 1000")
    jetson.command("sudo", '"$@"')
    done = jetson.install("--dry-run")
    apt, venv, pip, tensorrt, version, element = commands(done)
    assert all(line.startswith("sudo ") for line in (apt, venv, pip))
    assert not any(line.startswith("sudo ") for line in (tensorrt, version, element))


def write_wheelhouse(directory: Path, version: str, hashed: bool) -> Path:
    """A wheel that is called edge_ad and can say its version."""
    directory.mkdir(exist_ok=True)
    info = f"edge_ad-{version}.dist-info"
    path = directory / f"edge_ad-{version}-py3-none-any.whl"
    files = {
        "edge_ad.py": f"def main():\n    print('edge-ad, version {version}')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: edge_ad\nVersion: {version}\n"
        "Provides-Extra: build\nProvides-Extra: cuda\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nedge-ad = edge_ad:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(name, text)
    if hashed:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        (directory / "requirements.txt").write_text(
            f"edge_ad[build,cuda]=={version} --hash=sha256:{sha256}\n"
        )
    return directory


def stub_tensorrt(directory: Path, version: str) -> str:
    directory.mkdir(exist_ok=True)
    (directory / "tensorrt.py").write_text(f"__version__ = {version!r}\n")
    return str(directory)


@pytest.mark.parametrize("hashed", [False, True])
def test_installing_twice_keeps_the_environment_and_brings_it_up_to_date(
    jetson: Jetson, hashed: bool
) -> None:
    wheels = write_wheelhouse(jetson.root / "a wheelhouse", "0.1.0", hashed)
    path = stub_tensorrt(jetson.root / "trt", "10.3.0")
    done = jetson.install("--wheelhouse", str(wheels), PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "TensorRT 10.3.0" in done.stdout and "edge-ad, version 0.1.0" in done.stdout
    assert "no element nvarguscamerasrc" in done.stderr
    assert "NV Power Mode: 25W" in done.stdout and "GPU MinFreq=306000000" in done.stdout
    cfg = (jetson.prefix / "pyvenv.cfg").stat().st_mtime_ns
    write_wheelhouse(wheels, "0.2.0", hashed)
    again = jetson.install("--wheelhouse", str(wheels), PYTHONPATH=path)
    assert again.returncode == 0, again.stderr
    assert (jetson.prefix / "pyvenv.cfg").stat().st_mtime_ns == cfg
    assert "edge-ad, version 0.2.0" in again.stdout
    ran = commands(again)
    assert not any("apt-get" in line or "venv --system" in line for line in ran)
    (pip,) = (line for line in ran if "--no-index" in line)
    assert "--require-hashes" in pip if hashed else pip.endswith(" edge_ad\\[build\\,cuda\\]")


def test_a_wheelhouse_that_was_tampered_with_is_refused(jetson: Jetson) -> None:
    wheels = write_wheelhouse(jetson.root / "wheelhouse", "0.1.0", hashed=True)
    with zipfile.ZipFile(next(wheels.glob("*.whl")), "a") as wheel:
        wheel.writestr("more.py", "")
    done = jetson.install("--wheelhouse", str(wheels))
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr
    assert not (jetson.prefix / "bin" / "edge-ad").exists()


def test_an_empty_wheelhouse_and_an_old_tensorrt_are_named(jetson: Jetson) -> None:
    wheels = jetson.root / "wheelhouse"
    wheels.mkdir()
    done = jetson.install("--wheelhouse", str(wheels))
    assert done.returncode == 1 and "no wheel of edge_ad is in it; make it with" in done.stderr
    write_wheelhouse(wheels, "0.1.0", hashed=False)
    path = stub_tensorrt(jetson.root / "trt", "8.6.2")
    done = jetson.install("--wheelhouse", str(wheels), PYTHONPATH=path)
    assert done.returncode == 1 and "TensorRT 10 or later cannot be imported" in done.stderr


def test_an_environment_of_another_kind_is_not_overwritten(jetson: Jetson) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(jetson.prefix)], check=True)
    done = jetson.install("--wheelhouse", str(write_wheelhouse(jetson.root / "w", "0.1.0", False)))
    assert done.returncode == 1 and "does not see the system's packages; move it away" in done.stderr
    jetson.command("python3.10", "echo 3.9")
    done = jetson.install("--wheelhouse", str(jetson.root / "w"))
    assert done.returncode == 1 and "this JetPack has python3.10; move it away" in done.stderr


def test_the_script_can_be_run_as_it_is() -> None:
    assert os.access(SCRIPT, os.X_OK)
    done = subprocess.run([str(SCRIPT), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--wheelhouse DIR" in done.stdout
