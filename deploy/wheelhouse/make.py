"""Makes an offline wheelhouse: all that a line PC with an NVIDIA GPU installs, compiled beforehand.

    python deploy/wheelhouse/make.py --out wheelhouse [--wheel edge_ad-0.1.0-py3-none-any.whl]
                                     [--tensorrt cu12|cu13]

For this PC's processor and the running Python. `--wheel` takes edge_ad's wheel, with the kernels'
binaries inside, from a wheelhouse that was made elsewhere: it is the same for every processor, and CUDA
12's compiler is on the index for x86-64 alone. `--tensorrt` adds TensorRT itself, which JetPack has and
a PC has not. README.md says how it is installed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

from pycuda_wheel import pycuda_wheel

sys.path.append(str(Path(__file__).resolve().parents[1]))
from wheels import PIP, copy_source, hashed_requirements, make_wheel, run

HERE = Path(__file__).resolve().parent
EXTRAS = ("build", "cuda")  # an engine is built on the machine that runs it
COMPILERS = HERE / "compilers.txt"
CONSTRAINTS = HERE / "constraints.txt"
REQUIREMENTS = "requirements.txt"
BINARIES = "edge_ad/cuda/bin/binaries.json"


def main() -> None:
    """Make it and say how it is installed."""
    parser = argparse.ArgumentParser(
        description="Make an offline wheelhouse for this processor and Python."
    )
    parser.add_argument("--out", type=Path, required=True, help="directory, new or empty")
    parser.add_argument("--wheel", type=Path, help="edge_ad's wheel, made elsewhere")
    parser.add_argument(
        "--tensorrt", choices=["cu12", "cu13"], help="add TensorRT for the driver's CUDA (some GB)"
    )
    arguments = parser.parse_args()
    make_wheelhouse(arguments.out, arguments.wheel, arguments.tensorrt)
    size = sum(path.stat().st_size for path in arguments.out.iterdir()) / 1e6
    count = len(list(arguments.out.glob("*.whl")))
    print(f"{arguments.out}: {count} wheels, {size:.0f} MB. On the line PC:")
    print(f"    pip install --no-index --find-links {arguments.out} --require-hashes "
          f"-r {arguments.out / REQUIREMENTS}")  # fmt: skip


def make_wheelhouse(out: Path, wheel: Path | None = None, tensorrt: str | None = None) -> None:
    """Wheels and hashed requirements in `out`. Raises CalledProcessError when a step fails."""
    if out.is_dir() and any(out.iterdir()):
        sys.exit(f"{out}: not empty; name a new directory")
    out.mkdir(parents=True, exist_ok=True)
    if wheel is None:
        with tempfile.TemporaryDirectory() as directory:
            wheel = edge_ad_wheel(Path(directory), out)
    else:
        wheel = Path(shutil.copy(wheel, out))
    check_wheel(wheel)
    pycuda_wheel(out)
    download = [
        *PIP,
        "download",
        "-q",
        "--only-binary",
        ":all:",
        "--find-links",
        str(out),
        "-d",
        str(out),
    ]
    run([*download, "-c", str(CONSTRAINTS), f"{wheel}[{','.join(EXTRAS)}]"])
    if tensorrt is not None:
        # On the index are sources that fetch NVIDIA's libraries when a wheel is made of them.
        run([*PIP, "wheel", "-q", "-w", str(out), f"tensorrt-{tensorrt}>=10,<12"])
    (out / REQUIREMENTS).write_text(hashed_requirements(out, EXTRAS), encoding="utf-8")


def edge_ad_wheel(work: Path, out: Path) -> Path:
    """edge_ad's wheel with both sets of binaries inside, from a copy: a checkout stays as it is."""
    source = copy_source(work / "edge_ad")
    venv.create(work / "compilers", with_pip=True)
    python = str(work / "compilers" / "bin" / "python")
    needed = ["-r", str(COMPILERS), "click>=8.1", "msgspec>=0.19"]
    run([python, "-m", "pip", "--disable-pip-version-check", "install", "-q", *needed])
    run([python, "-m", "edge_ad.cuda.build"], source)
    return make_wheel(source, out)


def check_wheel(wheel: Path) -> None:
    """Exit where edge_ad's wheel has no binaries inside."""
    with zipfile.ZipFile(wheel) as archive:
        if BINARIES not in archive.namelist():
            sys.exit(f"{wheel}: has no {BINARIES}; take edge_ad's wheel out of a wheelhouse")


if __name__ == "__main__":
    main()
