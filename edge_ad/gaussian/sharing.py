"""What a position learns from others: how restless its neighbours are, and the covariance around it.

A position's covariance from n parts in d dimensions is noisy where n is not far above d, so it is shrunk
towards two targets at once, a sphere and the mean covariance of its neighbourhood, with the weights
that minimise the expected squared error (Lancewicki and Aladjem, 2014, "Multi-target shrinkage
estimation for covariance matrices"; with the sphere alone it is Ledoit and Wolf's), summed over all
positions, each on its own scale. Where positions are alike, as on a texture that lies differently in
every picture, the neighbourhood gets most of the weight; where each has its own look, hardly any.

(Weights of its own for each position detect no more, and depend on each part there: where one stands
out, a position seems noisier and is shrunk more, so left-out distances were too small and 25 parts gave
1.3 times the promised false rejects.)

The squared error is mostly that of large variances, but defects show where variances are small, and
there a position's own parts say more. So only d / (d + n) of the neighbourhood's weight is used (with
replicates, n counts them too): most of it with few parts, little with many. (Development data, detected
at 2 % false rejects without neighbours, with all of the weight, and so. Rendered textures and parts: 45,
59, 58 % with 50 parts; 64, 66, 66 % with 200. Magnetic tiles: 43, 38, 40 % with 50; 79, 74, 78 % with
444.)

The nearest neighbours are left out of the target: their features see the same pixels, and would bring a
part that is left out of its own position back in by the neighbours'.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.gaussian.context import Grid

NEAR = 1  # cells: how far the neighbours that features overlap with reach
AROUND = 3  # cells: how far a position's neighbourhood reaches
FEWEST = 8  # cells of a neighbourhood; the mean of fewer is noise itself
NOTHING = 1e-9  # share of the most restless position's variance below which one never changed

Floats = NDArray[np.float64]


def smooth(values: NDArray[Any], grid: Grid) -> Floats:
    """Mean over the neighbours inside the grid (3 x 3), [..., P]."""
    rows, columns = (_within(side, NEAR) for side in grid)
    rows, columns = (near / near.sum(axis=1, keepdims=True) for near in (rows, columns))
    field = values.reshape(*values.shape[:-1], *grid)
    return np.asarray((rows @ field @ columns.T).reshape(values.shape))


def neighbourhood(covariance: Floats, grid: Grid) -> tuple[Floats, Floats]:
    """Mean of [P, d, d] over each position's ring (its neighbourhood without its nearest), scaled to the
    position's own trace, and the factors [P] from the sum to that. Where a ring has fewer than 8
    positions (a grid of 3 x 3) or these never change it is a sphere, and the factor 0."""
    positions, d, _ = covariance.shape
    total, count = np.zeros_like(covariance), np.zeros(positions)
    for reach, sign in ((AROUND, 1.0), (NEAR, -1.0)):
        rows, columns = (_within(side, reach) for side in grid)
        total += sign * _summed(covariance, grid, rows, columns)
        count += sign * np.outer(rows.sum(axis=1), columns.sum(axis=1)).ravel()
    own, theirs = (np.trace(x, axis1=1, axis2=2) for x in (covariance, total))
    there = (count >= FEWEST) & (theirs > NOTHING * count * float(own.max(initial=0.0)))
    factor = np.divide(own, theirs, out=np.zeros(positions), where=there)
    total *= factor[:, None, None]
    total[~there] = (own[~there] / d)[:, None, None] * np.eye(d)
    return total, factor


def rings(grid: Grid) -> Iterator[tuple[slice, slice, Floats]]:
    """Row after row of the grid: its positions, those of all rows that their rings reach into, and
    [columns, positions of those rows], 1 where one is in the other's ring."""
    far, near = ([_within(side, reach) for side in grid] for reach in (AROUND, NEAR))
    rows, columns = grid
    for row in range(rows):
        first, last = max(0, row - AROUND), min(rows, row + AROUND + 1)
        ring = np.kron(far[0][row, first:last], far[1]) - np.kron(near[0][row, first:last], near[1])
        yield slice(row * columns, (row + 1) * columns), slice(first * columns, last * columns), ring


def target_weights(
    covariance: Floats, around: Floats, noise: Floats, borrow: float = 1.0
) -> tuple[float, float]:
    """Weights of the sphere and of the neighbourhood, at least 0 and together at most 1.

    covariance S and its targets `around`: [P, d, d]; noise: [P], E |S - Sigma|^2, of which the targets
    are taken to have none; borrow: between the best weights (1) and those without neighbours (0).
    With a = m I - S and b = around - S the best weights solve, summed over positions in units of m,

        |a|^2 u + <a, b> v = noise,  <a, b> u + |b|^2 v = noise.
    """
    d = covariance.shape[1]
    scale = np.trace(covariance, axis1=1, axis2=2) / d
    changes = scale > NOTHING * scale.max()
    unit = np.divide(1.0, scale**2, out=np.zeros_like(scale), where=changes)
    # Without copies: S, m I and `around` have the same trace, so <S, m I> = |m I|^2 = d m^2.
    squared = np.einsum("pij,pij->p", covariance, covariance)
    mixed = np.einsum("pij,pij->p", covariance, around)
    theirs = np.einsum("pij,pij->p", around, around)
    a = float(unit @ np.maximum(squared - d * scale**2, 0.0))
    b = float(unit @ np.maximum(theirs - 2.0 * mixed + squared, 0.0))
    ab, total = float(unit @ (squared - mixed)), float(unit @ noise)
    alone = _share(total, a)
    determinant = a * b - ab**2
    if determinant <= 1e-12 * a * b:
        return alone, 0.0
    sphere, shared = total * (b - ab) / determinant, total * (a - ab) / determinant
    # Where a weight would be below zero, the best is the other target alone.
    if shared < 0.0:
        return alone, 0.0
    if sphere < 0.0:
        sphere, shared = 0.0, _share(total, b)
    # Together above 1: scaled, which is the best on the border where they sum to 1.
    together = max(sphere + shared, 1.0)
    return borrow * sphere / together + (1.0 - borrow) * alone, borrow * shared / together


def _share(noise: float, distance: float) -> float:
    return min(noise / distance, 1.0) if distance > 0.0 else 0.0


def _summed(field: Floats, grid: Grid, rows: Floats, columns: Floats) -> Floats:
    """[P, d, d] summed with weights over rows and columns of the grid."""
    down = rows @ field.reshape(grid[0], -1)
    return np.asarray((columns @ down.reshape(*grid, -1)).reshape(field.shape))


def _within(side: int, reach: int) -> Floats:
    """[side, side]: 1 where two cells are at most `reach` apart."""
    near = np.abs(np.subtract.outer(np.arange(side), np.arange(side))) <= reach
    return near.astype(np.float64)
