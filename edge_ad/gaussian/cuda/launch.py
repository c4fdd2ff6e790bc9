"""The kernels of `mahalanobis.cu` on a GPU: one calibration's Gaussians, packed and uploaded once.

Nothing is allocated after construction, and what a frame enqueues is the same every time: it can be
captured in a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

import numpy as np

from edge_ad.cuda.device import Device
from edge_ad.cuda.memory import Mirror, upload, zeros
from edge_ad.cuda.stream import Module, Stream
from edge_ad.errors import ArtifactError
from edge_ad.gaussian.cuda.cells import CellsPlan, pack_cells, plan_cells, tile_shapes
from edge_ad.gaussian.cuda.heads import Head, LocalHead
from edge_ad.gaussian.cuda.layout import Store
from edge_ad.gaussian.cuda.levels import LevelsPlan, level_shapes, pack_levels, plan_levels

# The kernels' arguments, P a pointer and i an int32; see mahalanobis.cu.
LEVEL_DISTANCES = "PPPPPiPPP"
COARSE_VIEWS = "PPPiiiP"
REGRESSORS = "PPPiiiP"
CELL_DISTANCES = "PPPPPiiiP"

Planned = TypeVar("Planned")


class LevelScorer:
    """`level_distances`: distances [T, L] of features [T, D] on the GPU."""

    def __init__(
        self,
        device: Device,
        module: Module,
        heads: Sequence[Sequence[Head]],
        features: int,
        store: Store = "f32",
    ) -> None:
        """For `heads[t][l]`, level l of tile t, and D = `features`. With "f16" those factors are in
        halves that good parts' distances allow (see `precision`).

        Raises ArtifactError for Gaussians that cannot be packed, DeviceError for what the GPU refuses.
        """
        shapes = level_shapes(heads, store == "f16")
        self.plan: LevelsPlan = _planned(lambda: plan_levels(shapes, features))
        vectors, floats = _planned(lambda: pack_levels(self.plan, heads))
        with ExitStack() as made:
            self._kernel = module.kernel("level_distances", LEVEL_DISTANCES)
            self._table = upload(made, device, self.plan.table, "the levels' table")
            self._pairs = upload(made, device, self.plan.pairs, "the levels' rows")
            self._vectors = upload(made, device, vectors, "the levels' whitening factors")
            self._floats = upload(made, device, floats, "the levels' means")
            self._squares = _zeros(made, device, self.plan.squares, "the levels' squares")
            self._tickets = _zeros(made, device, self.plan.tickets, "the levels' tickets")
            shape = (self.plan.tiles, self.plan.levels)
            self.distances = Mirror(device, shape, np.float32, "the levels' distances")
            made.callback(self.distances.close)
            self._made = made.pop_all()

    def enqueue(self, stream: Stream, features: int) -> None:
        """Launch for features [T, D] at an address of the GPU; `distances` are not downloaded yet."""
        plan = self.plan
        arguments = (
            self._table, self._pairs, self._vectors, self._floats, features,
            len(plan.pairs), self._squares, self._tickets, self.distances.pointer,
        )  # fmt: skip
        self._kernel.launch(stream, (plan.grid, 1), plan.block, arguments)

    def close(self) -> None:
        """Free all of it; calling it again does nothing."""
        self._made.close()


class CellScorer:
    """`coarse_views`, `regressors`, `cell_distances`: distances [T, P] of local features [T, P, d]."""

    def __init__(
        self, device: Device, module: Module, heads: Sequence[LocalHead], store: Store = "f32"
    ) -> None:
        """For `heads[t]` of tile t; the rest as in `LevelScorer`."""
        shapes = tile_shapes(heads, store == "f16")
        self.plan: CellsPlan = _planned(lambda: plan_cells(shapes))
        vectors, floats = _planned(lambda: pack_cells(self.plan, heads))
        tiles, positions = self.plan.tiles, self.plan.positions
        with ExitStack() as made:
            self._views_kernel = module.kernel("coarse_views", COARSE_VIEWS)
            self._regressors_kernel = module.kernel("regressors", REGRESSORS)
            self._distances_kernel = module.kernel("cell_distances", CELL_DISTANCES)
            self._table = upload(made, device, self.plan.table, "the positions' table")
            self._vectors = upload(made, device, vectors, "the positions' factors")
            self._floats = upload(made, device, floats, "the positions' means")
            self._views = _zeros(made, device, tiles * self.plan.view, "the coarse views")
            self._t = _zeros(made, device, tiles * self.plan.regressors, "the regressors")
            self.cells = Mirror(device, (tiles, positions), np.float32, "the positions' distances")
            made.callback(self.cells.close)
            self._made = made.pop_all()

    def enqueue(self, stream: Stream, local: int) -> None:
        """Launch for features [T, P, d] at an address of the GPU; `cells` are not downloaded yet."""
        plan = self.plan
        views_grid, regressors_grid, distances_grid = plan.grids
        if plan.regressors:
            self._views_kernel.launch(
                stream, views_grid, plan.block,
                (self._table, self._floats, local, plan.positions, plan.d, plan.view, self._views),
            )  # fmt: skip
            self._regressors_kernel.launch(
                stream, regressors_grid, plan.block,
                (self._table, self._vectors, self._views, plan.d, plan.view, plan.regressors, self._t),
            )  # fmt: skip
        arguments = (
            self._table, self._vectors, self._floats, local, self._t,
            plan.positions, plan.d, plan.regressors, self.cells.pointer,
        )  # fmt: skip
        self._distances_kernel.launch(stream, distances_grid, plan.block, arguments, plan.shared)

    def close(self) -> None:
        """Free all of it; calling it again does nothing."""
        self._made.close()


class FrameScorer:
    """All distances of a frame, as `GpuScorer` takes it. Owned by the device's thread.

    `distances`: [T, L]; `cells`: [T, P], None without local heads; both float32.
    """

    def __init__(
        self,
        device: Device,
        image: bytes,
        heads: Sequence[Sequence[Head]],
        features: int,
        local: Sequence[LocalHead] | None = None,
        store: Store = "f32",
    ) -> None:
        """`image`: the kernels, compiled for this GPU; the rest as in `LevelScorer` and `CellScorer`."""
        with ExitStack() as made:
            module = Module(device, image)
            made.callback(module.close)
            self._levels = LevelScorer(device, module, heads, features, store)
            made.callback(self._levels.close)
            self._positions: CellScorer | None = None
            if local is not None:
                self._positions = CellScorer(device, module, local, store)
                made.callback(self._positions.close)
            self._made = made.pop_all()
        self.distances = self._levels.distances
        self.cells = self._positions.cells if self._positions is not None else None

    @property
    def features_shape(self) -> tuple[int, int]:
        """[T, D] of the features that are scored."""
        return self._levels.plan.tiles, self._levels.plan.features

    @property
    def local_shape(self) -> tuple[int, int, int] | None:
        """[T, P, d] of the local features that are scored; None without local heads."""
        if self._positions is None:
            return None
        plan = self._positions.plan
        return plan.tiles, plan.positions, plan.d

    @property
    def bytes_per_frame(self) -> int:
        """What its kernels read, at least, to score a frame."""
        positions = 0 if self._positions is None else self._positions.plan.bytes_per_frame
        return self._levels.plan.bytes_per_frame + positions

    def enqueue(self, stream: Stream, features: int, local: int) -> None:
        """Launch for features [T, D] and local ones [T, P, d] (0: none) at addresses of the GPU."""
        self._levels.enqueue(stream, features)
        if self._positions is not None:
            self._positions.enqueue(stream, local)

    def close(self) -> None:
        """Free all of it; calling it again does nothing."""
        self._made.close()


def _planned(make: Callable[[], Planned]) -> Planned:
    try:
        return make()
    except ValueError as error:
        raise ArtifactError(
            f"the bundle's Gaussians cannot be scored by the GPU's kernels: {error}; calibrate again"
        ) from error


def _zeros(made: ExitStack, device: Device, numbers: int, what: str) -> int:
    """The address of so many zeros of four bytes on the GPU, one at least."""
    return zeros(made, device, 4 * max(numbers, 1), what)
