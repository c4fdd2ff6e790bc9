"""The stand-in for NVIDIA's driver (see fakedriver/state.hpp): made here, and its levers.

Tests of it run in a process of their own, in which the real pycuda and cuda.bindings find it as the
driver (see apart.py).
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from emulator import HERE, SOURCES
from preprocess_emulator import SOURCES as PREPROCESS_SOURCES

NAME = "libcuda.so.1"
OUT_OF_MEMORY, INVALID_IMAGE, NO_BINARY, ILLEGAL_ADDRESS, LAUNCH_FAILED = 2, 200, 209, 700, 719
INTEGRATED, HOST_REGISTER_SUPPORTED = 18, 99  # numbers of device attributes
FLAGS = (
    "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE",
    "-fPIC", "-shared", "-fsanitize=alignment", "-fsanitize-undefined-trap-on-error",
)  # fmt: skip
# Whatever else pycuda asks for at its import is there, and does nothing.
UNSUPPORTED = '__attribute__((weak, visibility("default"))) int %s(void) { return 801; }\n'


def build(directory: Path) -> Path:
    """Compile libcuda.so.1 into a directory. Where a tool is missing: skipped, which fails under CI."""
    compiler, nm = shutil.which(os.environ.get("CXX", "g++")), shutil.which("nm")
    if compiler is None or nm is None:
        pytest.skip("no g++ or nm: the stand-in for the driver cannot be made")
    wanted = subprocess.run(
        [nm, "-D", "--undefined-only", str(_extension())], capture_output=True, text=True, check=True
    )
    names = re.findall(r" (cu[A-Z]\w*)$", wanted.stdout, re.MULTILINE)
    stubs = directory / "unsupported.cpp"
    stubs.write_text('extern "C" {\n' + "".join(UNSUPPORTED % name for name in names) + "}\n")
    sources = [*sorted(str(path) for path in (HERE / "fakedriver").glob("*.cpp")), str(stubs)]
    directories = (HERE / "shim", SOURCES, PREPROCESS_SOURCES, HERE / "fakedriver")
    include = [f"-I{directory}" for directory in directories]
    target = ["-o", str(directory / NAME), f"-Wl,-soname,{NAME}", "-ldl"]
    command = [compiler, *FLAGS, *include, *sources, *target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory / NAME


def _extension() -> Path:
    """pycuda's compiled half."""
    for library in ("pycuda", "cuda.bindings"):
        try:
            spec = importlib.util.find_spec(library)
        except ModuleNotFoundError:
            spec = None
        if spec is None:
            pytest.skip(f"no {library}: nothing to be run on the stand-in for the driver")
        if library == "pycuda":
            (found,) = Path(str(spec.origin)).parent.glob("_driver.*.so")
    return found


class FakeDriver:
    """The levers, in a process in which the stand-in is the driver."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.fake_fail.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
        self._library.fake_memory.argtypes = [ctypes.c_size_t]
        for name in ("fake_calls", "fake_depth", "fake_live"):
            getattr(self._library, name).restype = ctypes.c_long
        self._library.fake_last_graph.restype = ctypes.c_char_p

    def fresh(self) -> None:
        """The machine as it is at first."""
        self._library.fake_fresh()

    def machine(self, devices: int = 1, init: int = 0) -> None:
        """So many devices, and what cuInit returns."""
        self._library.fake_machine(devices, init)

    def driver_version(self, version: int) -> None:
        """13010: that of CUDA 13.1."""
        self._library.fake_driver_version(version)

    def fail(self, function: str, code: int, nth: int = 1) -> None:
        """The nth call of a function from now on returns a code, once."""
        self._library.fake_fail(function.encode(), nth, code)

    def break_next_kernel(self, code: int = ILLEGAL_ADDRESS) -> None:
        """The next kernel to run ends like this, and the context with it."""
        self._library.fake_break_next_kernel(code)

    def contexts(self, reset_releases: bool = False, flags_change: bool = False) -> None:
        """What drivers may differ in: whether resetting the primary context gives back what was
        retained, and whether flags may be set while it is open."""
        self._library.fake_contexts(reset_releases, flags_change)

    def memory(self, size: int) -> None:
        """The device has so many bytes."""
        self._library.fake_memory(size)

    def attribute(self, number: int, value: int) -> None:
        """The device has this attribute."""
        self._library.fake_attribute(number, value)

    def order(self, name: str) -> None:
        """The order of a block's threads, see shim.h."""
        self._library.fake_order(name.encode())

    def calls(self, *functions: str) -> int:
        """How often functions were called."""
        return sum(self._library.fake_calls(function.encode()) for function in functions)

    def live(self, what: str) -> int:
        """How many there are: contexts, references (of the primary one), device memory, page-locked,
        modules, streams, events, graphs."""
        found: int = self._library.fake_live(what.encode())
        assert found >= 0, what
        return found

    def flags(self) -> int:
        """Of the primary context."""
        found: int = self._library.fake_flags()
        return found

    def last_graph(self) -> list[str]:
        """What the graph does, node by node."""
        return self._library.fake_last_graph().decode().rstrip(",").split(",")

    def nothing_left(self) -> None:
        """Asserts that nothing is held any more, and no context is current."""
        kinds = (
            "contexts", "references", "device memory", "page-locked", "modules", "streams", "events",
            "graphs",
        )  # fmt: skip
        assert {kind: self.live(kind) for kind in kinds} == dict.fromkeys(kinds, 0)
        assert self._library.fake_depth() == 0
