"""The least time that a frame's distances can take: what has to be read, over how fast memory is.

Computed, not measured. Memory that a GPU keeps in its cache from frame to frame is faster than this;
a launch takes some microseconds of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_ad.cuda.bandwidth import floor_table
from edge_ad.gaussian.cuda.cells import TileShape, plan_cells
from edge_ad.gaussian.cuda.layout import Store
from edge_ad.gaussian.cuda.levels import LevelShape, plan_levels
from edge_ad.gaussian.cuda.precision import WORTHWHILE

# Features of the nine levels: stem, stages, head.
EFFICIENTNET_B4 = (48, 24, 32, 56, 112, 160, 272, 448, 1792)
MOBILENET_V2 = (32, 16, 24, 32, 64, 96, 160, 320, 1280)


def square_levels(dims: Sequence[int], store: Store) -> list[LevelShape]:
    """Levels without a reduction, one after the other; in halves those that are worth it."""
    return [
        LevelShape(sum(dims[:i]), d, d, store if d >= WORTHWHILE else "f32") for i, d in enumerate(dims)
    ]


def table() -> list[str]:
    """The floor of common cases as lines of a Markdown table."""
    return floor_table(
        ("Gaussians", "MFLOP"),
        (((what, f"{operations / 1e6:.1f}"), size) for what, operations, size in _cases()),
    )


def _cases() -> list[tuple[str, int, int]]:
    """Name, operations and bytes of each case."""
    cases: list[tuple[str, int, int]] = []
    nets = (("EfficientNet-B4", EFFICIENTNET_B4, 1), ("MobileNetV2", MOBILENET_V2, 24))
    stores: tuple[tuple[Store, str], ...] = (("f32", "float32"), ("f16", "halves"))
    for net, dims, tiles in nets:
        for store, name in stores:
            plan = plan_levels([square_levels(dims, store)] * tiles, sum(dims))
            what = f"{net}, nine levels, {_tiles(tiles)}, {name}"
            cases.append((what, plan.operations, plan.bytes_per_frame))
    for tiles, d, q in ((1, 128, 400), (24, 64, 64)):
        cells = plan_cells([TileShape(256, d, d, q, 16)] * tiles)
        what = f"16 x 16 positions, {d} features, {q} regressors, {_tiles(tiles)}, float32"
        cases.append((what, cells.operations, cells.bytes_per_frame))
    return cases


def _tiles(tiles: int) -> str:
    return "1 tile" if tiles == 1 else f"{tiles} tiles"
