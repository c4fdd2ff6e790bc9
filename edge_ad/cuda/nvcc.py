"""The CUDA 13 compiler: where it is, and what it makes of a source.

Only those who build need it (`pip install 'cuda-toolkit[nvcc,cccl]==13.0.*'` brings one); a line PC does
not.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edge_ad.cuda.usage import Usage, parse_usage
from edge_ad.errors import DeviceError

REMEDY = "install 'cuda-toolkit[nvcc,cccl]==13.0.*'"


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
        raise DeviceError(f"{nvcc}: does not tell its version; {REMEDY}")
    return found[1]


def compile_kernels(
    nvcc: Path, target: Path, source: Path, architectures: Sequence[int], ptx: int | None = None
) -> list[Usage]:
    """Compile a source to a fatbin at `target`, machine code for each architecture and PTX for `ptx`.

    It is not compressed, so that it can be read without CUDA's tools. Returns what the kernels use.
    Raises DeviceError with the compiler's message when it fails or warns.
    """
    codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
    if ptx is not None:
        codes.append(f"-gencode=arch=compute_{ptx},code=compute_{ptx}")
    options = ["-fatbin", "-std=c++17", "-Werror=all-warnings", "-Xptxas=-v", "--compress-mode=none"]
    return parse_usage(_run([str(nvcc), *options, *codes, "-o", str(target), str(source)]))


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeviceError(f"{command[0]}: {error.strerror}; {REMEDY}") from error
    if done.returncode:
        raise DeviceError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr
