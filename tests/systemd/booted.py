"""A real systemd, booted in a container: from this machine's own file system as it is, with the units of
this repository installed as systemd/README.md says, or from a clean root without anything of edge_ad."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
PROGRAM = "/opt/edge-ad/bin/edge-ad"
# On a private /run, so that neither the container nor what it leaves is the machine's.
_BOOT = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/over/up /run/over/work /run/over/root
cp -a "$2"/. /run/over/up
mount -t overlay overlay -o "lowerdir=$1,upperdir=/run/over/up,workdir=/run/over/work" /run/over/root
shift 2
exec systemd-nspawn -q -D /run/over/root -b --keep-unit --register=no --private-network \\
    --link-journal=no --console=pipe "$@" systemd.unit=basic.target
"""


def why_not() -> str:
    """What is missing for a boot; empty: nothing."""
    missing = [name for name in ("unshare", "nsenter", "systemd-nspawn") if not shutil.which(name)]
    if missing or not Path("/usr/lib/systemd/systemd").exists():
        return f"no {', '.join(missing) or 'systemd'}: apt-get install systemd-container"
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount --make-rprivate / && mount -t tmpfs tmpfs /run"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"no container: {tried.stderr.strip()}; be root" if tried.returncode else ""


class Machine:
    """Context manager. `base` holds what is put over the file system, and the console's log."""

    _root = Path("/")

    def __init__(self, base: Path) -> None:
        self._base = base
        self._up = base / "up"
        self.leader = 0

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of the machine, before it boots."""
        file = self._up / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def __enter__(self) -> Machine:
        self._up.mkdir(parents=True, exist_ok=True)
        self._install()
        for path in (self._up, *self._up.rglob("*")):
            if path.is_dir():  # they become the machine's own, whatever the umask is here
                path.chmod(0o755)
        binds = self._binds()
        with (self._base / "console").open("w") as console:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "bash", "-c", _BOOT, "boot", str(self._root), str(self._up),
                 *(f"--bind-ro={here}:{there}" for here, there in binds.items())],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )  # fmt: skip
        try:
            self.wait(lambda: self._find_leader() and self._state() in ("running", "degraded"), 60)
            self.run("systemd-sysusers")
            self.run("systemd-tmpfiles", "--create")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # nspawn has the machine power off
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(self, *command: str, check: bool = True, timeout_s: float = 90) -> str:
        """A command in the machine, as root; what it says."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", *command],
            capture_output=True, text=True, timeout=timeout_s, check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )  # fmt: skip
        if check and done.returncode:
            pytest.fail(
                f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}{self.journal()}"
            )
        return (done.stdout + done.stderr).strip()

    def path(self, path: str) -> Path:
        """A file of the machine while it runs, as this process reaches it."""
        return Path(f"/proc/{self.leader}/root") / path.lstrip("/")

    def show(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "-P", what, unit)

    def journal(self, *options: str) -> str:
        """What the units of edge_ad wrote."""
        if not self.leader:
            return ""
        self.run("journalctl", "--sync", check=False)
        chosen = options or ("-u", "edge-ad*")
        return self.run("journalctl", "--no-pager", "-o", "short-monotonic", *chosen, check=False)

    def cursor(self) -> str:
        """The journal's end: with `--after-cursor` there is what comes from now on."""
        self.run("journalctl", "--sync")
        said = self.run("journalctl", "-n", "1", "--show-cursor", "-o", "cat")
        return said.splitlines()[-1].removeprefix("-- cursor: ")

    def wait(self, condition: Callable[[], object], timeout_s: float = 60) -> None:
        """Poll until it is so."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert self._process.poll() is None, (self._base / "console").read_text()
            assert time.monotonic() < end, f"it did not happen\n{self.journal()}"
            time.sleep(0.05)

    def _install(self) -> None:
        """As systemd/README.md says, but for the virtual environment: this process's Python with its
        packages and this source stand in for it."""
        for unit in UNITS.glob("*.service"):
            self.put(f"/etc/systemd/system/{unit.name}", unit.read_text())
        for kind in ("sysusers.d", "tmpfiles.d"):
            self.put(f"/etc/{kind}/edge-ad.conf", (UNITS / kind / "edge-ad.conf").read_text())
        self.put(
            PROGRAM,
            "#!/bin/sh\nexport PYTHONPATH=/opt/edge-ad/source:/opt/edge-ad/packages\n"
            "export LD_LIBRARY_PATH=/opt/python/lib PYTHONDONTWRITEBYTECODE=1\n"
            f'exec /opt/python/bin/{Path(sys.executable).resolve().name} -m edge_ad "$@"\n',
            0o755,
        )

    def _binds(self) -> dict[str, str]:
        """Directories of this machine, and where the container sees them."""
        return {
            sys.base_prefix: "/opt/python",
            sysconfig.get_path("purelib"): "/opt/edge-ad/packages",
            str(ROOT / "edge_ad"): "/opt/edge-ad/source/edge_ad",
        }

    def _find_leader(self) -> int:
        """The container's first process, as this machine numbers it; 0 until there is one."""
        process = Path(f"/proc/{self._process.pid}")
        for child in (process / "task" / process.name / "children").read_text().split():
            with suppress(OSError):  # what makes its file system may be gone again
                status = Path(f"/proc/{child}/status").read_text()
                numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
                if len(numbers.split()) > 2:  # it has another number in the container
                    self.leader = int(child)
        return self.leader

    def _state(self) -> str:
        return self.run("systemctl", "is-system-running", check=False)


class CleanMachine(Machine):
    """From the directory `root`, which stays as it is, and without anything of edge_ad."""

    def __init__(self, base: Path, root: Path) -> None:
        super().__init__(base)
        self._root = root

    def _install(self) -> None:
        """Nothing: that is what is looked at."""

    def _binds(self) -> dict[str, str]:
        return {}
