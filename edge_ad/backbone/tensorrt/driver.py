"""Whether there is an NVIDIA driver, and what card it has, asked through ctypes before anything else is.

TensorRT's Runtime ends the process where there is no driver, so this comes first.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edge_ad.backbone.tensorrt.facts import MEMORY_STEP, DeviceFacts
from edge_ad.errors import DeviceError

LIBRARY = "libcuda.so.1"
REMEDY = (
    "install NVIDIA's driver (PC: the package nvidia-driver; Jetson: JetPack) and see that nvidia-smi "
    "or tegrastats shows the card; in a container start it with --gpus all"
)
# CUdevice_attribute of cuda.h.
_MULTIPROCESSORS, _INTEGRATED, _ECC, _BUS_WIDTH, _L2 = 16, 18, 32, 37, 38
_MAJOR, _MINOR, _SHARED_PER_BLOCK, _SHARED_PER_MULTIPROCESSOR, _SHARED_OPTIN = 75, 76, 8, 81, 97

Load = Callable[[str], Any]


class Driver(msgspec.Struct, frozen=True):
    """The driver's release ("580.95.05, CUDA 13.0"; on a Jetson "L4T 36.4.3, CUDA 12.6") and the card
    that it has at the asked place."""

    version: str
    device: DeviceFacts


def read_driver(ordinal: int = 0, load: Load = ctypes.CDLL, root: Path = Path("/")) -> Driver:
    """Initialise the driver, which makes no context, and read the card `ordinal`.

    Raises DeviceError when there is no driver, it does not start, or has no such card.
    """
    try:
        cuda = load(LIBRARY)
    except OSError as error:
        raise DeviceError(f"{LIBRARY}: no NVIDIA driver here ({error}); {REMEDY}") from error
    _checked(cuda, "cuInit", 0)
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _checked(cuda, "cuDriverGetVersion", ctypes.byref(version))
    _checked(cuda, "cuDeviceGetCount", ctypes.byref(count))
    if not 0 <= ordinal < count.value:
        raise DeviceError(f"{LIBRARY}: has {count.value} cards, none at place {ordinal}; {REMEDY}")
    _checked(cuda, "cuDeviceGet", ctypes.byref(device), ordinal)
    runtime = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    release = _release(root)
    return Driver(f"{release}, {runtime}" if release else runtime, _facts(cuda, device))


def _release(root: Path) -> str:
    """The driver's own version; many of them have one CUDA version."""
    try:
        return (root / "sys/module/nvidia/version").read_text().strip()
    except OSError:
        pass
    try:
        told = (root / "etc/nv_tegra_release").read_text()
    except OSError:
        return ""
    found = re.search(r"R(\d+).*?REVISION: ([\d.]+)", told)
    return f"L4T {found[1]}.{found[2]}" if found else ""


def _facts(cuda: Any, device: ctypes.c_int) -> DeviceFacts:
    name = ctypes.create_string_buffer(256)
    _checked(cuda, "cuDeviceGetName", name, len(name), device)
    memory = ctypes.c_size_t()
    _checked(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        _checked(cuda, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    return DeviceFacts(
        name=name.value.decode(errors="replace"),
        compute_capability=(attribute(_MAJOR), attribute(_MINOR)),
        multiprocessors=attribute(_MULTIPROCESSORS),
        l2_bytes=attribute(_L2),
        bus_width=attribute(_BUS_WIDTH),
        shared_per_block=attribute(_SHARED_PER_BLOCK),
        shared_per_block_optin=attribute(_SHARED_OPTIN),
        shared_per_multiprocessor=attribute(_SHARED_PER_MULTIPROCESSOR),
        integrated=bool(attribute(_INTEGRATED)),
        ecc=bool(attribute(_ECC)),
        memory_mib=round(memory.value / 2**20 / MEMORY_STEP) * MEMORY_STEP,
    )


def _checked(cuda: Any, function: str, *arguments: Any) -> None:
    code = getattr(cuda, function)(*arguments)
    if code:
        raise DeviceError(f"{LIBRARY}: {function} returned CUDA error {code}; {REMEDY}")
