"""Whether the engine that will inspect says what NumPy says of the same parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle import all_tiles
from edge_ad.calibrate.job import Job
from edge_ad.errors import DeviceError
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.view import Features, ViewFit

# Float32 in the engine's graph against float64 in NumPy.
ENGINE_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What is said of m parts: distances [m, T, L]; cells [m, T, P] or None."""

    distances: NDArray[Any]
    cells: NDArray[Any] | None

    def first(self, parts: int) -> Answers:
        """Those on the first so many parts."""
        return Answers(self.distances[:parts], None if self.cells is None else self.cells[:parts])


def numpy_answers(features: Features, fit: ViewFit) -> Answers:
    """NumPy's on m parts in one tile, T = 1."""
    distances = level_distances(features.pooled, fit.settings.levels, fit.gaussians)
    cells = None
    if fit.local is not None and features.local is not None:
        cells = np.sqrt(fit.local.d2(features.local))[:, None, 0]
    return Answers(distances[:, None], cells)


def joined_tiles(tiles: Sequence[Answers]) -> Answers:
    """The answers on all tiles together."""
    cells = [one.cells for one in tiles if one.cells is not None]
    distances = np.concatenate([one.distances for one in tiles], axis=1)
    return Answers(distances, np.concatenate(cells, axis=1) if cells else None)


def check_engine(job: Job, parts: Sequence[str], answers: Answers, expected: Answers) -> None:
    """Compare the engine's answers on m parts with NumPy's; DeviceError when a sum of level distances or
    the distance of a position differs."""
    found, wanted = level_sum(answers.distances), level_sum(expected.distances)
    for i, tile in enumerate(all_tiles(job.views)):
        for part, ours, reference in zip(parts, found[:, i], wanted[:, i], strict=True):
            _compare(job, f"part {part}, view {tile.name}", ours, reference, reference)
        if answers.cells is None or expected.cells is None:
            continue
        near, cells = expected.cells[:, i], answers.cells[:, i]
        # A position that is the same in every part has no distance for an error to be relative to.
        usual = np.maximum(near, near.mean(axis=1, keepdims=True))
        if not usual.all():  # a tile that is ignored
            continue
        for part, worst, ours, reference, size in zip(
            parts, np.argmax(np.abs(cells - near) / usual, axis=1), cells, near, usual, strict=True
        ):
            where = f"part {part}, view {tile.name}, position {worst}"
            _compare(job, where, ours[worst], reference[worst], size[worst])


def _compare(job: Job, where: str, ours: float, reference: float, size: float) -> None:
    # NaN must not slip through a comparison.
    if not abs(ours - reference) <= ENGINE_TOLERANCE * size:
        raise DeviceError(
            f"engine {job.key}: {where}: distance {ours:.6g}, NumPy says {reference:.6g}, more "
            f"than {ENGINE_TOLERANCE:g} apart; set engine.precision to f32, or drop nearly identical "
            "parts"
        )
