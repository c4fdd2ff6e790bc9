"""Two machines with a wire between them that can be cut: network namespaces behind a bridge.

Needs util-linux and iproute2, and root or a kernel that lets users have namespaces of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from types import TracebackType

_PATH = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}  # where `ip` is
_USER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
DAEMON_IP, CLIENT_IP = "10.77.0.1", "10.77.0.2"


def missing() -> str:
    """What this machine lacks for it; "" where it can be made."""
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program, path=_PATH["PATH"]) is None:
            return f"no {program}"
    tried = subprocess.run(["unshare", *_USER, "--net", "true"], capture_output=True, check=False)
    return "no network namespaces for this user" if tried.returncode else ""


class CutNetwork:
    """Context manager. Commands that begin with `daemon` run on the one machine, at DAEMON_IP, with
    `client` on the other. After `cut` everything between them vanishes without a word, until `mend`."""

    def __enter__(self) -> CutNetwork:
        self._held: list[subprocess.Popen[bytes]] = []
        try:
            self._bridge = self._hold([], _USER)
            self.daemon = self._machine("wire-d", DAEMON_IP)
            self.client = self._machine("wire-c", CLIENT_IP)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def cut(self) -> None:
        """The wire to the client ends nowhere; both ends still look connected."""
        _do(self._bridge, "ip link set wire-c nomaster")

    def mend(self) -> None:
        """The wire is whole again."""
        _do(self._bridge, "ip link set wire-c master br0")

    def _machine(self, name: str, address: str) -> list[str]:
        machine = self._hold(self._bridge, [])
        pid = self._held[-1].pid
        if not self._held[1:-1]:
            _do(self._bridge, "ip link add name br0 type bridge", "ip link set br0 up")
        _do(
            self._bridge,
            f"ip link add name {name} type veth peer name eth0 netns {pid}",
            f"ip link set {name} master br0",
            f"ip link set {name} up",
        )
        _do(machine, f"ip address add {address}/24 dev eth0", "ip link set eth0 up", "ip link set lo up")
        return machine

    def _hold(self, where: list[str], options: list[str]) -> list[str]:
        """Make a namespace; returns what runs a command in it."""
        # Without --fork: the process that is started is the one that sleeps.
        holder = subprocess.Popen([*where, "unshare", *options, "--net", "sleep", "infinity"])
        self._held.append(holder)
        mine = os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116 - what the link stands for
        taken = {mine, *(os.stat(f"/proc/{p.pid}/ns/net").st_ino for p in self._held[:-1])}  # noqa: PTH116
        end = time.monotonic() + 20
        while os.stat(f"/proc/{holder.pid}/ns/net").st_ino in taken:  # noqa: PTH116
            assert holder.poll() is None, "no network namespace; run as root, or allow those of users"
            assert time.monotonic() < end, "no network namespace"
            time.sleep(0.01)
        enter = ["--user", "--preserve-credentials"] if _USER else []
        return ["nsenter", "--target", str(holder.pid), *enter, "--net"]

    def _end(self) -> None:
        for holder in self._held:
            holder.kill()
            holder.wait()


def _do(where: list[str], *commands: str) -> None:
    for command in commands:
        subprocess.run([*where, *command.split()], check=True, env=_PATH)
