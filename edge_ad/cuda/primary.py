"""GPUs' primary contexts as the Devices of this process hold them, and the lock of what they share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from edge_ad.cuda.failure import check, doing, failed, libraries
from edge_ad.errors import DeviceError

# Held while a stream is captured, and by whatever waits for a whole context or its legacy stream: CUDA
# forbids the one during the other, whatever the threads and the mode, and spoils the capture. So it is
# held while an engine is opened or closed. Frames do not take it: they wait for their own stream.
SETUP = threading.RLock()

_SCHEDULE_MASK = 7  # CU_CTX_SCHED_MASK


@dataclass(slots=True)
class _Card:
    """generation: how often its context was reset; held: references that Devices have of this one."""

    generation: int = 0
    held: int = 0


_cards: dict[int, _Card] = {}


class Retained:
    """A reference of a GPU's primary context, current in the thread that made it; SETUP is held."""

    __slots__ = ("_bindings", "_card", "_context", "_generation", "_ordinal")

    def __init__(self, ordinal: int, what: str) -> None:
        """Raises DeviceError, in which it was `what` that was being done."""
        pycuda, self._bindings = libraries()
        self._ordinal = ordinal
        with doing(what):
            context: Any = pycuda.Device(ordinal).retain_primary_context()
        self._context = context
        self._card = _cards.setdefault(ordinal, _Card())
        self._generation = self._card.generation
        self._card.held += 1
        try:
            with doing(what):
                context.push()
        except DeviceError:
            self.release()
            raise

    @property
    def current(self) -> bool:
        """Whether it still is the GPU's; another Device may have reset that."""
        return self._generation == self._card.generation

    def release(self, broken: bool = False) -> None:
        """Give it back; once. A `broken` context is reset, for whoever holds it.

        Takes no lock itself: it is what a thread's end does, also the process's.
        """
        cuda, card = self._bindings, self._card
        if not self.current:
            # Its reference went with the reset, but pycuda gives one back: not the next context's.
            cuda.cuDevicePrimaryCtxRetain(self._ordinal)
            self._detach()
            return
        card.held -= 1
        self._detach()
        if broken:
            # All that Devices have of it: what a reset leaves of references the driver does not say.
            for _ in range(card.held):
                cuda.cuDevicePrimaryCtxRelease(self._ordinal)
            card.held = 0
            card.generation += 1
            cuda.cuDevicePrimaryCtxReset(self._ordinal)

    def _detach(self) -> None:
        self._context.detach()
        # Releasing takes a primary context off no thread's stack, and pycuda leaves it there.
        self._bindings.cuCtxPopCurrent()


def choose_waiting(ordinal: int, blocking: bool, what: str) -> None:
    """How threads wait for this GPU; `blocking`: they sleep. SETUP is held.

    Raises DeviceError where the context is open already and they wait otherwise: some drivers would
    change it for everybody.
    """
    _, cuda = libraries()
    flags = cuda.CUctx_flags
    wanted = int(flags.CU_CTX_SCHED_BLOCKING_SYNC if blocking else flags.CU_CTX_SCHED_SPIN)
    found, active = check(cuda.cuDevicePrimaryCtxGetState(ordinal), what)
    if not active:
        result = cuda.cuDevicePrimaryCtxSetFlags(ordinal, wanted)
        if result[0] != cuda.CUresult.CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE:
            check(result, what)
            return
        found, _ = check(cuda.cuDevicePrimaryCtxGetState(ordinal), what)  # opened meanwhile
    if int(found) & _SCHEDULE_MASK != wanted:
        raise failed(
            "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE",
            f"another library opened it with flags {int(found)}, {wanted} are wanted",
            what,
        )
