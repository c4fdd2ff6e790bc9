"""The NVIDIA driver and a card of its, asked through its own library before any other is loaded.

TensorRT's Runtime ends the process where there is no driver, so this comes first.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_size_t
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ad.cuda.facts import MEMORY_STEP, DeviceFacts
from edge_ad.errors import DeviceError

LIBRARY = "libcuda.so.1"

OTHERWISE = "set engine.kind to one that needs no GPU"
_CONTAINER = f"in a container, start it with --gpus all; or {OTHERWISE}"
INSTALL = f"install NVIDIA's driver (PC: the package nvidia-driver; Jetson: JetPack); {_CONTAINER}"
_LOOK = (
    "see that nvidia-smi (Jetson: tegrastats) shows the card and CUDA_VISIBLE_DEVICES is unset; "
    f"{_CONTAINER}"
)
# What is known to go wrong, and what helps. The names too: a toolkit's stub does not tell its own.
_KNOWN: dict[int, tuple[str, str]] = {
    3: ("CUDA_ERROR_NOT_INITIALIZED", INSTALL),
    34: ("CUDA_ERROR_STUB_LIBRARY", f"this is the toolkit's stub, not a driver: {INSTALL}"),
    100: ("CUDA_ERROR_NO_DEVICE", _LOOK),
    802: ("CUDA_ERROR_SYSTEM_NOT_READY", "wait until the driver's services run, then start again"),
    803: ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "reboot: the kernel runs another version of the driver"),
    804: (
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        "uninstall the package cuda-compat or take it off LD_LIBRARY_PATH",
    ),
    999: ("CUDA_ERROR_UNKNOWN", "load the kernel's module (`sudo modprobe nvidia_uvm`) or reboot"),
}
_LOG = "see the kernel's log (`dmesg`) for NVRM"
# CUdevice_attribute of cuda.h.
_MULTIPROCESSORS, _INTEGRATED, _ECC, _BUS_WIDTH, _L2, _PAGE_LOCKS = 16, 18, 32, 37, 38, 99
_MAJOR, _MINOR, _SHARED_PER_BLOCK, _SHARED_PER_MULTIPROCESSOR, _SHARED_OPTIN = 75, 76, 8, 81, 97

Load = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that works, and the card that was asked for.

    version: of its CUDA, 12060 for 12.6. release: its own, "580.95.05", on a Jetson "L4T 36.4.3"; empty
    where it is not known. page_locks: memory that is there already can be page-locked and mapped.
    """

    version: int
    release: str
    device: DeviceFacts
    page_locks: bool

    @property
    def text(self) -> str:
        """ "580.95.05, CUDA 12.6": many releases have one CUDA version."""
        return _text(self.version, self.release)


def read_driver(ordinal: int = 0, load: Load = ctypes.CDLL, root: Path = Path("/")) -> Driver:
    """Initialise the driver, which makes no context, and read the card `ordinal`.

    Raises DeviceError when there is no driver, it does not start, or has no such card.
    """
    cuda = _Library(load, root)
    cuda("cuInit", 0)
    version, count, device = c_int(), c_int(), c_int()
    cuda("cuDriverGetVersion", byref(version))
    cuda("cuDeviceGetCount", byref(count))
    if not 0 <= ordinal < count.value:
        cards = "1 card" if count.value == 1 else f"{count.value} cards"
        raise DeviceError(
            f"{LIBRARY}: the NVIDIA driver ({cuda.text}) has {cards}, none at place {ordinal} (the "
            f"first is 0); {_LOOK}"
        )
    cuda("cuDeviceGet", byref(device), ordinal)
    locks = bool(cuda.attribute(device, _PAGE_LOCKS))
    return Driver(version.value, cuda.release, _facts(cuda, device), locks)


def cuda_version(driver: int) -> str:
    """As people write it: 12020 is 12.2."""
    return f"{driver // 1000}.{driver % 1000 // 10}"


class _Library:
    """The driver's functions; those that fail raise DeviceError."""

    def __init__(self, load: Load, root: Path) -> None:
        try:
            self._library = load(LIBRARY)
        except OSError as error:
            raise DeviceError(f"{LIBRARY}: no NVIDIA driver here ({error}); {INSTALL}") from error
        self.release = _release(root)

    def __call__(self, function: str, *arguments: Any) -> None:
        code = self._code(function, *arguments)
        if code:
            raise self._failed(function, code)

    @property
    def text(self) -> str:
        """The versions; they are known even where nothing else works."""
        version = c_int()
        self._code("cuDriverGetVersion", byref(version))
        return _text(version.value, self.release)

    def attribute(self, device: c_int, number: int) -> int:
        """Of a card, as cuda.h numbers them."""
        value = c_int()
        self("cuDeviceGetAttribute", byref(value), number, device)
        return value.value

    def _code(self, function: str, *arguments: Any) -> int:
        try:
            call = getattr(self._library, function)
        except AttributeError as error:
            raise DeviceError(f"{LIBRARY} is no NVIDIA driver ({error}); {INSTALL}") from error
        return int(call(*arguments))

    def _failed(self, function: str, code: int) -> DeviceError:
        name, remedy = _KNOWN.get(code, ("", _LOG))
        told = c_char_p()
        if not name and not self._code("cuGetErrorName", code, byref(told)):
            name = (told.value or b"").decode()
        what = "cannot be initialised" if function == "cuInit" else "does not answer"
        return DeviceError(
            f"{LIBRARY}: the NVIDIA driver ({self.text}) {what}: {function} returned "
            f"{code}{f' ({name})' if name else ''}; {remedy}"
        )


def _text(version: int, release: str) -> str:
    runtime = f"CUDA {cuda_version(version)}" if version else ""
    return ", ".join(part for part in (release, runtime) if part) or "of unknown version"


def _release(root: Path) -> str:
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


def _facts(cuda: _Library, device: c_int) -> DeviceFacts:
    name, memory = ctypes.create_string_buffer(256), c_size_t()
    cuda("cuDeviceGetName", name, len(name), device)
    cuda("cuDeviceTotalMem_v2", byref(memory), device)

    def attribute(number: int) -> int:
        return cuda.attribute(device, number)

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
