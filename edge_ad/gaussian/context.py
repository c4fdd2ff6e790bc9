"""A part as a whole, as the regressors of what is seen at each of its positions.

Good parts differ from each other: lighter, darker, coarser, turned a little. Most of that shows all over
the part at once, so a position's features are predicted from a coarse view of the whole part by least
squares, and the Gaussian of the position is of what is left.

The regressors are random projections of the coarse view, drawn from a seed before any part is seen. (Its
principal components would predict as well, but they depend on every part that is fitted: a part left out
later would then be further from the fit than a new one. With fixed regressors leaving a part out has an
exact closed form, see `leverage`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

COARSE = 4  # the whole part is seen as at most 4 x 4 cells
# Regressors for n parts: SHARE n^2 / (n + HALF), at most MOST. On development data few parts want few
# (40 parts none, 120 a quarter as many, 500 more than half as many); MOST bounds memory and time.
SHARE, HALF, MOST = 0.6, 100, 400
SEED = 0
# Regressors that vary less than this share of the strongest are left out: in float32 they are noise.
RANK = 1e-5

Floats = NDArray[np.float64]
Grid = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Regressors of n parts.

    mean: [m d]; axes: [q, m d], so that t = axes @ (coarse view - mean) are the regressors of a part;
    basis: [n, q], t of the fitted parts, orthonormal columns that sum to zero. q may be 0.
    """

    mean: Floats
    axes: Floats
    basis: Floats

    @property
    def leverage(self) -> Floats:
        """[n]: a part's residual without it is its residual / (1 - leverage). The mean counts too."""
        return np.asarray((self.basis**2).sum(axis=1) + 1.0 / len(self.basis))


def pooling(grid: Grid) -> Floats:
    """[m, P] weights of the means over at most 4 x 4 cells of a grid of P positions."""
    rows, columns = (_halves(side) for side in grid)
    return np.asarray(np.kron(rows, columns), dtype=np.float64)


def coarse_view(local: NDArray[Any], grid: Grid) -> Floats:
    """[n, m d] of local features [n, P, d]."""
    return np.asarray((pooling(grid) @ local.astype(np.float64)).reshape(len(local), -1))


def regressors_for(n: int) -> int:
    """How many regressors n parts can pay for."""
    return min(int(SHARE * n * n / (n + HALF)), MOST)


def fit_context(local: NDArray[Any], grid: Grid) -> Context:
    """Regressors of the parts with local features [n, P, d]."""
    view = coarse_view(local, grid)
    mean = view.mean(axis=0)
    # More of a small view would be the positions themselves, and explain everything away.
    q = min(regressors_for(len(view)), view.shape[1] // 4)
    directions = np.random.default_rng(SEED).standard_normal((view.shape[1], q))
    left, singular, right = np.linalg.svd((view - mean) @ directions, full_matrices=False)
    kept = singular > RANK * max(float(singular.max(initial=0.0)), 1e-30)
    axes = (directions @ (right[kept].T / singular[kept])).T
    return Context(mean, axes, left[:, kept])


def _halves(side: int) -> Floats:
    """[min(4, side), side] weights of means over stretches of nearly equal length."""
    edges = np.linspace(0, side, min(COARSE, side) + 1).round().astype(int)
    weights = np.zeros((len(edges) - 1, side))
    for row, (first, last) in enumerate(pairwise(edges)):
        weights[row, first:last] = 1.0 / (last - first)
    return weights
