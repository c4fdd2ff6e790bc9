"""One tile's whole fit: what is far from good parts, as a whole or at a position, as one score.

Profile "paper" is the publication (Rippel et al., 2020): one Gaussian per level of pooled features, the
score their sum. Profile "default" adds one Gaussian per position and puts both on one scale, that of
good parts that were left out of the fit:

    global = (sum of level distances - its mean) / its deviation
    local  = (mean of the largest 1 % of z - its mean) / its deviation
    score  = max(local, global / 2)

where z is given the whole; the map is the smaller of z given the whole and by itself (see `local`).

The part as a whole counts half: pooled features tell small defects badly, and decide only where they are
twice as unusual. (On development data the sum of both, or both at full weight, detect less.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.context import MOST, Grid, LocalFeatures, pooling
from edge_ad.gaussian.local import LocalGaussian, fit_local
from edge_ad.gaussian.maps import anomaly_map
from edge_ad.gaussian.model import NONE, Gaussian, Level, fit_levels
from edge_ad.gaussian.out_of_sample import out_of_sample_distances
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.zones import (
    ALL,
    IGNORED,
    REST,
    Labels,
    PatchFit,
    fit_patches,
    patch_largest,
    top_count,
    top_mean,
)

GLOBAL_WEIGHT = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What an engine says of n parts in one tile: pooled float32 [n, D], local float32 [n, P, d] (in
    memory, or read piece by piece) or None."""

    pooled: NDArray[np.float32]
    local: LocalFeatures | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    def take(self, index: NDArray[Any]) -> Features:
        """The parts at these places, or where a mask is set."""
        local = self.local
        if local is not None:
            local = local[index] if isinstance(local, np.ndarray) else local.take(index)
        return Features(self.pooled[index], local)


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What is fitted. grid: rows and columns of the local features; None is profile "paper"; regressors:
    how many at most are taken from the part as a whole; labels [P]: zones of the positions (see
    `zones`), None where all of them are one."""

    levels: Sequence[Level]
    reduction: Reduction = NONE
    folds: int = 20
    grid: Grid | None = None
    regressors: int = MOST
    labels: Labels | None = None


class Combination(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How global and local distances become one score: mean and deviation of each for good parts that
    were left out, and how many of the largest cells are averaged."""

    top: int
    global_mean: float
    global_spread: float
    local_mean: float
    local_spread: float

    def scores(self, global_: NDArray[Any], z: NDArray[Any]) -> Floats:
        """[n] from sums of level distances [n] and z given the whole [n, P]. NaN and Inf stay so."""
        return _combined(self, global_, z)


def _combined(how: Combination, global_: NDArray[Any], z: NDArray[Any]) -> Floats:
    local = (top_mean(z, how.top) - how.local_mean) / how.local_spread
    whole = GLOBAL_WEIGHT * (np.asarray(global_, np.float64) - how.global_mean) / how.global_spread
    return np.asarray(np.maximum(local, whole))


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """scores [n], what a threshold is compared with; distances [n, L] per level; maps [n, rows, columns]
    of z per position, None for profile "paper"."""

    scores: Floats
    distances: Floats
    maps: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, eq=False)
class ViewFit:
    """One tile's fit. outside: scores [n] of the fitted parts, each by a fit without it, of the zone
    that is the worst; rows: the same of the rest, then of each zone in `patches`; distances: [n, L], the
    same parts' per level; method: how."""

    settings: FitSettings
    gaussians: list[Gaussian]
    local: LocalGaussian | None
    combination: Combination | None
    outside: Floats
    distances: Floats
    method: str
    patches: list[PatchFit] = field(default_factory=list)
    rows: list[Floats] = field(default_factory=list)

    def score(self, features: Features) -> Scored:
        """Scores of parts that were not fitted: the NumPy reference of every engine."""
        distances = level_distances(features.pooled, self.settings.levels, self.gaussians)
        if self.local is None or self.combination is None or features.local is None:
            return Scored(level_sum(distances), distances, None)
        z = self.local.z(np.sqrt(self.local.d2(features.local)))
        labels = self.settings.labels
        scores = self.combination.scores(level_sum(distances), _of_rest(z[:, 0], labels))
        for patch in self.patches:
            assert labels is not None
            largest, _ = patch_largest(z[:, 0], labels, patch.zone)
            scores = np.maximum(scores, (largest - patch.mean) / patch.spread)
        return Scored(scores, distances, anomaly_map(z[:, 0], z[:, 1], self.local.grid))


def fit_view(
    features: Features, settings: FitSettings, sampled: NDArray[np.bool_] | None = None
) -> ViewFit:
    """Fit one tile on all parts. What puts scores on one scale is taken from those in `sampled` [n]
    alone: where some were picked out, the others are the random sample (None: all are).

    Raises CheckFailed (too few parts, or all the same); errors name the level.
    """
    if settings.labels is not None and (settings.labels == IGNORED).all():
        return _nothing(features, settings)
    distances, method = out_of_sample_distances(
        features.pooled, settings.levels, settings.reduction, settings.folds, sampled=sampled
    )
    whole = level_sum(distances)
    gaussians = fit_levels(features.pooled, settings.levels, settings.reduction)
    if settings.grid is None:
        return ViewFit(settings, gaussians, None, None, whole, distances, method)
    if features.local is None:
        raise ValueError("profile default needs local features")
    local, z = fit_local(features.local, settings.grid, settings.regressors)
    labels = settings.labels
    rest = _of_rest(z, labels)
    top = top_count(rest.shape[1])
    largest = top_mean(rest, top)
    empty = bool(np.isneginf(rest).all())  # the tile is all zones: only the part as a whole is left
    some = ALL if sampled is None else sampled
    combination = Combination(
        top,
        float(whole[some].mean()),
        float(whole[some].std()),
        0.0 if empty else float(largest[some].mean()),
        1.0 if empty else float(largest[some].std()),
    )
    if not (combination.global_spread > 0.0 and combination.local_spread > 0.0):
        raise CheckFailed(
            f"the {len(features)} good parts all have the same distance; give different pictures"
        )
    # On the scale of all parts, as a new one will be: what one part adds to a scale moves all alike.
    # Each on a scale without it seems further out than a new one: 0.6 times the promised rate.
    outside = combination.scores(whole, rest)
    patches, scores = fit_patches(z, labels, some) if labels is not None else ([], [])
    rows = [outside, *scores]
    worst = np.asarray(np.max(rows, axis=0))
    return ViewFit(settings, gaussians, local, combination, worst, distances, method, patches, rows)


def _of_rest(z: NDArray[Any], labels: Labels | None) -> NDArray[Any]:
    """z [n, P] of positions in no zone of their own; [n, 1] of minus infinity where there are none."""
    if labels is None:
        return z
    inside = labels == REST
    return z[:, inside] if inside.any() else np.full((len(z), 1), -np.inf)


def _nothing(features: Features, settings: FitSettings) -> ViewFit:
    """Of a tile that is ignored, where all parts are the same: it has no distance to anything."""
    assert features.local is not None
    assert settings.grid is not None
    n, positions, d = features.local.shape
    coarse = len(pooling(settings.grid)) * d
    flat = [
        Gaussian(np.zeros(level.dim), np.zeros((1, level.dim)), 1.0, 1.0, n) for level in settings.levels
    ]
    square = np.zeros((positions, d, d))
    local = LocalGaussian(
        grid=settings.grid, context_mean=np.zeros(coarse), context=np.zeros((0, coarse)),
        mean=np.zeros((positions, d)), coefficients=np.zeros((positions, d, 0)), whitening=square,
        alone=square, center=np.zeros((2, positions)), spread=np.ones((2, positions)), shrinkage=1.0,
        shared=0.0, n=n,
    )  # fmt: skip
    outside = np.zeros(n)
    how = Combination(1, 0.0, 1.0, 0.0, 1.0)
    distances = np.zeros((n, len(flat)))
    return ViewFit(settings, flat, local, how, outside, distances, "leave-one-out", rows=[outside])
