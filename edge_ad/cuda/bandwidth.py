"""How fast GPUs' memory is, for the least time that a kernel can take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from edge_ad.cuda.device import Device
from edge_ad.cuda.failure import doing
from edge_ad.cuda.memory import zeros
from edge_ad.cuda.stream import Stream

# GB/s, as their makers state them; of the H200 what a copy reaches. For floors that are computed.
BANDWIDTH = {"Orin Nano": 102.0, "AGX Orin": 204.8, "RTX 4090": 1008.0, "H200": 4300.0}

_COPIED = 1 << 28  # bytes: more than caches hold
_COPIES = 10


def floor_us(size: int, bandwidth: float) -> float:
    """Microseconds that reading `size` bytes takes at a bandwidth in GB/s."""
    return size / bandwidth / 1e3


def floor_table(columns: Sequence[str], cases: Iterable[tuple[Sequence[str], int]]) -> list[str]:
    """Lines of a Markdown table: what the columns say of each case, the MB that it reads, and the
    microseconds which that takes each GPU at least. A case is its cells and its bytes."""
    speeds = (f"{name}, {speed:g} GB/s" for name, speed in BANDWIDTH.items())
    head = [*columns, "MB", *speeds]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for cells, size in cases:
        floors = (f"{floor_us(size, speed):.1f}" for speed in BANDWIDTH.values())
        lines.append("| " + " | ".join((*cells, f"{size / 1e6:.1f}", *floors)) + " |")
    return lines


def copy_bandwidth(device: Device, size: int = _COPIED) -> float:
    """GB/s that a copy from the GPU's memory to itself reaches, read and written bytes together; the
    best of some. Measured, as not every driver tells the clock of the memory. Raises DeviceError.
    """
    best = float("inf")
    with ExitStack() as made:
        stream = Stream(device)
        made.callback(stream.close)
        source, target = (zeros(made, device, size, "what is copied to measure it") for _ in range(2))
        with doing("measuring the GPU's memory"):
            before, after = device.pycuda.Event(), device.pycuda.Event()
            for _ in range(_COPIES):
                before.record(stream.raw)
                device.pycuda.memcpy_dtod_async(target, source, size, stream.raw)
                after.record(stream.raw)
                after.synchronize()
                best = min(best, after.time_since(before))
    return 2 * size / best / 1e6
