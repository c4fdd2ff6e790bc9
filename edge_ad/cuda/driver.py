"""The NVIDIA driver: whether there is one and what it can do, asked without any library but its own."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from edge_ad.errors import DeviceError

LIBRARY = "libcuda.so.1"

OTHERWISE = "or set engine.kind to one that needs no GPU"
INSTALL = f"install NVIDIA's driver (on a Jetson it comes with JetPack), {OTHERWISE}"
# What cuInit is known to fail with, and what helps.
_INIT: dict[int, tuple[str, str]] = {
    3: ("CUDA_ERROR_NOT_INITIALIZED", INSTALL),
    34: ("CUDA_ERROR_STUB_LIBRARY", f"this is the toolkit's stub, not a driver: {INSTALL}"),
    100: (
        "CUDA_ERROR_NO_DEVICE",
        "look whether `nvidia-smi` lists the GPU and CUDA_VISIBLE_DEVICES is unset",
    ),
    802: ("CUDA_ERROR_SYSTEM_NOT_READY", "wait until the driver's services run, then start again"),
    803: ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "reboot: the kernel runs another version of the driver"),
    804: (
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        "uninstall the package cuda-compat or take it off LD_LIBRARY_PATH",
    ),
    999: ("CUDA_ERROR_UNKNOWN", "load the kernel's module (`sudo modprobe nvidia_uvm`) or reboot"),
}


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that works: its CUDA version as 12060 for 12.6, and how many devices it has (>= 1)."""

    version: int
    devices: int

    @property
    def text(self) -> str:
        """The version as "12.6"."""
        return version_text(self.version)


def version_text(version: int) -> str:
    """12060 as "12.6"."""
    return f"{version // 1000}.{version % 1000 // 10}"


def find_driver(library: str = LIBRARY) -> Driver:
    """The machine's driver, initialised in this process.

    Raises DeviceError when there is none, it cannot be initialised, or it has no device.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        raise DeviceError(f"no NVIDIA driver on this machine ({error}); {INSTALL}") from error
    try:
        code = int(cuda.cuInit(0))
        version, devices = ctypes.c_int(0), ctypes.c_int(0)
        # The version is known even where nothing else is.
        versioned = int(cuda.cuDriverGetVersion(ctypes.byref(version)))
        counted = int(cuda.cuDeviceGetCount(ctypes.byref(devices))) if code == 0 else 0
    except AttributeError as error:
        raise DeviceError(f"{library} is no NVIDIA driver ({error}); {INSTALL}") from error
    if code:
        name, remedy = _INIT.get(code, (f"code {code}", "see the kernel's log (`dmesg`) for NVRM"))
        raise DeviceError(
            f"the NVIDIA driver {version_text(version.value)} cannot be initialised: cuInit returned "
            f"{code} ({name}); {remedy}"
        )
    if versioned or counted:
        raise DeviceError(
            f"the NVIDIA driver does not answer: cuDriverGetVersion returned {versioned}, "
            f"cuDeviceGetCount {counted}; see the kernel's log (`dmesg`) for NVRM"
        )
    if devices.value < 1:
        raise DeviceError(f"the NVIDIA driver {version_text(version.value)} has no GPU; {_INIT[100][1]}")
    return Driver(version.value, devices.value)
