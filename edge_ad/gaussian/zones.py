"""Parts of a tile that are judged apart: positions in zones of their own, and positions that count not.

A zone's cells are scored as the rest of a tile is, by the mean of the largest 1 % of their z in
deviations of good parts, and a zone's score is that of its worst tile. Zones are put on one scale by
what each may exceed: with m the median of a zone's scores S of good parts, and t the threshold that its
share of the false rejects would give it,

    score = max over zones of  (S - m) / (t - m)

and one conformal threshold on that score holds for the part as a whole, however the shares were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.threshold import conformal

IGNORED, REST = -1, 0  # labels of positions; from 1 on they are zones of their own
TOP = 0.01  # share of positions whose mean is a score
ALL = slice(None)

Floats = NDArray[np.float64]
Labels = NDArray[np.int16]


class PatchFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A zone in one tile: how many of its largest z are averaged; mean and deviation of that, of good
    parts that were left out."""

    zone: int
    top: int
    mean: float
    spread: float


class ZoneScale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """m and t of a zone; see the module. `rate`: its share of the false rejects."""

    median: float
    limit: float
    rate: float


def top_count(positions: int) -> int:
    """How many of so many positions are averaged."""
    return max(1, math.ceil(TOP * positions))


def top_mean(z: NDArray[Any], top: int) -> Floats:
    """Mean of the `top` largest of [..., P]; NaN where one is."""
    largest = np.partition(z, z.shape[-1] - top, axis=-1)[..., -top:]
    return np.asarray(largest.mean(axis=-1, dtype=np.float64))


def zones_in(labels: Labels) -> list[int]:
    """The zones of their own in a tile with positions labelled [P]."""
    return [int(zone) for zone in np.unique(labels) if zone > REST]


def patch_largest(z: NDArray[Any], labels: Labels, zone: int) -> tuple[Floats, int]:
    """Mean of a zone's largest of z [..., P], and of how many."""
    inside = z[..., labels == zone]
    top = top_count(inside.shape[-1])
    return top_mean(inside, top), top


def fit_patches(
    z: Floats, labels: Labels, sampled: NDArray[np.bool_] | slice = ALL
) -> tuple[list[PatchFit], list[Floats]]:
    """Of every zone in a tile its fit and the scores [n] of good parts, from their z [n, P], each left
    out; their scale is that of the parts in `sampled`. CheckFailed where these are all the same."""
    fits, scores = [], []
    for zone in zones_in(labels):
        largest, top = patch_largest(z, labels, zone)
        mean, spread = float(largest[sampled].mean()), float(largest[sampled].std())
        if not spread > 0.0:
            raise CheckFailed(
                f"the {len(z)} good parts all have the same distance in a zone; give different pictures"
            )
        fits.append(PatchFit(zone, top, mean, spread))
        scores.append((largest - mean) / spread)
    return fits, scores


def zone_scales(scores: Floats, shares: Sequence[float], rate: float) -> list[ZoneScale]:
    """From scores [n, zones] of good parts that were left out, the rest first; shares: of the others.
    CheckFailed where a zone's scores are all the same."""
    rates = [rate * (1.0 - sum(shares)), *(rate * share for share in shares)]
    scales = []
    for column, own in zip(scores.T, rates, strict=True):
        limit, _ = conformal(column, own, "")
        median = float(np.median(column))
        if not limit > median:
            raise CheckFailed("the scores of the good parts in a zone are all the same; make it larger")
        scales.append(ZoneScale(median, limit, own))
    return scales


def by_zone(rows: NDArray[Any], zones: Sequence[int] | NDArray[Any], count: int) -> Floats:
    """Scores [..., count] of zones 0 to count - 1, each of its worst row, from rows [..., R]."""
    whose = np.asarray(zones)
    return np.stack([rows[..., whose == zone].max(axis=-1) for zone in range(count)], axis=-1)


def part_scores(
    rows: NDArray[Any], zones: Sequence[int], scales: Sequence[ZoneScale]
) -> NDArray[np.float64]:
    """Scores [...] of parts from those of their rows [..., R]; zones [R]; without scales the largest."""
    if not scales:
        return np.asarray(rows.max(axis=-1))
    return np.asarray(on_one_scale(by_zone(rows, zones, len(scales)), scales).max(axis=-1))


def on_one_scale(scores: NDArray[Any], scales: Sequence[ZoneScale]) -> Floats:
    """Scores [..., zones] on one scale."""
    median = np.array([one.median for one in scales])
    reach = np.array([one.limit - one.median for one in scales])
    return np.asarray((scores - median) / reach)
