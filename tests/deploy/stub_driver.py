"""A library of the driver's name that has every function pycuda is linked to, each of which fails."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def asked_for(module: Path) -> set[str]:
    """The driver's functions that a compiled module is linked to."""
    return {name.decode() for name in re.findall(rb"(?<=\0)cu[A-Z]\w+(?=\0)", module.read_bytes())}


def pycuda_module(python: str = sys.executable) -> Path | None:
    """pycuda's compiled module, where a Python has pycuda; its import would need a driver."""
    if python == sys.executable:
        spec = importlib.util.find_spec("pycuda")
        origin = spec.origin if spec else None
    else:
        code = "import importlib.util; print(importlib.util.find_spec('pycuda').origin)"
        origin = subprocess.check_output([python, "-c", code], text=True).strip()
    return next(Path(origin).parent.glob("_driver*.so")) if origin else None


def stub_driver(module: Path, directory: Path) -> dict[str, str]:
    """Compile it into a directory; the environment in which it is found."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        pytest.skip("no g++: a stub of the driver cannot be made")
    functions = asked_for(module) - {"cuGetErrorString"}
    source = directory / "stub.cpp"
    source.write_text(
        'extern "C" {\nint cuGetErrorString(int, const char** text) { *text = "stub"; return 0; }\n'
        + "".join(f"int {name}() {{ return 801; }}\n" for name in sorted(functions))
        + "}\n"
    )
    library = directory / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return {**os.environ, "LD_LIBRARY_PATH": str(directory)}
