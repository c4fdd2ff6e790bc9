"""How large a camera's pixel is for the network."""

from __future__ import annotations

import math


def camera_px_per_network_px(width: int, height: int, network_width: int, network_height: int) -> float:
    """Side of the camera's square that becomes one pixel of the network's input, for a region of
    width x height camera pixels. Where the two directions differ: the square of the same area."""
    return math.sqrt((width / network_width) * (height / network_height))
