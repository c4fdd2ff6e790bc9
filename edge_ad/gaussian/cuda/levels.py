"""What `level_distances` is launched with, from the Gaussians of a part's tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.gaussian.cuda.heads import Head
from edge_ad.gaussian.cuda.layout import (
    BLOCK,
    LEVEL_FIELDS,
    MOST_GAUSSIANS,
    MOST_ROWS,
    MOST_VECTORS,
    VECTOR,
    WARP,
    WIDE,
    Store,
    as_vectors,
    by_rows,
    distance_operations,
    factor_vectors,
    padded,
    vectors_for,
)
from edge_ad.gaussian.cuda.precision import choose_store, to_halves


@dataclass(frozen=True, slots=True)
class LevelShape:
    """W [k, d] for the features [offset, offset + d), and how it is stored."""

    offset: int
    k: int
    d: int
    store: Store = "f32"

    @property
    def vectors(self) -> int:
        """Vectors of W."""
        return factor_vectors(self.k, self.d, WIDE[self.store])

    @property
    def operations(self) -> int:
        """Additions and multiplications of one distance, the root counted as one."""
        return distance_operations(self.k, self.d)


@dataclass(frozen=True, slots=True, eq=False)
class LevelsPlan:
    """T tiles of L levels on D features.

    shapes: [T][L]; order: (tile, level) of each row of `table`; table: int32 [T L, LEVEL_FIELDS]; pairs:
    uint32; vectors, floats: sizes of the buffers of these names.
    """

    shapes: tuple[tuple[LevelShape, ...], ...]
    features: int
    order: tuple[tuple[int, int], ...]
    table: NDArray[np.int32]
    pairs: NDArray[np.uint32]
    vectors: int
    floats: int

    @property
    def tiles(self) -> int:
        """T."""
        return len(self.shapes)

    @property
    def levels(self) -> int:
        """L."""
        return len(self.shapes[0])

    @property
    def block(self) -> int:
        """Threads of a block."""
        return BLOCK

    @property
    def grid(self) -> int:
        """Blocks: a warp for every pair of rows, so that blocks that are done make room for others."""
        return vectors_for(len(self.pairs), BLOCK // WARP)

    @property
    def squares(self) -> int:
        """Scratch: float32, one per pair; what is in it before a launch does not matter."""
        return len(self.pairs)

    @property
    def tickets(self) -> int:
        """Scratch: uint32, zero before the first launch and after every one that ended."""
        return len(self.table)

    @property
    def bytes_per_frame(self) -> int:
        """Everything that a launch has to read and write, each byte once; the memory floor."""
        used = sum(shape.d for tile in self.shapes for shape in tile)
        scratch = 2 * 4 * self.squares + 4 * self.tickets
        results = 4 * len(self.table)
        tables = self.table.nbytes + self.pairs.nbytes
        return VECTOR * self.vectors + 4 * self.floats + 4 * used + tables + scratch + results

    @property
    def operations(self) -> int:
        """Additions and multiplications of a frame."""
        return sum(shape.operations for tile in self.shapes for shape in tile) + len(self.table)


def plan_levels(shapes: Sequence[Sequence[LevelShape]], features: int) -> LevelsPlan:
    """Plan for shapes [T][L] on `features` numbers a tile.

    Raises ValueError for shapes that do not fit: no tile or level, another number of levels in another
    tile, k not in [1, d], features outside, or more than the tables can hold.
    """
    _check(shapes, features)
    every = [(t, i) for t in range(len(shapes)) for i in range(len(shapes[t]))]
    order = tuple(sorted(every, key=lambda at: -shapes[at[0]][at[1]].d))
    rows, pairs = [], []
    vectors = floats = first = 0
    for index, (t, i) in enumerate(order):
        shape = shapes[t][i]
        count, scales = (shape.k + 1) // 2, floats + padded(shape.d, WIDE["f16"])
        half = int(shape.store == "f16")
        rows.append((
            vectors, scales, floats, t * features + shape.offset, shape.k, shape.d,
            first, count, t * len(shapes[t]) + i, half, 0, 0,
        ))  # fmt: skip
        pairs.append((index << 16) + np.arange(count, dtype=np.uint32))
        vectors += shape.vectors
        floats = padded(scales + half * shape.k, WIDE["f32"])
        first += count
    if vectors > MOST_VECTORS:
        raise ValueError(f"{vectors * VECTOR} bytes of whitening factors; calibrate fewer tiles")
    table = np.array(rows, np.int32).reshape(-1, len(LEVEL_FIELDS))
    kept = tuple(tuple(tile) for tile in shapes)
    return LevelsPlan(
        kept, features, order, table, np.concatenate(pairs).astype(np.uint32), vectors, floats
    )


def _check(shapes: Sequence[Sequence[LevelShape]], features: int) -> None:
    if not shapes or not shapes[0] or len({len(tile) for tile in shapes}) > 1:
        raise ValueError(f"tiles have {[len(tile) for tile in shapes]} levels, not all the same number")
    for t, tile in enumerate(shapes):
        for i, shape in enumerate(tile):
            inside = 0 <= shape.offset <= features - shape.d
            if not (1 <= shape.k <= shape.d and inside and shape.k <= MOST_ROWS):
                raise ValueError(f"tile {t}, level {i}: {shape} does not fit {features} features")
    if len(shapes) * len(shapes[0]) > MOST_GAUSSIANS:
        raise ValueError(f"{len(shapes)} tiles of {len(shapes[0])} levels; calibrate fewer tiles")


def level_shapes(heads: Sequence[Sequence[Head]], halves: bool = False) -> list[list[LevelShape]]:
    """Shapes [T][L] of heads [T][L]; with `halves` whatever each factor allows, which is tried."""
    return [
        [
            LevelShape(
                head.offset,
                len(head.whitening),
                len(head.mean),
                choose_store(head.whitening) if halves else "f32",
            )
            for head in tile
        ]
        for tile in heads
    ]


def pack_levels(
    plan: LevelsPlan, heads: Sequence[Sequence[Head]]
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """`vectors` [n, 4] and `floats` [n] of heads [T][L].

    Raises ValueError for heads other than planned, or with numbers below the diagonal.
    """
    if [len(tile) for tile in heads] != [plan.levels] * plan.tiles:
        raise ValueError(f"tiles of {[len(t) for t in heads]} levels, planned were {plan.tiles} tiles")
    vectors = np.zeros((plan.vectors, 4), np.uint32)
    floats = np.zeros(plan.floats, np.float32)
    for (t, i), row in zip(plan.order, plan.table, strict=True):
        head, shape = heads[t][i], plan.shapes[t][i]
        place = dict(zip(LEVEL_FIELDS, (int(number) for number in row), strict=True))
        found = (head.offset, head.whitening.shape, head.mean.shape)
        if found != (shape.offset, (shape.k, shape.d), (shape.d,)):
            raise ValueError(
                f"tile {t}, level {i}: W {head.whitening.shape} at {head.offset}, planned was {shape}"
            )
        check_triangular(head.whitening, f"tile {t}, level {i}")
        factor: NDArray[np.generic] = head.whitening
        if shape.store == "f16":
            factor, scales = to_halves(head.whitening)
            floats[place["scales"] : place["scales"] + shape.k] = scales
        floats[place["mean"] : place["mean"] + shape.d] = head.mean
        packed = as_vectors(by_rows(factor, WIDE[shape.store]))
        vectors[place["weights"] : place["weights"] + shape.vectors] = packed
    return vectors, floats


def check_triangular(whitening: NDArray[np.float32], where: str) -> None:
    """ValueError when W [..., k, d] has numbers below the diagonal: they would be lost in packing."""
    if np.tril(whitening, -1).any():
        raise ValueError(f"{where}: W has numbers below its diagonal; it is not a whitening factor")
