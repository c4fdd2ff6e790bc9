"""Profile `paper` as a fit of one view: what was fitted, and how parts are scored by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Level
from edge_ad.gaussian.model import Gaussian, fit_levels
from edge_ad.gaussian.out_of_sample import out_of_sample_distances
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.subspace import Reduction


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Of n parts: pooled float32 [n, D], local float32 [n, P, d] if there are any."""

    pooled: NDArray[np.float32]
    local: NDArray[np.float32] | None = None

    def take(self, index: Any) -> Features:
        """Those of some parts."""
        return Features(self.pooled[index], None if self.local is None else self.local[index])


class FitSettings(msgspec.Struct, frozen=True):
    """What is fitted."""

    levels: tuple[Level, ...]
    reduction: Reduction = Reduction()
    folds: int = 20


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """scores [n]; distances [n, L] per level; maps float32 [n, rows, columns] or None."""

    scores: NDArray[np.float64]
    distances: NDArray[np.float64]
    maps: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ViewFit:
    """`outside`: out-of-sample scores [n] of the fitted parts; method: how they were made."""

    levels: Sequence[Level]
    gaussians: list[Gaussian]
    outside: NDArray[np.float64]
    method: str

    def score(self, features: Features) -> Scored:
        """The publication's sum."""
        distances = level_distances(features.pooled, self.levels, self.gaussians)
        return Scored(level_sum(distances), distances)


def fit_view(features: Features, settings: FitSettings) -> ViewFit:
    """Fit; CheckFailed as in `gaussian`."""
    levels, reduction = settings.levels, settings.reduction
    outside, method = out_of_sample_distances(features.pooled, levels, reduction, settings.folds)
    gaussians = fit_levels(features.pooled, levels, reduction)
    return ViewFit(levels, gaussians, level_sum(outside), method)
