"""How fast GPUs' memory is, for the least time that a kernel can take. Computed, not measured."""

from __future__ import annotations

# GB/s, as their makers state them; of the H200 what a copy reaches.
BANDWIDTH = {"Orin Nano": 102.0, "AGX Orin": 204.8, "RTX 4090": 1008.0, "H200": 4300.0}


def floor_us(size: int, bandwidth: float) -> float:
    """Microseconds that reading `size` bytes takes at a bandwidth in GB/s."""
    return size / bandwidth / 1e3
