"""Where everything lies in the device's memory, for `mahalanobis.cu` and for those who pack for it.

Two buffers hold what a calibration gives, written once:

    vectors   uint32 [n, 4]   what is read 16 bytes at a time: whitening factors, context, coefficients
    floats    float32 [n]     means, scales of rows, pooling weights

and a table, int32, says where in them the Gaussians lie: one row of LEVEL_FIELDS per level and tile, or
one row of TILE_FIELDS per tile. Offsets count vectors in `vectors` and numbers in `floats`.

A vector holds 4 floats or 8 halves (`wide`). A row of d numbers is padded with zeros to whole vectors. A
half is in units of its row's scale, a power of two, so that the row's largest lies in [2^14, 2^15). An
upper trapezoid W [k, d] leaves out the vectors that are zero because they lie below the diagonal:

    by rows      row after row, row r from vector r // wide on     (one level: a warp reads along a row)
    by columns   column of vectors after column of vectors, of column c the rows below wide * (c + 1)
                 (one position: a thread has a row, its neighbours the next)

Levels: each W by rows; `floats` has its mean, padded, and k scales where W is in halves. `pairs`,
uint32: Gaussian << 16 | r for the rows r and k - 1 - r (once, where they are the same). A Gaussian's
pairs lie next to each other, the longest Gaussians first, so that the last to start is soon done.

Positions: per tile the context [q, m d] as whole rows, pooling [m, P] and context_mean [m d]; then per
position coefficients [d, q] by columns of vectors, without any left out, W by columns, and in `floats`
mean [d] and k scales.

Beside them lie the engine's features [T, D] and local [T, P, d], as they are, and scratch that is zero
when it is made and never written by a host again: `squares` and `tickets` of a LevelsPlan, `view` and
`regressors` of a CellsPlan.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Store = Literal["f32", "f16"]

VECTOR = 16  # bytes
WIDE: dict[Store, int] = {"f32": 4, "f16": 8}
WARP = 32
BLOCK = 256  # threads; __launch_bounds__ of the kernels
# No offset may leave an int32, and no row the lower half of a pair.
MOST_VECTORS = 2**31 - 1
MOST_ROWS = MOST_GAUSSIANS = 2**16

LEVEL_FIELDS = (
    "weights",  # first vector of W
    "scales",  # first scale, where W is in halves
    "mean",  # first number of the mean, a multiple of 4
    "features",  # first number in features
    "k",
    "d",
    "first",  # its first pair
    "pairs",  # how many
    "distance",  # where in distances [T, L]
    "half",  # 1: W is in halves
    "unused",
    "unused2",
)
TILE_FIELDS = (
    "weights",  # first vector of the first position's W
    "scales",  # first scale, where W is in halves
    "mean",  # first number of the first position's mean
    "k",
    "half",
    "q",  # regressors; 0: the positions by themselves
    "coefficients",  # first vector of the first position's
    "context",  # first vector
    "context_mean",
    "pooling",
    "m",  # cells of the coarse view
    "unused",
)


def vectors_for(numbers: int, wide: int) -> int:
    """Vectors that so many numbers fill."""
    return -(-numbers // wide)


def factor_vectors(k: int, d: int, wide: int) -> int:
    """Vectors of an upper trapezoid [k, d], packed by rows or by columns."""
    full, rest = divmod(k, wide)
    return k * vectors_for(d, wide) - (wide * full * (full - 1) // 2 + rest * full)


def distance_operations(k: int, d: int) -> int:
    """Additions and multiplications of |W (x - mean)| for an upper trapezoid [k, d], the root counted as
    one."""
    entries = k * d - k * (k - 1) // 2
    return d + 2 * entries + 2 * k


def padded(numbers: int, wide: int) -> int:
    """The next multiple of `wide`."""
    return vectors_for(numbers, wide) * wide


def by_rows(whitening: NDArray[np.generic], wide: int) -> NDArray[np.generic]:
    """[n, wide] of W [k, d]."""
    k, d = whitening.shape
    rows = whole_rows(whitening, wide)
    kept = np.arange(vectors_for(d, wide)) >= (np.arange(k) // wide)[:, None]
    return np.asarray(rows[kept])


def by_columns(whitening: NDArray[np.generic], wide: int) -> NDArray[np.generic]:
    """[P, n, wide] of W [P, k, d]."""
    _, k, d = whitening.shape
    columns = whole_columns(whitening, wide)
    kept = np.arange(vectors_for(d, wide))[:, None] >= np.arange(k) // wide
    return np.asarray(columns[:, kept])


def whole_rows(matrix: NDArray[np.generic], wide: int) -> NDArray[np.generic]:
    """[..., rows, vectors, wide] of a matrix [..., rows, columns], padded with zeros."""
    *lead, columns = matrix.shape
    result = np.zeros((*lead, padded(columns, wide)), matrix.dtype)
    result[..., :columns] = matrix
    return result.reshape(*lead, -1, wide)


def whole_columns(matrix: NDArray[np.generic], wide: int) -> NDArray[np.generic]:
    """[P, vectors, rows, wide] of matrices [P, rows, columns], padded with zeros."""
    return np.ascontiguousarray(whole_rows(matrix, wide).swapaxes(1, 2))


def as_vectors(numbers: NDArray[np.generic]) -> NDArray[np.uint32]:
    """The bytes of packed numbers [..., wide] as uint32 [n, 4]."""
    return np.ascontiguousarray(numbers).reshape(-1).view(np.uint32).reshape(-1, 4)
