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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

COARSE = 4  # the whole part is seen as at most 4 x 4 cells
# Regressors for n parts: SHARE n^2 / (n + HALF), at most MOST. On development data few parts want few
# (40 parts none, 120 a quarter as many, 500 more than half as many); MOST bounds memory and time.
SHARE, HALF, MOST = 0.6, 100, 400
SEED = 0
# Regressors that vary less than this share of the strongest are left out: in float32 they are noise.
RANK = 1e-5

PARTS = 64  # whose local features are in memory at once

Floats = NDArray[np.float64]
Grid = tuple[int, int]


class Stored(Protocol):
    """Local features [n, P, d] that lie elsewhere and are read piece by piece."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice | tuple[slice, slice], /) -> NDArray[np.float32]:
        """Of some parts, or of all parts at some positions."""
        ...

    def take(self, index: NDArray[Any], /) -> Stored:
        """The parts at these places, or where a mask is set."""
        ...

    def joined(self, other: Any, /) -> Stored:
        """Both, one after the other."""
        ...


LocalFeatures = NDArray[Any] | Stored


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


def coarse_view(local: LocalFeatures, grid: Grid) -> Floats:
    """[n, m d] of local features [n, P, d]."""
    weights = pooling(grid)
    view = np.empty((len(local), len(weights) * local.shape[2]))
    for first in range(0, len(local), PARTS):
        some = slice(first, first + PARTS)
        view[some] = (weights @ local[some].astype(np.float64)).reshape(-1, view.shape[1])
    return view


def regressors_for(n: int, most: int = MOST) -> int:
    """How many regressors n parts can pay for, at most `most`."""
    return min(int(SHARE * n * n / (n + HALF)), most)


def fit_context(local: LocalFeatures, grid: Grid, most: int = MOST) -> Context:
    """At most `most` regressors of the parts with local features [n, P, d]."""
    view = coarse_view(local, grid)
    mean = view.mean(axis=0)
    # More of a small view would be the positions themselves, and explain everything away.
    q = min(regressors_for(len(view), most), view.shape[1] // 4)
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
