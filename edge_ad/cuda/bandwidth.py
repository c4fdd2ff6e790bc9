"""How fast GPUs' memory is, for the least time that a kernel can take. Computed, not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# GB/s, as their makers state them; of the H200 what a copy reaches.
BANDWIDTH = {"Orin Nano": 102.0, "AGX Orin": 204.8, "RTX 4090": 1008.0, "H200": 4300.0}


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
