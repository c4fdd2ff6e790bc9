"""Each tile's Gaussians, and what is kept of their fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle import (
    LevelFit,
    LocalFit,
    all_tiles,
    level_fits,
    level_tensors,
    local_fit,
    local_tensors,
)
from edge_ad.bundle.tensors import Tensors
from edge_ad.calibrate.agree import Answers, numpy_answers
from edge_ad.calibrate.job import Job, evenly
from edge_ad.calibrate.screen import Tell
from edge_ad.calibrate.stored import TileFeatures
from edge_ad.gaussian.replicates import fit_with_replicates
from edge_ad.gaussian.view import FitSettings, fit_view

REFERENCE_FRAMES = 8


@dataclass(frozen=True, slots=True, eq=False)
class TileFit:
    """What is kept of one tile's fit: the fits of all tiles in float64 would not fit into memory.

    outside: scores [n] of the fitted parts, each by a fit without it; rows: the same of the rest and of
    each zone; distances: [n, L], the same parts' per level; method: how; expected: what NumPy says of
    the reference parts.
    """

    outside: NDArray[np.float64]
    rows: list[NDArray[np.float64]]
    distances: NDArray[np.float64]
    method: str
    levels: list[LevelFit]
    local: LocalFit | None
    expected: Answers
    tensors: Tensors


def fit_settings(job: Job) -> FitSettings:
    """What is fitted in every tile."""
    grid = None if job.local is None else (job.local.rows, job.local.columns)
    return FitSettings(job.levels, job.reduction, job.folds, grid, job.regressors)


def reference_places(sampled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of the parts that the engine and NumPy must agree on: ordinary ones, evenly over all."""
    return np.flatnonzero(sampled)[evenly(int(sampled.sum()), REFERENCE_FRAMES)]


def fit_tiles(
    job: Job,
    features: Sequence[TileFeatures],
    settings: Sequence[FitSettings],
    sampled: NDArray[np.bool_],
    tell: Tell,
    replicates: Sequence[TileFeatures] | None = None,
) -> list[TileFit]:
    """Each tile's fit, with replicates where they are given; sampled: see `fit_view`."""
    tiles = []
    for i, tile in enumerate(all_tiles(job.views)):
        tell("fitting", i, len(features))
        of_tile = features[i].read()
        if replicates is None:
            fitted = fit_view(of_tile, settings[i], sampled)
        else:
            copies = replicates[i].read()
            fitted = fit_with_replicates(of_tile, copies, settings[i], sampled=sampled)
        tensors = level_tensors(job.key, tile.name, job.levels, fitted.gaussians)
        local = None
        if fitted.local is not None and fitted.combination is not None:
            tensors |= local_tensors(job.key, tile.name, fitted.local)
            local = local_fit(fitted.local, fitted.combination, fitted.patches)
        levels = level_fits(job.levels, fitted.gaussians)
        expected = numpy_answers(of_tile.take(reference_places(sampled)), fitted)
        rows = fitted.rows or [fitted.outside]
        tiles.append(
            TileFit(
                fitted.outside, rows, fitted.distances, fitted.method, levels, local, expected, tensors
            )
        )  # fmt: skip
    tell("fitting", len(features), len(features))
    return tiles
