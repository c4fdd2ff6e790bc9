"""NVIDIA's builder library: which one is here, its version, and what that version can do."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from edge_ad.errors import DeviceError

Name = Literal["tensorrt", "tensorrt-rtx"]
# The names of the module: of the whole package, and of the bindings alone.
MODULES: dict[str, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
OLDEST = {"tensorrt": (10, 0), "tensorrt-rtx": (1, 4)}
NEWEST_MAJOR = {"tensorrt": 11, "tensorrt-rtx": 1}
# The last release whose f16 may have to be the builder's choice: that of JetPack 6.1 and 6.2.
LAST_WEAK = (10, 3)
REMEDY = {
    "tensorrt": (
        "Jetson: apt install python3-libnvinfer, and make the environment with --system-site-packages; "
        "PC: pip install tensorrt-cu12 or tensorrt-cu13, by the driver's CUDA, in the line PC's "
        "environment"
    ),
    "tensorrt-rtx": "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs",
}

Importer = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Library:
    """A builder library that was found. `module` is the imported one."""

    name: Name
    module: Any
    version: str

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version."""
        return _release(self.version)

    @property
    def needs_device(self) -> bool:
        """Whether it builds only on the card that the engine is for: TensorRT times kernels there."""
        return self.name == "tensorrt"

    @property
    def timing_cache(self) -> bool:
        """Whether timings can be kept for the next build; with TensorRT-RTX that does nothing."""
        return self.name == "tensorrt"

    @property
    def weak_fp16(self) -> bool:
        """Whether f16 may be left to the builder: a flag that TensorRT 11 no longer has, and that is
        of use only to 10.3 and before."""
        return self.name == "tensorrt" and self.release <= LAST_WEAK

    @property
    def strongly_typed(self) -> int:
        """Bits for `create_network` by which every tensor keeps the type that the ONNX gives it; 0 in a
        version that knows nothing else."""
        flag = getattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return 0 if flag is None else 1 << int(flag)


def open_library(name: Name = "tensorrt", importer: Importer = importlib.import_module) -> Library:
    """Import the builder library and look at its version.

    Raises DeviceError when it is missing, cannot be loaded, or is not of a version that is supported.
    """
    failures = []
    for module_name in MODULES[name]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its bindings warn of their own enums
                module = importer(module_name)
        except (ImportError, OSError) as error:  # OSError: a library that the bindings load
            failures.append(f"{module_name}: {error}")
            continue
        return _supported(Library(name, module, str(getattr(module, "__version__", "of no version"))))
    raise DeviceError(
        f"{name} {_text(OLDEST[name])} or later is needed, none is installed here "
        f"({'; '.join(failures)}); {REMEDY[name]}"
    )


def _supported(library: Library) -> Library:
    oldest, major = OLDEST[library.name], NEWEST_MAJOR[library.name]
    if not oldest <= library.release or library.release[0] > major:
        raise DeviceError(
            f"{library.name} {_text(oldest)} to {major}.x is supported, {library.version} is installed; "
            f"{REMEDY[library.name]}"
        )
    return library


def _release(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _text(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"
