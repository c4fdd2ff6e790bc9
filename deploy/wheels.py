"""edge_ad's wheel and the hashes of wheels: what deploy/wheelhouse and deploy/package share."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
_PARTS = ("pyproject.toml", "README.md", "LICENSE", "edge_ad")  # what the wheel is made of


def copy_source(target: Path) -> Path:
    """All that the wheel is made of, in a new directory: a checkout stays as it is. Without the kernels'
    binaries."""
    target.mkdir(parents=True)
    for part in _PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "bin")
            shutil.copytree(ROOT / part, target / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, target)
    return target


def make_wheel(source: Path, out: Path) -> Path:
    """The wheel of such a copy. Raises CalledProcessError."""
    run([*PIP, "wheel", "-q", "--no-deps", "-w", str(out), str(source)])
    return next(out.glob("edge_ad-*.whl"))


def hashed_requirements(wheels: Path, extras: tuple[str, ...]) -> str:
    """A line with name, version and sha256 for each wheel; edge_ad with these extras."""
    lines = []
    for path in sorted(wheels.glob("*.whl")):
        name, version = path.name.split("-")[:2]
        extra = f"[{','.join(extras)}]" if extras and name == "edge_ad" else ""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{name.replace('_', '-').lower()}{extra}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


def run(command: list[str], directory: Path | None = None) -> None:
    """A step. Raises CalledProcessError."""
    subprocess.run(command, cwd=directory, check=True)
