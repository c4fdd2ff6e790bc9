"""The owner of one GPU: its primary context, current in one thread, and all that is held in it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from edge_ad.cuda.driver import read_driver
from edge_ad.cuda.failure import CONTEXT_IS_DESTROYED, STICKS, check, doing, libraries
from edge_ad.cuda.primary import SETUP, Retained, choose_waiting
from edge_ad.errors import DeviceError

logger = logging.getLogger(__name__)

_here = threading.local()


class _Guard:
    """Lets go of a context when its thread ends: pycuda aborts the process if one is left there."""

    def __init__(self, kept: list[Retained]) -> None:
        self.kept = kept

    def __del__(self) -> None:
        if self.kept:
            self.kept.pop().release()


class Device:
    """One GPU, opened for the thread that calls this, which alone may use and close it.

    What is made on a device is given to `hold`, and gone when the device is closed. Other libraries in
    the process (TensorRT, PyTorch) share the primary context. A device that was broken by an error that
    sticks, as an illegal address, is closed all the same; the context is then reset, for them and other
    Devices too, and another Device may be opened. (NVIDIA promises that only for a new process: opening
    makes a trial.)
    """

    def __init__(self, ordinal: int = 0, blocking: bool = True) -> None:
        """Open it. `blocking`: the thread sleeps while it waits for the GPU; else it spins, which is
        some microseconds faster and takes a whole core.

        `driver` and `facts` say what it is. Raises DeviceError when there is no driver, no such device,
        or a library in this process has already opened it with the other kind of waiting.
        """
        self.ordinal, self.blocking = ordinal, blocking
        guard: _Guard | None = getattr(_here, "guard", None)
        if guard is not None and guard.kept:
            raise DeviceError(
                f"GPU {ordinal}: thread {threading.current_thread().name!r} has a GPU open already; "
                "close that first, or open this one in a thread of its own"
            )
        self.driver = read_driver(ordinal)
        self.facts = self.driver.device
        self.pycuda, self.bindings = libraries()
        self._held: list[tuple[Any, Callable[[], object] | None]] = []
        self._context: list[Retained] = []  # the one, while it is open
        self._thread = threading.get_ident()
        what = f"opening GPU {ordinal}"
        with SETUP:
            with doing(what):
                self.pycuda.init()
            choose_waiting(ordinal, blocking, what)
            self._context.append(Retained(ordinal, what))
            _here.guard = _Guard(self._context)
            try:
                self.wait_for_copies(f"{what} (a context that answers)")
            except DeviceError:
                self.close()
                raise

    @property
    def opened(self) -> bool:
        """Until it is closed."""
        return bool(self._context)

    def check_thread(self) -> None:
        """DeviceError when it is closed or this is not its thread."""
        if not self._context:
            raise DeviceError(f"GPU {self.ordinal} is closed; open another Device")
        if threading.get_ident() != self._thread:
            raise DeviceError(
                f"GPU {self.ordinal} is used in thread {threading.current_thread().name!r}, which did "
                "not open it; use it in the thread that did"
            )

    def synchronize(self, what: str = "waiting for the GPU") -> None:
        """Wait for all that was enqueued in this context, by other threads too: not for frames. Raises
        DeviceError for what failed in it."""
        self.check_thread()
        with SETUP:
            check(self.bindings.cuCtxSynchronize(), what)

    def wait_for_copies(self, what: str) -> None:
        """Wait for what was put on no stream of one's own, which is how pycuda copies and clears. Raises
        DeviceError for what failed in it."""
        self.check_thread()
        with SETUP:
            check(self.bindings.cuStreamSynchronize(0), what)

    def usable(self) -> bool:
        """Whether the context still answers, when all that was enqueued is done; an error that sticks
        fails every call after it. Other errors tell nothing of the context."""
        self.check_thread()
        with SETUP:
            return self._context[0].current and self._wait() not in STICKS

    def _wait(self) -> int:
        return int(self.bindings.cuCtxSynchronize()[0])

    def memory(self) -> tuple[int, int]:
        """Bytes that are free and bytes that there are."""
        self.check_thread()
        with doing("asking for the GPU's free memory"):
            free, total = self.pycuda.mem_get_info()
        return int(free), int(total)

    def hold(self, handle: Any, free: Callable[[], object] | None = None) -> None:
        """Keep a handle of pycuda's or cuda.bindings' until `release` or `close`, and how it is freed
        (None: by nobody holding it)."""
        self._held.append((handle, free))

    def release(self, handle: Any) -> None:
        """Free what `hold` was given. In a broken context nothing can be: it goes with the context.
        Nothing happens once the device is closed. What the driver does not free is logged."""
        if not self._context:
            return
        self.check_thread()
        with SETUP:
            if not self.usable():
                return
            for i, (held, free) in enumerate(self._held):
                if held is handle:
                    del self._held[i]
                    self._free(free)
                    return

    def _free(self, free: Callable[[], object] | None) -> None:
        try:
            if free is not None:
                free()
        except (DeviceError, self.pycuda.Error) as error:
            logger.warning("GPU %d: not freed until its context is closed: %s", self.ordinal, error)

    def close(self) -> None:
        """Free what is held, the last first, and let go of the context; calling it again does nothing.

        Of a broken device nothing is freed by itself; its context is reset, unless another Device did
        that before. What the driver does not free is logged. Raises DeviceError when another thread
        calls it.
        """
        if not self._context:
            return
        self.check_thread()
        with SETUP:
            context = self._context[0]
            state = self._wait() if context.current else CONTEXT_IS_DESTROYED
            try:
                while state not in STICKS and self._held:
                    handle, free = self._held.pop()
                    self._free(free)
                    del handle, free
            finally:
                self._context.clear()
                # One that another library has reset is not there to be reset.
                context.release(broken=state in STICKS and state != CONTEXT_IS_DESTROYED)
                # What pycuda still has of a broken context it now knows to be dead, and does not free.
                self._held.clear()

    def reopen(self) -> Device:
        """Close this device and open it anew, after an error that sticks. All that was made on it is
        gone.

        Raises DeviceError when the GPU does not come back; only a restart of the process helps then.
        """
        self.close()
        return Device(self.ordinal, self.blocking)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
