"""A clean root of Debian for tests of what is installed on one: it has no more than it is asked for, so
that a library of this machine cannot stand in for one that is missing."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Whose python3 a package is for that this Python makes.
SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}


def why_no_root() -> str:
    """What is missing for one; empty: nothing."""
    if shutil.which("mmdebstrap") is None:
        return "no mmdebstrap; apt-get install mmdebstrap"
    if sys.version_info[:2] not in SUITES:
        has = ", ".join(f"{suite} {major}.{minor}" for (major, minor), suite in SUITES.items())
        found = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"a package of Python {found}, of which Debian has no release ({has}); run it with one"
    return ""


def debian_root(factory: pytest.TempPathFactory, *packages: str) -> Path:
    """An archive (.tar) of a root with these packages and python3 beside the smallest there is, without
    what they recommend; made at the first call of a test run. Raises CalledProcessError."""
    home = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = home.parent  # each process has one of its own
    suite, names = SUITES[sys.version_info[:2]], ",".join(sorted({"python3", *packages}))
    root = home / f"{suite},{names}.tar"
    with (home / "root.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            new = root.with_suffix(".new.tar")
            subprocess.run(
                ["mmdebstrap", "-q", "--variant=minbase", f"--include={names}", suite, str(new)],
                check=True,
            )
            new.rename(root)
    return root
