"""A package of made-up wheels, and a made-up machine that it is installed on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
VERSION = "{version}"
def main():
    if sys.argv[1] == "check":
        sys.exit(f"not with {{VERSION}}" if VERSION in Path(sys.argv[3]).read_text() else 0)
    print("edge-ad, version", VERSION)
"""
# In $EDGE_AD_ROOT `running` has the units that run, `broken` the releases that do not get ready.
SYSTEMCTL = """
echo "$*" >> "$EDGE_AD_ROOT/asked"
release=$(basename "$(readlink "$EDGE_AD_ROOT/opt/edge-ad/current")")
case "$*" in
    *state=active*) cat "$EDGE_AD_ROOT/running" ;;
    *edge-ad-calibrate@*state*|*state=activating*calibrate*) cat "$EDGE_AD_ROOT/calibrating" ;;
    restart*|is-active*) ! grep -qx "$release" "$EDGE_AD_ROOT/broken" ;;
esac
"""


def write_wheel(
    directory: Path, name: str, version: str, *about: str, files: dict[str, str] | None = None
) -> Path:
    """A wheel with these lines in its METADATA."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    lines = "".join(f"{line}\n" for line in about)
    files = {
        **(files or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    path = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, text in files.items():
            wheel.writestr(zipfile.ZipInfo(inner), text)
    return path


def write_program(directory: Path, version: str, *about: str) -> Path:
    """The wheel of an edge_ad that can say its version and check a station."""
    entry = f"edge_ad-{version}.dist-info/entry_points.txt"
    return write_wheel(
        directory, "edge_ad", version, *about,
        files={
            "edge_ad.py": PROGRAM.format(version=version),
            entry: "[console_scripts]\nedge-ad = edge_ad:main\n",
        },
    )  # fmt: skip


def write_wheels(directory: Path, version: str) -> Path:
    """Of edge_ad and what it needs."""
    write_program(
        directory, version, "License-Expression: Apache-2.0", "Requires-Dist: Plain.One>=1",
        'Requires-Dist: gear; extra == "gpio"', 'Requires-Dist: heavy; extra == "torch"',
        "Provides-Extra: gpio", "Provides-Extra: torch",
    )  # fmt: skip
    osi = "Classifier: License :: OSI Approved :: BSD License"
    write_wheel(directory, "plain-one", "1.5", "License: some words", osi, "Requires-Dist: gear>2")
    write_wheel(directory, "gear", "3.0", "Summary: Turns.", "License: MIT")
    return directory


def unpack(archive: Path, directory: Path) -> Path:
    """The directory that was in it."""
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")


class MadeUp:
    """A root directory, with commands before the system's own that answer like a booted machine's."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin = root / "root", root / "bin"
        self.prefix = self.root / "opt" / "edge-ad"
        for path in (self.bin, self.root):
            path.mkdir()
        for name in ("running", "broken", "calibrating", "asked"):
            (self.root / name).touch()
        self.command("id", "echo 0")
        self.command("systemctl", SYSTEMCTL)
        self.command("runuser", 'shift 3; exec "$@"')
        self.command("journalctl", "echo why it failed")
        self.command("getent", "exit 2")
        for name in ("systemd-sysusers", "systemd-tmpfiles"):
            self.command(name, f'echo "{name} $*" >> {self.root}/asked')

    def command(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
        path.chmod(0o755)

    def tell(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def station(self, text: str = "schema = 1\n") -> Path:
        path = self.root / "etc" / "edge-ad" / "line1" / "line.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def install(
        self, package: Path, *arguments: str, path: str = ""
    ) -> subprocess.CompletedProcess[str]:
        if arguments[0] in ("install", "upgrade") and "--python" not in arguments:
            arguments = (*arguments, "--python", sys.executable)
        environment = {
            "PATH": path or f"{self.bin}:{os.environ['PATH']}", "EDGE_AD_ROOT": str(self.root),
            "EDGE_AD_SETTLE_S": "0",
        }  # fmt: skip
        return subprocess.run(
            [str(package / "install.sh"), *arguments], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    @property
    def in_use(self) -> str:
        """The version that the command on the path is."""
        said = subprocess.check_output(
            [self.root / "usr/local/bin/edge-ad", "--version"], text=True, env={}
        )
        return said.split()[-1]

    @property
    def asked(self) -> list[str]:
        """What systemd was asked for since the last time."""
        lines = (self.root / "asked").read_text().splitlines()
        self.tell("asked", "")
        return lines
