"""The parts' scores, each by a fit without it, and the threshold that they set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle import Chi2
from edge_ad.calibrate.job import Job, Part
from edge_ad.calibrate.suspects import scaled_scores, tile_scales
from edge_ad.calibrate.tile_fit import TileFit
from edge_ad.calibrate.zoning import Zoning
from edge_ad.errors import CheckFailed
from edge_ad.gaussian.threshold import (
    CHI2,
    CONFIDENCE,
    Promise,
    beta_quantile,
    chi2_threshold,
    conformal,
)
from edge_ad.gaussian.zones import REST, ZoneScale, by_zone, on_one_scale, zone_scales

LEAST_THRESHOLD = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """scores [n] of the parts; tile [n]: that each is of; scales: per tile; zones: what puts zones on
    one scale, empty where none has a share."""

    scores: NDArray[np.float64]
    tile: NDArray[np.int64]
    scales: list[float]
    zones: list[ZoneScale]


def score_parts(
    job: Job, tiles: Sequence[TileFit], zoning: Zoning, sampled: NDArray[np.bool_]
) -> Scored:
    """Of all parts of a fit; scales are those of the parts in `sampled` [n]."""
    scales = tile_scales([tile.outside[sampled] for tile in tiles], job.local is not None)
    if not zoning.shares:
        scaled = scaled_scores([tile.outside for tile in tiles], scales)
        return Scored(scaled.max(axis=1), scaled.argmax(axis=1), scales, [])
    rows = np.stack([row for tile in tiles for row in tile.rows], axis=1)
    whose = np.array([zone for tile in tiles for zone in _zones(tile)])
    of_tile = np.repeat(np.arange(len(tiles)), [len(tile.rows) for tile in tiles])
    zones = zone_scales(by_zone(rows[sampled], whose, len(zoning.shares) + 1), zoning.shares, job.rate)
    each = on_one_scale(rows, [zones[zone] for zone in whose])
    return Scored(each.max(axis=1), of_tile[each.argmax(axis=1)], scales, zones)


def _zones(tile: TileFit) -> list[int]:
    """The zone of each of a tile's rows."""
    patches = tile.local.patches if tile.local is not None else []
    return [REST, *(patch.zone for patch in patches)]


def set_threshold(
    job: Job, scores: NDArray[np.float64], tiles: Sequence[TileFit], faults: int
) -> tuple[float, Promise, Chi2 | None]:
    """Conformal, or the paper's chi-squared whose rate is then counted on the out-of-sample scores.
    `faults`: good parts without a score, which are rejected whatever the threshold."""
    threshold, promise = conformal(scores, job.rate, tiles[0].method, faults)
    if len(tiles) > 1 or len(job.levels) > 1 or job.local is not None:
        return threshold, promise, None
    k = tiles[0].levels[0].k
    limit = chi2_threshold(k, job.rate)
    above = int((scores > limit).sum()) + faults
    n = len(scores) + faults
    chi2 = Chi2(threshold=limit, k=k, rate=job.rate, observed=above / n)
    if job.threshold == "conformal":
        return threshold, promise, chi2
    # For a threshold that does not come from the scores this is Laplace's rule, and Clopper and
    # Pearson's upper bound: the same Beta law as the conformal one with n - above as the index.
    confident = beta_quantile(CONFIDENCE, above + 1, n - above) if above < n else 1.0
    promise = Promise(
        method=f"{CHI2}, checked {tiles[0].method}",
        parts=n,
        target=job.rate,
        index=n - above,
        expected=(above + 1) / (n + 1),
        confident=confident,
        achievable=(above + 1) / (n + 1) <= job.rate,
        faults=faults,
    )
    return limit, promise, chi2


def check_threshold(
    job: Job, threshold: float, scores: NDArray[np.float64], used: Sequence[Part]
) -> None:
    """Standardised scores are about 0 for an ordinary good part. A threshold there would be no unit for
    margins and tolerances, which are shares of it; a part very far out can stretch the scale so."""
    if threshold >= LEAST_THRESHOLD:
        return
    furthest = int(scores.argmax())
    raise CheckFailed(
        f"{len(used)} good parts: the threshold for a false-reject rate of {job.rate:g} is "
        f"{threshold:.4g}, where ordinary good parts are (it takes {LEAST_THRESHOLD:g}); look at "
        f"{used[furthest].source}, which lies furthest out (score {scores[furthest]:.4g}): leave it out "
        f"(--drop {used[furthest].id} for a kept part) if it is defective, else ask for a lower rate"
    )
