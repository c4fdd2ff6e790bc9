"""What is packed: a calibration's Gaussians as engines take them (see `edge_ad.backbone.engine`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Head(Protocol):
    """A level's Gaussian, as an engine takes it: mean [d], whitening [k, d], both float32."""

    @property
    def offset(self) -> int: ...
    @property
    def mean(self) -> NDArray[np.float32]: ...
    @property
    def whitening(self) -> NDArray[np.float32]: ...


class LocalHead(Protocol):
    """A tile's positions, as an engine takes them: see `edge_ad.backbone.engine.LocalHead`."""

    @property
    def pooling(self) -> Array: ...
    @property
    def context_mean(self) -> Array: ...
    @property
    def context(self) -> Array: ...
    @property
    def mean(self) -> Array: ...
    @property
    def coefficients(self) -> Array: ...
    @property
    def whitening(self) -> Array: ...


@dataclass(frozen=True, slots=True)
class Positions:
    """A LocalHead of positions by themselves, without regressors."""

    pooling: Array
    context_mean: Array
    context: Array
    mean: Array
    coefficients: Array
    whitening: Array


def by_itself(mean: Array, alone: Array) -> LocalHead:
    """The positions of one tile by themselves: mean [P, d], alone [P, d, d]; see `MapMaker`."""
    positions, d = mean.shape
    pooling, context_mean = np.zeros((1, positions), np.float32), np.zeros(d, np.float32)
    context, coefficients = np.zeros((0, d), np.float32), np.zeros((positions, d, 0), np.float32)
    return Positions(pooling, context_mean, context, mean, coefficients, alone)
