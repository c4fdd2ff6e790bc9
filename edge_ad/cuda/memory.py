"""Memory: buffers of the GPU, and arrays of the host that the GPU reads or writes."""

from __future__ import annotations

import math
import mmap
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge_ad.cuda.device import Device
from edge_ad.cuda.driver import OTHERWISE
from edge_ad.cuda.failure import check, doing
from edge_ad.cuda.stream import Stream
from edge_ad.errors import DeviceError


class DeviceBuffer:
    """Bytes of the GPU's memory at `pointer`, aligned to 256. `what` names them in errors.

    What is in them at first is anything. `write`, `zero` and `read` wait until they are done: they are
    for before and after frames, not for frames.
    """

    __slots__ = ("_device", "_raw", "nbytes", "pointer", "what")

    def __init__(self, device: Device, nbytes: int, what: str) -> None:
        """Raises DeviceError with what is free when there is not so much memory."""
        self._device, self.nbytes, self.what = device, max(nbytes, 1), what
        free, total = device.memory()
        more = f"{self.nbytes} bytes asked for, {free} of {total} free"
        with doing(f"allocating {what}", more):
            self._raw: Any = device.pycuda.mem_alloc(self.nbytes)
        device.hold(self._raw, self._raw.free)
        self.pointer = int(self._raw)

    def write(self, array: NDArray[Any]) -> None:
        """Fill it from an array of just its size."""
        self._fits(array.nbytes)
        with doing(f"uploading {self.what}"):
            self._device.pycuda.memcpy_htod(self.pointer, np.ascontiguousarray(array))
        # A copy from memory that is not page-locked may return before the GPU has it all.
        self._device.wait_for_copies(f"uploading {self.what}")

    def zero(self) -> None:
        """Fill it with zeros."""
        self._fits(self.nbytes)
        with doing(f"clearing {self.what}"):
            self._device.pycuda.memset_d8(self.pointer, 0, self.nbytes)
        self._device.wait_for_copies(f"clearing {self.what}")

    def read(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Its contents as a new array of just its size, after all that was enqueued."""
        array = np.empty(shape, dtype)
        self._fits(array.nbytes)
        self._device.synchronize(f"reading {self.what}")
        with doing(f"reading {self.what}"):
            self._device.pycuda.memcpy_dtoh(array, self.pointer)
        return array

    def _fits(self, nbytes: int) -> None:
        self._device.check_thread()
        if self._raw is None or nbytes != self.nbytes:
            held = "nothing any more" if self._raw is None else f"{self.nbytes} bytes"
            raise DeviceError(
                f"{self.what}: {nbytes} bytes for a buffer of {held}; this is a bug, tell it"
            )

    def close(self) -> None:
        """Free it; calling it again does nothing."""
        if self._raw is not None:
            self._device.release(self._raw)
            self._raw = None


def upload(made: ExitStack, device: Device, array: NDArray[Any], what: str) -> int:
    """The address of a copy on the GPU; `made` frees it."""
    buffer = DeviceBuffer(device, array.nbytes, what)
    made.callback(buffer.close)
    buffer.write(array)
    return buffer.pointer


def zeros(made: ExitStack, device: Device, nbytes: int, what: str) -> int:
    """The address of so many bytes on the GPU that are 0; `made` frees them."""
    buffer = DeviceBuffer(device, nbytes, what)
    made.callback(buffer.close)
    buffer.zero()
    return buffer.pointer


class Mirror:
    """An array of the host, `host`, and its counterpart on the GPU at `pointer`.

    `host` is page-locked memory of this process: it stays readable after `close`, with what was in it.
    Where GPU and CPU share their memory both are the same, and `upload` and `download` do nothing; a
    buffer that the GPU reads again and again is better `copied` there too, since that reads past its
    caches.
    """

    __slots__ = ("_buffer", "_device", "_pages", "host", "pointer", "what")

    def __init__(
        self, device: Device, shape: tuple[int, ...], dtype: DTypeLike, what: str, copied: bool = False
    ) -> None:
        """Zeros. Raises DeviceError when there is no memory for it, or none can be page-locked."""
        self._device, self.what = device, what
        self._buffer: DeviceBuffer | None = None
        if not device.driver.page_locks:
            raise DeviceError(
                f"{what}: {device.facts.name} (driver {device.driver.text}) cannot page-lock memory of "
                f"the host; {OTHERWISE}"
            )
        dtype = np.dtype(dtype)
        count = math.prod(shape)
        # Whole pages of their own: no page is locked twice, and NumPy keeps them as long as needed.
        whole = max(1, -(-count * dtype.itemsize // mmap.PAGESIZE)) * mmap.PAGESIZE
        pages = np.frombuffer(mmap.mmap(-1, whole), np.uint8)
        self.host: NDArray[Any] = pages[: count * dtype.itemsize].view(dtype).reshape(shape)
        # pycuda's own way to lock memory that is there crashes with NumPy 2.
        cuda, address = device.bindings, pages.ctypes.data
        device.check_thread()
        locked = cuda.cuMemHostRegister(address, whole, cuda.CU_MEMHOSTREGISTER_DEVICEMAP)
        check(locked, f"page-locking {whole} bytes for {what}")
        self._pages: NDArray[np.uint8] | None = pages
        device.hold(pages, lambda: check(cuda.cuMemHostUnregister(address), f"unlocking {what}"))
        try:
            if device.facts.integrated and not copied:
                self.pointer = int(check(cuda.cuMemHostGetDevicePointer(address, 0), f"mapping {what}"))
            else:
                self._buffer = DeviceBuffer(device, self.host.nbytes, what)
                self._buffer.zero()
                self.pointer = self._buffer.pointer
        except DeviceError:
            self.close()
            raise

    def upload(self, stream: Stream) -> None:
        """Enqueue the copy from the host to the GPU."""
        if self._buffer is not None:
            with doing(f"uploading {self.what}"):
                self._device.pycuda.memcpy_htod_async(self.pointer, self.host, stream.raw)

    def download(self, stream: Stream) -> None:
        """Enqueue the copy from the GPU to the host; wait for the stream before reading."""
        if self._buffer is not None:
            with doing(f"downloading {self.what}"):
                self._device.pycuda.memcpy_dtoh_async(self.host, self.pointer, stream.raw)

    def close(self) -> None:
        """Free the GPU's side and unlock the host's; calling it again does nothing."""
        if self._buffer is not None:
            self._buffer.close()
        if self._pages is not None:
            self._device.release(self._pages)
            self._pages = None
