"""Streams of a device, and the kernels that are launched on them."""

from __future__ import annotations

import struct
from typing import Any

from edge_ad.cuda.device import Device
from edge_ad.cuda.failure import doing
from edge_ad.errors import DeviceError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the legacy stream, nor that for it


class Stream:
    """A stream of its own. `handle`: CUstream as other libraries take it; `raw`: pycuda's."""

    __slots__ = ("_device", "handle", "raw")

    def __init__(self, device: Device) -> None:
        """Raises DeviceError when the driver does."""
        device.check_thread()
        self._device = device
        with doing("making a stream"):
            self.raw: Any = device.pycuda.Stream(_NON_BLOCKING)
        self.handle = int(self.raw.handle)
        device.hold(self.raw)

    def synchronize(self, what: str) -> None:
        """Wait until all that was enqueued is done. Raises DeviceError for what failed in it."""
        self._device.check_thread()
        with doing(what):
            self.raw.synchronize()

    def close(self) -> None:
        """Destroy it; calling it again does nothing."""
        if self.raw is not None:
            self._device.release(self.raw)
            self.raw = None


class Kernel:
    """A function of a module, with the types of its arguments as the `struct` module's characters."""

    __slots__ = ("_arguments", "_function", "name")

    def __init__(self, function: Any, name: str, arguments: str) -> None:
        self.name = name
        self._function = function
        self._arguments = struct.Struct(arguments)  # laid out as a compiler does it

    def launch(
        self,
        stream: Stream,
        grid: tuple[int, int],
        block: int,
        arguments: tuple[int, ...],
        shared: int = 0,
    ) -> None:
        """Enqueue it: blocks of `block` threads and `shared` bytes. Raises DeviceError when refused."""
        if self._function is None:
            raise DeviceError(f"{self.name}: its kernels are unloaded; load them again")
        with doing(f"launching {self.name}"):
            # pycuda's public ways to launch call cuFuncSetBlockShape first, of CUDA 3, for nothing.
            self._function._launch_kernel(
                grid, (block, 1, 1), self._arguments.pack(*arguments), shared, stream.raw
            )

    def forget(self) -> None:
        """Let go of the module; nothing can be launched then."""
        self._function = None


class Module:
    """Kernels from a binary image: a fatbin, a cubin or PTX."""

    __slots__ = ("_device", "_kernels", "_raw")

    def __init__(self, device: Device, image: bytes) -> None:
        """Load it. Raises DeviceError when it is damaged or not for this GPU."""
        device.check_thread()
        self._device = device
        major, minor = device.facts.compute_capability
        with doing("loading the kernels", f"the GPU is {device.facts.name}, sm_{major}{minor}"):
            self._raw: Any = device.pycuda.module_from_buffer(image)
        device.hold(self._raw)
        self._kernels: list[Kernel] = []

    def kernel(self, name: str, arguments: str) -> Kernel:
        """One of its functions; `arguments` as in `Kernel`. Raises DeviceError when it has none such."""
        with doing(f"looking for the kernel {name}"):
            kernel = Kernel(self._raw.get_function(name), name, arguments)
        self._kernels.append(kernel)
        return kernel

    def close(self) -> None:
        """Unload it; calling it again does nothing."""
        if self._raw is not None:
            for kernel in self._kernels:  # pycuda unloads when nobody holds any of it
                kernel.forget()
            self._device.release(self._raw)
            self._raw = None
