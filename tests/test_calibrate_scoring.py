"""The parts' scores over tiles and zones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from edge_ad.calibrate.scoring import score_parts, set_threshold
from edge_ad.gaussian.zones import PatchFit, part_scores

N = 200
ALL = np.ones(N, np.bool_)


def tile(rows: list[np.ndarray], zones: list[int]) -> Any:
    patches = [PatchFit(zone, 1, 0.0, 1.0) for zone in zones]
    return SimpleNamespace(outside=rows[0], rows=rows, local=SimpleNamespace(patches=patches))


def test_a_parts_tile_is_the_one_that_its_score_is_of() -> None:
    """A zone's scores are on another scale than those of the rest, and compared as they count."""
    rng = np.random.default_rng(0)
    rest = [rng.normal(size=N), rng.normal(size=N)]
    seal = 0.01 * rng.normal(size=N)  # of the second tile
    seal[5] = 0.5  # far out for the seal, small beside the rest
    rest[0][5], rest[1][5] = 0.6, 0.1
    tiles = [tile([rest[0]], []), tile([rest[1], seal], [1])]
    job: Any = SimpleNamespace(local=object(), rate=0.05)
    zoning: Any = SimpleNamespace(shares=[0.5])
    scored = score_parts(job, tiles, zoning, ALL)
    rows = np.stack([rest[0], rest[1], seal], axis=1)
    np.testing.assert_allclose(scored.scores, part_scores(rows, [0, 0, 1], scored.zones))
    assert scored.scores[5] == scored.scores.max()
    assert scored.tile[5] == 1
    plain: Any = SimpleNamespace(shares=[])
    scored = score_parts(job, tiles, plain, ALL)
    assert scored.tile[5] == 0
    np.testing.assert_array_equal(scored.scores, np.maximum(*rest))


def test_parts_without_a_score_count_as_rejected_by_chi2_as_well() -> None:
    job: Any = SimpleNamespace(rate=0.05, levels=[1], local=None, threshold="chi2")
    fitted: Any = SimpleNamespace(method="x", levels=[SimpleNamespace(k=4)])
    scores = np.linspace(0.5, 2.0, 96)
    limit, promise, chi2 = set_threshold(job, scores, [fitted], 4)
    above = int((scores > limit).sum()) + 4
    assert chi2 is not None and chi2.observed == above / 100
    assert (promise.parts, promise.faults, promise.index) == (100, 4, 100 - above)
