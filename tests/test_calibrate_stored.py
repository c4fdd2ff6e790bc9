"""Features on disk are the features: the same numbers, whatever piece is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_ad.backbone.spec import Level
from edge_ad.calibrate.stored import StoredFeatures, part_rows, replicate_rows
from edge_ad.errors import DeviceError
from edge_ad.gaussian.replicates import fit_with_replicates
from edge_ad.gaussian.view import Features, FitSettings, fit_view

LEVELS = [Level("all", "x", 6, 16, 0)]
SETTINGS = FitSettings(LEVELS, grid=(5, 5), folds=4)


def made_up(rows: int, tiles: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(rows, tiles, 6)).astype(np.float32)
    return pooled, rng.normal(size=(rows, tiles, 25, 4)).astype(np.float32)


def stored(directory: Path, pooled: np.ndarray, local: np.ndarray) -> StoredFeatures:
    store = StoredFeatures(directory)
    for row in zip(pooled, local, strict=True):
        store.append(*row)
    return store


def test_pieces_are_those_of_the_array(tmp_path: Path) -> None:
    pooled, local = made_up(30)
    with stored(tmp_path, pooled, local) as store:
        assert store.rows == 30
        rows = np.array([3, 4, 9, 20, 29])
        for tile, of_tile in enumerate(store.tiles(rows)):
            features = of_tile.read()
            assert len(of_tile) == len(features) == 5
            np.testing.assert_array_equal(features.pooled, pooled[rows, tile])
            wanted, found = local[rows, tile], features.local
            assert found is not None
            assert not isinstance(found, np.ndarray)
            assert found.shape == wanted.shape
            np.testing.assert_array_equal(found[:], wanted)
            np.testing.assert_array_equal(found[1:3], wanted[1:3])
            np.testing.assert_array_equal(found[:, 7:19], wanted[:, 7:19])
            mask = np.array([True, False, True, True, False])
            np.testing.assert_array_equal(features.take(mask).local[:], wanted[mask])  # type: ignore[index]
            np.testing.assert_array_equal(of_tile.take(mask).read().pooled, features.pooled[mask])
            np.testing.assert_array_equal(found.joined(found.take(mask))[4:6], [wanted[4], wanted[0]])


def test_a_fit_from_disk_is_the_fit_from_memory(tmp_path: Path) -> None:
    pooled, local = made_up(40)
    with stored(tmp_path, pooled, local) as store:
        for tile, of_tile in enumerate(store.tiles(np.arange(40))):
            ours = fit_view(of_tile.read(), SETTINGS)
            reference = fit_view(Features(pooled[:, tile], local[:, tile]), SETTINGS)
            np.testing.assert_allclose(ours.outside, reference.outside, rtol=1e-12)
            assert ours.local is not None
            assert reference.local is not None
            np.testing.assert_allclose(ours.local.whitening, reference.local.whitening, rtol=1e-12)
            few = of_tile.take(np.arange(5)).read()
            np.testing.assert_allclose(
                ours.score(few).scores,
                reference.score(Features(pooled[:5, tile], local[:5, tile])).scores,
                rtol=1e-12,
            )


def test_copies_follow_their_parts(tmp_path: Path) -> None:
    pooled, local = made_up(60, tiles=1)  # 20 parts with two altered copies each
    rows, copies = part_rows(range(20), 2), replicate_rows(20, 2)
    assert rows.tolist() == list(range(0, 60, 3))
    assert copies.tolist() == [*range(1, 60, 3), *range(2, 60, 3)]
    with stored(tmp_path, pooled, local) as store:
        (parts,), (altered,) = store.tiles(rows), store.tiles(copies)
        ours = fit_with_replicates(parts.read(), altered.read(), SETTINGS)
        reference = fit_with_replicates(
            Features(pooled[rows, 0], local[rows, 0]),
            Features(pooled[copies, 0], local[copies, 0]),
            SETTINGS,
        )
    np.testing.assert_allclose(ours.outside, reference.outside, rtol=1e-12)


def test_without_positions(tmp_path: Path) -> None:
    pooled, _ = made_up(4)
    with StoredFeatures(tmp_path) as store:
        for row in pooled:
            store.append(row, None)
        assert store.tiles(np.arange(4))[2].read().local is None


def test_a_file_that_was_cut_off_is_said(tmp_path: Path) -> None:
    with stored(tmp_path, *made_up(10)) as store:
        tile = store.tiles(np.arange(10))[2]
        os.truncate(tmp_path / "local.f32", 4000)
        features = tile.read()
        assert features.local is not None
        with pytest.raises(DeviceError, match=r"local.f32: was cut off .* calibrate again"):
            features.local[9:10]
    store.close()  # once more does nothing
