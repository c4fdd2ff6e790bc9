"""Distances of feature vectors to the Gaussians of each level: the NumPy reference of every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.gaussian.model import Gaussian, Level


def level_distances(
    features: NDArray[Any], levels: Sequence[Level], gaussians: Sequence[Gaussian]
) -> NDArray[np.float64]:
    """Mahalanobis distance d (not squared) per level, [n, L], of features [n, D]."""
    if len(levels) != len(gaussians):
        raise ValueError(f"{len(levels)} levels but {len(gaussians)} Gaussians")
    distances = np.empty((len(features), len(levels)))
    for i, (level, gaussian) in enumerate(zip(levels, gaussians, strict=True)):
        x = features[:, level.offset : level.offset + level.dim]
        distances[:, i] = np.sqrt(gaussian.d2(x))
    return distances


def level_sum(distances: NDArray[Any]) -> NDArray[np.float64]:
    """The publication's combined score: the plain sum of distances over levels, [..., L] -> [...]."""
    return np.asarray(distances.sum(axis=-1, dtype=np.float64))
