"""Makes the package that a line PC without a network installs: one archive with every wheel, their
hashes, a bill of materials, the units and install.sh.

    python deploy/package/build.py --out dist [--wheelhouse wheelhouse] [--extra basler]

For this PC's processor and the running Python. `--wheelhouse` takes what deploy/wheelhouse made, for a
GPU; `--extra` adds what a line needs that most lines do not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sbom import bill_of_materials, read_wheel

sys.path.append(str(Path(__file__).resolve().parents[1]))
from wheels import PIP, ROOT, copy_source, hashed_requirements, make_wheel, run

HERE = Path(__file__).resolve().parent
# Small, and a PC without a network cannot fetch them when they are wanted.
EXTRAS = ("backup", "gpio", "modbus")
GPU_EXTRAS = ("build", "cuda")
# Large, so only where they are asked for: pylon is 90 MB, PyTorch some GB.
LARGE_EXTRAS = ("basler", "torch")


def main() -> None:
    """Make it and say how it is installed."""
    parser = argparse.ArgumentParser(description="Make the package for this processor and Python.")
    parser.add_argument("--out", type=Path, required=True, help="directory for the archive")
    parser.add_argument("--wheelhouse", type=Path, help="of deploy/wheelhouse, for a GPU")
    parser.add_argument(
        "--extra", type=_large, action="append", default=[], metavar="NAME",
        help=f"{' or '.join(LARGE_EXTRAS)}; may be repeated",
    )  # fmt: skip
    arguments = parser.parse_args()
    try:
        archive = build(arguments.out, arguments.wheelhouse, arguments.extra)
    except ValueError as error:
        sys.exit(f"error: {error}")
    name = archive.name.removesuffix(".tar.gz")
    print(f"{archive}: {archive.stat().st_size / 1e6:.0f} MB. On the line PC, as root:")
    print(f"    tar -xf {archive.name} && {name}/install.sh install")


def build(out: Path, wheelhouse: Path | None = None, added: Iterable[str] = ()) -> Path:
    """The archive, with these of LARGE_EXTRAS. Raises CalledProcessError when a step fails, ValueError
    where edge_ad's wheel has no such extra."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        wheels, tools = work / "wheels", work / "pip"
        wheels.mkdir()
        extras = EXTRAS
        if wheelhouse is None:
            wheel = make_wheel(copy_source(work / "edge_ad"), wheels)
        else:
            extras = (*EXTRAS, *GPU_EXTRAS)
            for path in wheelhouse.glob("*.whl"):
                shutil.copy(path, wheels)
            wheel = next(wheels.glob("edge_ad-*.whl"))
        extras = (*extras, *sorted(set(added)))
        check_provided(wheel, extras)
        download = [*PIP, "download", "-q", "--only-binary", ":all:", "--find-links", str(wheels)]
        run([*download, "-d", str(wheels), f"{wheel}[{','.join(extras)}]"])
        # Debian's Python has none, and its own would come from a network.
        run([*PIP, "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(tools), "pip"])
        return assemble(wheels, next(tools.glob("pip-*.whl")), extras, out)


def check_provided(wheel: Path, extras: Iterable[str]) -> None:
    """Raises ValueError where a wheel, which a wheelhouse may have of another version, lacks an extra;
    pip would leave it out with a warning."""
    if missing := sorted(set(extras) - set(read_wheel(wheel).about.get_all("Provides-Extra", []))):
        raise ValueError(f"{wheel.name} has no extra {', '.join(missing)}; make its wheelhouse anew")


def assemble(wheels: Path, pip: Path, extras: tuple[str, ...], out: Path) -> Path:
    """The archive of what was gathered, named after the extras that most packages have not. Raises
    CalledProcessError where the wheels are not all that an installation needs."""
    version = read_wheel(next(wheels.glob("edge_ad-*.whl"))).version
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    large = "".join(f"-{extra}" for extra in extras if extra in LARGE_EXTRAS)
    name = f"edge-ad-{version}-py{python}-{platform.machine()}{large}"
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / name
        shutil.copytree(wheels, root / "wheels")
        (root / "pip").mkdir()
        shutil.copy(pip, root / "pip")
        shutil.copytree(ROOT / "systemd", root / "systemd")
        shutil.copy(HERE / "install.sh", root)
        for path in (ROOT / "LICENSE", ROOT / "deploy" / "container" / "Containerfile"):
            shutil.copy(path, root)
        requirements = root / "requirements.txt"
        requirements.write_text(hashed_requirements(root / "wheels", extras), encoding="utf-8")
        bill = json.dumps(bill_of_materials(root / "wheels", extras), indent=1)
        (root / "sbom.cdx.json").write_text(bill + "\n", encoding="utf-8")
        (root / "PACKAGE").write_text(
            f"version={version}\npython={python}\nmachine={platform.machine()}\n", encoding="utf-8"
        )
        check_complete(root / "wheels", requirements)
        (root / "SHA256SUMS").write_text(checksums(root), encoding="utf-8")
        archive = out / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:  # wheels are compressed
            tar.add(root, name, filter=_plain)
    return archive


def check_complete(wheels: Path, requirements: Path) -> None:
    """Have pip find everything in the wheels alone, as the line PC will."""
    alone = ["--isolated", "install", "-q", "--dry-run", "--ignore-installed", "--no-index"]
    run([*PIP, *alone, "--find-links", str(wheels), "--require-hashes", "-r", str(requirements)])


def checksums(root: Path) -> str:
    """Of every file, as `sha256sum -c` reads it."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in paths
    )


def _large(name: str) -> str:
    if name not in LARGE_EXTRAS:
        raise argparse.ArgumentTypeError(
            f"{name!r} is none; there are {' and '.join(LARGE_EXTRAS)}. "
            f"{', '.join(EXTRAS)} are always in, {' and '.join(GPU_EXTRAS)} with --wheelhouse"
        )
    return name


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Of nobody and no time, so that the same wheels make the same archive."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    member.mode = 0o755 if member.isdir() or re.search(r"\.sh$", member.name) else 0o644
    return member


if __name__ == "__main__":
    main()
