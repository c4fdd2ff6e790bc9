"""The CUDA compiler: where it is, and what it makes of `mahalanobis.cu`.

Only those who build need it (`pip install 'cuda-toolkit[nvcc,cccl]'` brings one); a line PC does not.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_ad.errors import DeviceError

SOURCE = Path(__file__).with_name("mahalanobis.cu")
KERNELS = ("level_distances", "coarse_views", "regressors", "cell_distances")
# T4, A100, RTX 30, Orin, RTX 40, H100 and H200, B200, Thor, RTX 50.
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 110, 120)

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a kernel for an architecture: registers of a thread, bytes of its stack, of spilled registers
    (stores and loads) and of static shared memory."""

    kernel: str
    architecture: int
    registers: int
    stack: int
    spilled: int
    shared: int


def find_nvcc() -> Path | None:
    """The compiler of the installed Python packages, else the one on the path."""
    spec = importlib.util.find_spec("nvidia")
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        for found in sorted(Path(directory).glob("cu*/bin/nvcc")):
            return found
    on_path = shutil.which("nvcc")
    return Path(on_path) if on_path else None


def version(nvcc: Path) -> str:
    """The compiler's full version, as "13.0.88". Raises DeviceError when it does not run."""
    found = re.search(r"\bV([\d.]+)", _run([str(nvcc), "--version"]))
    if not found:
        raise DeviceError(f"{nvcc}: does not tell its version; install 'cuda-toolkit[nvcc,cccl]'")
    return found[1]


def compile_kernels(
    nvcc: Path, target: Path, architectures: Sequence[int] = ARCHITECTURES, source: Path = SOURCE
) -> list[Usage]:
    """Compile a fatbin with machine code for each architecture to `target`; what the kernels use.

    Raises DeviceError with the compiler's message when it fails or warns.
    """
    codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
    options = ["-fatbin", "-std=c++17", "-Werror=all-warnings", "-Xptxas=-v", *codes]
    return parse_usage(_run([str(nvcc), *options, "-o", str(target), str(source)]))


def parse_usage(told: str) -> list[Usage]:
    """From what `-Xptxas=-v` tells."""
    usage = []
    for part in told.split("Compiling entry function")[1:]:
        entry = _ENTRY.search("Compiling entry function" + part)
        spills, used = _SPILLS.search(part), _USED.search(part)
        if not entry or not spills or not used:
            raise DeviceError(f"nvcc tells of a kernel in a way that is not understood: {part[:200]!r}")
        stack, stores, loads = (int(number) for number in spills.groups())
        numbers = int(used[1]), stack, stores + loads, int(used[2] or 0)
        usage.append(Usage(entry[1], int(entry[2]), *numbers))
    return usage


def report(nvcc: Path, usage: Sequence[Usage]) -> str:
    """A table of what the kernels use, with the compiler's version."""
    lines = [
        f"mahalanobis.cu by nvcc {version(nvcc)}, blocks of at most 256 threads",
        "",
        f"{'kernel':<16} {'sm':>4} {'registers':>9} {'stack':>6} {'spilled':>7} {'shared':>6}   (bytes)",
    ]
    lines += [
        f"{u.kernel:<16} {u.architecture:>4} {u.registers:>9} {u.stack:>6} {u.spilled:>7} {u.shared:>6}"
        for u in sorted(usage, key=lambda u: (KERNELS.index(u.kernel), u.architecture))
    ]
    return "\n".join(lines) + "\n"


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeviceError(
            f"{command[0]}: {error.strerror}; install 'cuda-toolkit[nvcc,cccl]'"
        ) from error
    if done.returncode:
        raise DeviceError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr
