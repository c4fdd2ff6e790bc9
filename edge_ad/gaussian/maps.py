"""Where a part is unusual, for those who look: the smaller of z given the whole and z by itself (see
`local`).

Nothing is decided by it, and reading a second whitening factor of every position takes as long as the
score does. So it is made when it is asked for, from what the engine has left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.gaussian.context import Grid

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MapMaker:
    """The positions of T tiles by themselves: mean [T, P, d] and alone [T, P, d, d], float32; center and
    spread [T, P] of |alone (x - mean)| of parts that were not fitted."""

    grid: Grid
    mean: NDArray[np.float32]
    alone: NDArray[np.float32]
    center: Floats
    spread: Floats

    def maps(self, local: NDArray[Any], given: NDArray[Any]) -> NDArray[np.float32]:
        """[T, rows, columns] of local features [T, P, d] and z given the whole [T, P]."""
        x = local - self.mean
        y = np.matmul(self.alone, x[..., None])[..., 0]
        z = (np.sqrt(np.einsum("tpd,tpd->tp", y, y)) - self.center) / self.spread
        return anomaly_map(given, z, self.grid)


def anomaly_map(given: NDArray[Any], alone: NDArray[Any], grid: Grid) -> NDArray[np.float32]:
    """[..., rows, columns] of z [..., P] given the whole and by itself."""
    smaller = np.minimum(given, alone).astype(np.float32)
    return np.asarray(smaller.reshape(*smaller.shape[:-1], *grid))
