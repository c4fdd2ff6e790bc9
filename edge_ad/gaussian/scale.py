"""Distances of one part's tiles on the scale of good parts: what the inspector does with an engine's
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.gaussian.view import GLOBAL_WEIGHT, Combination
from edge_ad.gaussian.zones import REST, Labels, PatchFit

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TileScale:
    """T tiles as R rows: the rest of each tile and the part as a whole there, and every zone in it.

    tile, zone [R]: which; top [R]: how many of the largest z are averaged; local_mean, local_spread [R];
    global_mean, global_spread [R], the latter infinite for a zone, which the whole says nothing about;
    outside [R, P]: minus infinity where a position is not the row's, None where each tile is one row.
    center, spread [T, P]: of distances given the whole.
    """

    tile: NDArray[np.int64]
    zone: NDArray[np.int64]
    top: NDArray[np.int64]
    local_mean: Floats
    local_spread: Floats
    global_mean: Floats
    global_spread: Floats
    outside: Floats | None
    center: Floats
    spread: Floats

    @classmethod
    def of(
        cls,
        tiles: Sequence[Combination],
        patches: Sequence[Sequence[PatchFit]],
        labels: Labels | None,
        center: Floats,
        spread: Floats,
    ) -> TileScale:
        """From each tile's combination and patches; labels [T, P]: zones of the positions."""
        rows: list[tuple[float, ...]] = []
        outside = []
        for i, (how, zones) in enumerate(zip(tiles, patches, strict=True)):
            whole = (how.global_mean, how.global_spread)
            rows.append((i, REST, how.top, how.local_mean, how.local_spread, *whole))
            rows += [(i, p.zone, p.top, p.mean, p.spread, 0.0, np.inf) for p in zones]
            if labels is not None:
                masks = [labels[i] == zone for zone in (REST, *(p.zone for p in zones))]
                outside += [np.where(mask, 0.0, -np.inf) for mask in masks]
        table = np.array(rows, np.float64)
        tile, zone, top = (table[:, k].astype(np.int64) for k in range(3))
        return cls(
            tile, zone, top, table[:, 3], table[:, 4], table[:, 5], table[:, 6],
            np.stack(outside) if outside else None, center, spread,
        )  # fmt: skip

    def scores(self, global_: NDArray[Any], cells: NDArray[Any]) -> tuple[Floats, Floats]:
        """Scores [..., R] and z [..., T, P] from sums of level distances [..., T] and distances of
        positions [..., T, P]. NaN and Inf stay NaN or Inf."""
        z = (cells - self.center) / self.spread
        return np.maximum(self.local_scores(z), self.whole_scores(global_)), z

    def whole_scores(self, global_: NDArray[Any]) -> Floats:
        """[..., R] of the part as a whole, from sums of level distances [..., T]; minus infinity for a
        zone."""
        whole = np.asarray(global_, np.float64)
        if self.outside is not None:
            whole = whole[..., self.tile]
        parts = GLOBAL_WEIGHT * (whole - self.global_mean) / self.global_spread
        return np.where(np.isinf(self.global_spread), -np.inf, parts)

    def local_scores(self, z: Floats) -> Floats:
        """[..., R] of z [..., T, P], without the part as a whole."""
        rows = z if self.outside is None else z[..., self.tile, :] + self.outside
        return np.asarray((self._largest(rows) - self.local_mean) / self.local_spread)

    def _largest(self, rows: NDArray[Any]) -> Floats:
        """Mean of each row's largest, [..., R], of [..., R, P]."""
        most = int(self.top.max())
        largest = np.partition(rows, rows.shape[-1] - most, axis=-1)[..., -most:]
        if (self.top == most).all():
            return np.asarray(largest.mean(axis=-1, dtype=np.float64))
        ordered = np.sort(largest, axis=-1)[..., ::-1]  # NaN first, and so in every mean
        means = np.cumsum(ordered, axis=-1, dtype=np.float64) / np.arange(1, most + 1)
        last = np.broadcast_to(self.top - 1, means.shape[:-1])[..., None]
        return np.asarray(np.take_along_axis(means, last, axis=-1)[..., 0])
