"""A card, as far as a kernel's time depends on it. It is in the key of every engine that is kept."""

from __future__ import annotations

import msgspec

MEMORY_STEP = 256  # MiB


class DeviceFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A CUDA device as an engine sees it: TensorRT times its kernels and chooses them by these.

    Sizes are bytes, `bus_width` is bits of the memory bus, `memory_mib` is rounded to MEMORY_STEP: every
    driver keeps a little for itself. The driver is not among them: an engine stays valid under another
    one, but its numbers are checked again.
    """

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    l2_bytes: int
    bus_width: int
    shared_per_block: int
    shared_per_block_optin: int
    shared_per_multiprocessor: int
    integrated: bool
    ecc: bool
    memory_mib: int

    @property
    def text(self) -> str:
        """For a message: "NVIDIA GeForce RTX 4090 (8.9, 128 SM, 24.0 GiB)"."""
        major, minor = self.compute_capability
        memory = self.memory_mib / 1024
        return f"{self.name} ({major}.{minor}, {self.multiprocessors} SM, {memory:.1f} GiB)"


NO_DEVICE = DeviceFacts(
    name="built without a card",
    compute_capability=(0, 0),
    multiprocessors=0,
    l2_bytes=0,
    bus_width=0,
    shared_per_block=0,
    shared_per_block_optin=0,
    shared_per_multiprocessor=0,
    integrated=False,
    ecc=False,
    memory_mib=0,
)
