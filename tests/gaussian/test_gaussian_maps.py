"""Maps are made of both distances, tile by tile."""

from __future__ import annotations

import numpy as np

from edge_ad.gaussian.maps import MapMaker, anomaly_map


def test_the_smaller_of_both_at_every_position() -> None:
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(3, 6, 4)).astype(np.float32)
    alone = np.triu(rng.normal(size=(3, 6, 4, 4))).astype(np.float32)
    center, spread = rng.uniform(1, 2, (2, 3, 6))
    maker = MapMaker((2, 3), mean, alone, center, spread)
    local = rng.normal(size=(3, 6, 4)).astype(np.float32)
    given = rng.normal(size=(3, 6))
    maps = maker.maps(local, given)
    assert (maps.shape, maps.dtype) == ((3, 2, 3), np.float32)
    for tile in range(3):
        for p in range(6):
            d = np.linalg.norm(alone[tile, p].astype(float) @ (local[tile, p] - mean[tile, p]))
            z = (d - center[tile, p]) / spread[tile, p]
            np.testing.assert_allclose(maps[tile].flat[p], min(z, given[tile, p]), rtol=1e-4)


def test_nan_stays() -> None:
    given, alone = np.array([0.0, np.nan, 1.0, 2.0]), np.array([np.nan, 0.0, 3.0, 1.0])
    assert np.isnan(anomaly_map(given, alone, (2, 2))[0]).all()
