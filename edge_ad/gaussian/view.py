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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.context import MOST, Grid, LocalFeatures
from edge_ad.gaussian.local import LocalGaussian, fit_local
from edge_ad.gaussian.maps import anomaly_map
from edge_ad.gaussian.model import NONE, Gaussian, Level, fit_levels
from edge_ad.gaussian.out_of_sample import out_of_sample_distances
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.subspace import Reduction

TOP = 0.01  # share of positions whose mean is a part's local score
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
    how many at most are taken from the part as a whole."""

    levels: Sequence[Level]
    reduction: Reduction = NONE
    folds: int = 20
    grid: Grid | None = None
    regressors: int = MOST


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


@dataclass(frozen=True, slots=True, eq=False)
class TileScale:
    """What puts the distances of one part's T tiles on the scale of good parts: combinations as arrays
    [T] with `top` in common; center and spread [T, P] of distances given the whole."""

    top: int
    global_mean: Floats
    global_spread: Floats
    local_mean: Floats
    local_spread: Floats
    center: Floats
    spread: Floats

    @classmethod
    def of(cls, tiles: Sequence[Combination], center: Floats, spread: Floats) -> TileScale:
        """Of at least one tile."""

        def each(name: str) -> Floats:
            return np.array([getattr(one, name) for one in tiles], np.float64)

        return cls(
            top=tiles[0].top,
            global_mean=each("global_mean"),
            global_spread=each("global_spread"),
            local_mean=each("local_mean"),
            local_spread=each("local_spread"),
            center=center,
            spread=spread,
        )

    def scores(self, global_: NDArray[Any], cells: NDArray[Any]) -> tuple[Floats, Floats]:
        """Scores [..., T] and z [..., T, P] from sums of level distances [..., T] and distances of
        positions [..., T, P]. NaN and Inf stay NaN or Inf."""
        z = (cells - self.center) / self.spread
        return _combined(self, global_, z), z


def _combined(how: Combination | TileScale, global_: NDArray[Any], z: NDArray[Any]) -> Floats:
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
    """One tile's fit. outside: scores [n] of the fitted parts, each by a fit without it; method: how."""

    settings: FitSettings
    gaussians: list[Gaussian]
    local: LocalGaussian | None
    combination: Combination | None
    outside: Floats
    method: str

    def score(self, features: Features) -> Scored:
        """Scores of parts that were not fitted: the NumPy reference of every engine."""
        distances = level_distances(features.pooled, self.settings.levels, self.gaussians)
        if self.local is None or self.combination is None or features.local is None:
            return Scored(level_sum(distances), distances, None)
        z = self.local.z(np.sqrt(self.local.d2(features.local)))
        scores = self.combination.scores(level_sum(distances), z[:, 0])
        return Scored(scores, distances, anomaly_map(z[:, 0], z[:, 1], self.local.grid))


def fit_view(features: Features, settings: FitSettings) -> ViewFit:
    """Fit one tile. Raises CheckFailed (too few parts, or all the same); errors name the level."""
    distances, method = out_of_sample_distances(
        features.pooled, settings.levels, settings.reduction, settings.folds
    )
    whole = level_sum(distances)
    gaussians = fit_levels(features.pooled, settings.levels, settings.reduction)
    if settings.grid is None:
        return ViewFit(settings, gaussians, None, None, whole, method)
    if features.local is None:
        raise ValueError("profile default needs local features")
    local, z = fit_local(features.local, settings.grid, settings.regressors)
    top = max(1, math.ceil(TOP * z.shape[1]))
    largest = top_mean(z, top)
    combination = Combination(
        top, float(whole.mean()), float(whole.std()), float(largest.mean()), float(largest.std())
    )
    if not (combination.global_spread > 0.0 and combination.local_spread > 0.0):
        raise CheckFailed(
            f"the {len(features)} good parts all have the same distance; give different pictures"
        )
    # On the scale of all parts, as a new one will be: what one part adds to a scale moves all alike.
    # Each on a scale without it seems further out than a new one: 0.6 times the promised rate.
    outside = combination.scores(whole, z)
    return ViewFit(settings, gaussians, local, combination, outside, method)


def top_mean(z: NDArray[Any], top: int) -> Floats:
    """Mean of the `top` largest of [..., P]; NaN where one is."""
    largest = np.partition(z, z.shape[-1] - top, axis=-1)[..., -top:]
    return np.asarray(largest.mean(axis=-1, dtype=np.float64))
