"""How far a part lies from the good ones at each level of the network, in one number each.

Calibration takes them of every good part by a fit without it, the daemon of every part that it judges:
by the same function. The plain mean over tiles: at one level all tiles have as many features, so their
distances are alike; tiles that vary more weigh more, and one that is ignored adds nothing. One tile that
stands out is what the score is for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def level_means(distances: NDArray[Any]) -> NDArray[np.float64]:
    """[..., L] of distances [..., T, L] of a part's T tiles."""
    total = np.add.reduce(distances, axis=-2, dtype=np.float64)  # half the time of `mean`
    return np.asarray(total / distances.shape[-2])


def distance_of(level: str) -> str:
    """The statistic's name, as metrics and alarms have it."""
    return f"distance_{level}"
