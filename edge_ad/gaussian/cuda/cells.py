"""What `coarse_views`, `regressors` and `cell_distances` are launched with.

Distances given the part as a whole take all three, one after the other on a stream. Distances by
themselves, which a map needs where it is asked for (see `gaussian.maps`), are the last kernel with other
factors and no regressors: `by_itself`. z and the smaller of the two are a handful of numbers in float64,
made on the host as for every engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.gaussian.cuda.heads import Array, LocalHead, Positions
from edge_ad.gaussian.cuda.layout import (
    BLOCK,
    MOST_VECTORS,
    TILE_FIELDS,
    VECTOR,
    WARP,
    WIDE,
    Store,
    as_vectors,
    by_columns,
    distance_operations,
    factor_vectors,
    padded,
    vectors_for,
    whole_columns,
    whole_rows,
)
from edge_ad.gaussian.cuda.levels import check_triangular
from edge_ad.gaussian.cuda.precision import choose_store, to_halves

SLICES = 4  # as in mahalanobis.cu
MOST_SHARED = 48 << 10  # bytes of shared memory that every GPU gives a block


@dataclass(frozen=True, slots=True)
class TileShape:
    """P positions of d features with W [P, k, d]: q regressors of m cells."""

    positions: int
    d: int
    k: int
    q: int
    m: int
    store: Store = "f32"

    @property
    def context(self) -> int:
        """Vectors of the context."""
        return self.q * vectors_for(self.m * self.d, WIDE["f32"])

    @property
    def coefficients(self) -> int:
        """Vectors of the coefficients of all positions."""
        return self.positions * self.d * vectors_for(self.q, WIDE["f32"])

    @property
    def weights(self) -> int:
        """Vectors of W of all positions."""
        return self.positions * factor_vectors(self.k, self.d, WIDE[self.store])

    @property
    def floats(self) -> tuple[int, int, int, int]:
        """Numbers of mean, scales, pooling and context_mean."""
        scales = self.positions * self.k if self.store == "f16" else 0
        view = (self.m * self.positions, self.m * self.d) if self.q else (0, 0)
        return (self.positions * self.d, scales, *view)

    @property
    def operations(self) -> int:
        """Additions and multiplications of all distances; pooling adds every feature once."""
        given = (2 * self.q + 1) * self.d if self.q else 0
        view = self.positions * self.d + (1 + 2 * self.q) * self.m * self.d if self.q else 0
        return self.positions * (distance_operations(self.k, self.d) + given) + view


@dataclass(frozen=True, slots=True, eq=False)
class CellsPlan:
    """T tiles of P positions and d features.

    table: int32 [T, TILE_FIELDS]; vectors, floats: sizes of the buffers of these names.
    """

    shapes: tuple[TileShape, ...]
    table: NDArray[np.int32]
    vectors: int
    floats: int

    @property
    def tiles(self) -> int:
        """T."""
        return len(self.shapes)

    @property
    def positions(self) -> int:
        """P."""
        return self.shapes[0].positions

    @property
    def d(self) -> int:
        """Features of a position."""
        return self.shapes[0].d

    @property
    def block(self) -> int:
        """Threads of a block, of all three kernels."""
        return BLOCK

    @property
    def view(self) -> int:
        """`stride`: scratch float32 [T, view], zero before the first launch, of the coarse views."""
        return padded(max(shape.m for shape in self.shapes) * self.d, WIDE["f32"])

    @property
    def regressors(self) -> int:
        """`most`: scratch float32 [T, regressors], zero before the first launch, of t; 0: none."""
        return padded(max(shape.q for shape in self.shapes), WIDE["f32"])

    @property
    def grids(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Of `coarse_views`, `regressors` (neither is launched where there are no regressors) and
        `cell_distances`."""
        cells = max(shape.m for shape in self.shapes) * vectors_for(self.d, WARP)
        rows = max(1, vectors_for(self.regressors, BLOCK // WARP))
        return (cells, self.tiles), (rows, self.tiles), (self.positions, self.tiles)

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory of a block of `cell_distances`."""
        widest = max(self.d, *(shape.k for shape in self.shapes))
        return 4 * (self.regressors + padded(self.d, WIDE["f16"]) + SLICES * widest)

    @property
    def bytes_per_frame(self) -> int:
        """Everything that the launches have to read and write, each byte once; the memory floor."""
        local = self.tiles * self.positions * self.d
        scratch = self.tiles * (self.view + self.regressors) * 2 if self.regressors else 0
        results = self.tiles * self.positions
        small = 4 * (self.floats + local + scratch + results)
        return VECTOR * self.vectors + small + self.table.nbytes

    @property
    def operations(self) -> int:
        """Additions and multiplications of a frame."""
        return sum(shape.operations for shape in self.shapes)


def plan_cells(shapes: Sequence[TileShape]) -> CellsPlan:
    """Plan for T tiles.

    Raises ValueError where there is none, tiles differ in positions or features, k is not in [1, d], or
    they are too large for a block or the table.
    """
    if not shapes or len({(shape.positions, shape.d) for shape in shapes}) > 1:
        raise ValueError(f"tiles have to be alike in positions and features: {list(shapes)}")
    rows = []
    vectors = floats = 0
    for shape in shapes:
        if not (1 <= shape.k <= shape.d and shape.positions >= 1 and shape.q >= 0 and shape.m >= 1):
            raise ValueError(f"{shape} is not a tile's")
        coefficients = vectors + shape.context
        weights = coefficients + shape.coefficients
        starts = [floats + sum(shape.floats[:i]) for i in range(4)]
        rows.append((
            weights, starts[1], starts[0], shape.k, int(shape.store == "f16"),
            shape.q, coefficients, vectors, starts[3], starts[2], shape.m, 0,
        ))  # fmt: skip
        vectors = weights + shape.weights
        floats += sum(shape.floats)
    if max(vectors, floats) > MOST_VECTORS:
        raise ValueError(f"{vectors * VECTOR} bytes of factors and coefficients; calibrate fewer tiles")
    table = np.array(rows, np.int32).reshape(-1, len(TILE_FIELDS))
    plan = CellsPlan(tuple(shapes), table, vectors, floats)
    if plan.shared > MOST_SHARED:
        raise ValueError(
            f"{plan.d} features of a position and {plan.regressors} regressors take {plan.shared} bytes "
            f"of shared memory, there are {MOST_SHARED}; export a backbone with fewer local features"
        )
    return plan


def tile_shapes(heads: Sequence[LocalHead], halves: bool = False) -> list[TileShape]:
    """Shapes of heads; with `halves` whatever all factors of a tile allow, which is tried."""
    return [_shape(head, choose_store(head.whitening) if halves else "f32") for head in heads]


def _shape(head: LocalHead, store: Store) -> TileShape:
    positions, k, d = head.whitening.shape
    return TileShape(positions, d, k, len(head.context), len(head.pooling), store)


def pack_cells(
    plan: CellsPlan, heads: Sequence[LocalHead]
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """`vectors` [n, 4] and `floats` [n] of the tiles' heads.

    Raises ValueError for heads of other shapes than planned, or with numbers below a diagonal.
    """
    vectors = np.zeros((plan.vectors, 4), np.uint32)
    floats = np.zeros(plan.floats, np.float32)
    at = number = 0
    for tile, (shape, head) in enumerate(zip(plan.shapes, heads, strict=True)):
        _check_head(head, shape, tile)
        factor: NDArray[np.generic] = head.whitening
        scales: Array = np.zeros(0, np.float32)
        if shape.store == "f16":
            factor, scales = to_halves(head.whitening)
        packed: tuple[NDArray[np.generic], ...] = (by_columns(factor, WIDE[shape.store]),)
        small: tuple[Array, ...] = (head.mean, scales)
        if shape.q:
            context, b = whole_rows(head.context, 4), whole_columns(head.coefficients, 4)
            packed, small = (context, b, *packed), (*small, head.pooling, head.context_mean)
        for numbers in packed:
            some = as_vectors(numbers)
            vectors[at : at + len(some)] = some
            at += len(some)
        for array in small:
            floats[number : number + array.size] = array.ravel()
            number += array.size
    return vectors, floats


def _check_head(head: LocalHead, shape: TileShape, tile: int) -> None:
    positions, d, view = shape.positions, shape.d, shape.m * shape.d
    found = {field: getattr(head, field).shape for field in Positions.__slots__}
    planned = {
        "pooling": (shape.m, positions),
        "context_mean": (view,),
        "context": (shape.q, view),
        "mean": (positions, d),
        "coefficients": (positions, d, shape.q),
        "whitening": (positions, shape.k, d),
    }
    if found != planned:
        raise ValueError(f"tile {tile}: a head of {found}, planned was {planned}")
    check_triangular(head.whitening, f"tile {tile}")
