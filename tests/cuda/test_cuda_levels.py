"""`level_distances` is the NumPy scorer, whatever the order of threads."""

from __future__ import annotations

import numpy as np
import pytest
from emulator import ORDERS, Emulator, Levels
from made_up_gaussians import good_features, level_reference, plan_for, tile, width
from numpy.typing import NDArray

from edge_ad.backbone.spec import Level
from edge_ad.bundle.tensors import level_head, level_tensors
from edge_ad.gaussian.cuda.floor import EFFICIENTNET_B4, MOBILENET_V2
from edge_ad.gaussian.cuda.layout import Store
from edge_ad.gaussian.model import fit_levels
from edge_ad.gaussian.score import level_distances
from edge_ad.gaussian.subspace import Reduction

SMALL = [(5, 5), (7, 7), (3, 6), (1, 1), (1, 9), (33, 33), (16, 40)]


def same_in_all_orders(found: Levels) -> None:
    """Bitwise; and every ticket is ready for the next frame."""
    assert all(one.tobytes() == found.distances[0].tobytes() for one in found.distances)
    assert not found.tickets.any()


def check(found: Levels, expected: NDArray[np.float64], tolerance: float) -> None:
    """Distances of every order and frame."""
    same_in_all_orders(found)
    np.testing.assert_allclose(found.distances[0], expected, rtol=tolerance)


@pytest.mark.parametrize("condition", [1e2, 1e6])
def test_nine_levels_of_efficientnet_b4(emulator: Emulator, condition: float) -> None:
    rng = np.random.default_rng(4)
    heads = [tile(rng, [(d, d) for d in EFFICIENTNET_B4], condition)]
    x = good_features(rng, heads, 2)
    x[1] += rng.normal(size=x[1].shape).astype(np.float32)  # and something that is no good part
    expected = level_reference(heads, x)
    check(emulator.levels(plan_for(heads), heads, x, grid=64), expected, 1e-5)
    halves = plan_for(heads, None)
    check(emulator.levels(halves, heads, x, grid=64), expected, 1e-4)
    if condition == 1e2:  # where most of what is read is in halves
        assert halves.bytes_per_frame < 0.6 * plan_for(heads).bytes_per_frame


def test_24_tiles_of_mobilenet_v2_with_gaussians_of_their_own(emulator: Emulator) -> None:
    rng = np.random.default_rng(24)
    heads = [tile(rng, [(d, d) for d in MOBILENET_V2]) for _ in range(24)]
    x = rng.normal(size=(1, 24, sum(MOBILENET_V2))).astype(np.float32)
    plan = plan_for(heads)
    found = emulator.levels(plan, heads, x, ORDERS[1:3], grid=32)
    check(found, level_reference(heads, x), 1e-5)


@pytest.mark.parametrize("store", ["f32", None])
@pytest.mark.parametrize("condition", [1.0, 1e6])
def test_reduced_levels_of_mobilenet_v2(
    emulator: Emulator, store: Store | None, condition: float
) -> None:
    """As PCA and NPCA leave them; each of two tiles keeps another number of rows."""
    rng = np.random.default_rng(1)
    shares = (0.25, 0.6)
    heads = [tile(rng, [(int(s * d), d) for d in MOBILENET_V2], condition) for s in shares]
    x = good_features(rng, heads, 2)
    found = emulator.levels(plan_for(heads, store), heads, x, grid=32)
    check(found, level_reference(heads, x), 1e-4 if store is None else 1e-5)


@pytest.mark.parametrize("scale", [1.0, 1.5e-3, 1e-12, 1e12])
@pytest.mark.parametrize("condition", [1.0, 1e6])
@pytest.mark.parametrize("tiles", [1, 3])
def test_degenerate_shapes(emulator: Emulator, tiles: int, condition: float, scale: float) -> None:
    """One row, one feature, fewer rows than features; widths and offsets that no vector fits."""
    rng = np.random.default_rng(2)
    heads = [tile(rng, SMALL, condition, scale) for _ in range(tiles)]
    x = good_features(rng, heads, 3)
    check(emulator.levels(plan_for(heads), heads, x), level_reference(heads, x), 1e-5)


def test_rank_deficient_factors(emulator: Emulator) -> None:
    """Rows of zeros, as of a feature that means nothing, and a factor that is zero altogether."""
    rng = np.random.default_rng(5)
    heads = [tile(rng, [(6, 6), (8, 8), (3, 3)])]
    heads[0][1].whitening[[0, 3, 7]] = 0.0
    heads[0][2].whitening[:] = 0.0
    x = good_features(rng, [heads[0][:1]], 2)
    x = np.concatenate([x, rng.normal(size=(2, 1, 11)).astype(np.float32)], axis=2)
    stores: tuple[Store, ...] = ("f32", "f16")
    for store in stores:
        found = emulator.levels(plan_for(heads, store), heads, x)
        expected = level_reference(heads, x)
        same_in_all_orders(found)
        np.testing.assert_allclose(found.distances[0], expected, rtol=1e-5 if store == "f32" else 1e-3)
        assert (found.distances[..., 2] == 0.0).all()


@pytest.mark.parametrize("k", [256, 255])
def test_wide_factors_in_halves(emulator: Emulator, k: int) -> None:
    rng = np.random.default_rng(6)
    heads = [tile(rng, [(3, 3), (k, 640), (300, 301)], 1.0) for _ in range(2)]
    x = good_features(rng, heads, 2)
    plan = plan_for(heads, "f16")
    found = emulator.levels(plan, heads, x)
    expected = level_reference(heads, x)
    same_in_all_orders(found)
    np.testing.assert_allclose(found.distances[0][..., 1:], expected[..., 1:], rtol=1e-4)
    np.testing.assert_allclose(found.distances[0][..., 0], expected[..., 0], rtol=1e-3)


@pytest.mark.parametrize("store", ["f32", "f16"])
def test_results_depend_neither_on_grid_nor_on_block(emulator: Emulator, store: Store) -> None:
    rng = np.random.default_rng(7)
    heads = [tile(rng, [(40, 40), (70, 71), (9, 9)]) for _ in range(2)]
    x = good_features(rng, heads, 1)
    plan = plan_for(heads, store)
    launches = [(None, None), (1, 32), (1, 256), (3, 64), (7, 160), (500, 256)]
    found = [emulator.levels(plan, heads, x, grid=grid, block=block) for grid, block in launches]
    for one in found:
        same_in_all_orders(one)
        assert one.distances.tobytes() == found[0].distances.tobytes()


def test_frames_do_not_depend_on_frames_before(emulator: Emulator) -> None:
    rng = np.random.default_rng(8)
    heads = [tile(rng, SMALL)]
    x = good_features(rng, heads, 4)
    x[1] = np.nan
    x[3] = x[0]
    found = emulator.levels(plan_for(heads), heads, x)
    same_in_all_orders(found)
    assert np.isnan(found.distances[:, 1]).all()
    assert found.distances[:, 3].tobytes() == found.distances[:, 0].tobytes()


@pytest.mark.parametrize("store", ["f32", "f16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_number_reaches_its_level(emulator: Emulator, value: float, store: Store) -> None:
    """At every single feature; the other levels do not change at all. 1e30 squared overflows."""
    rng = np.random.default_rng(9)
    heads = [tile(rng, SMALL) for _ in range(2)]
    good = good_features(rng, heads, 1)
    x = np.repeat(good, 1 + width(heads), axis=0)
    for i in range(width(heads)):
        x[1 + i, 1, i] = value
    found = emulator.levels(plan_for(heads, store), heads, x, ("random:1",))
    distances = found.distances[0]
    for i in range(width(heads)):
        hit = np.array([h.offset <= i < h.offset + len(h.mean) for h in heads[1]])
        assert not np.isfinite(distances[1 + i, 1, hit]).any()
        assert distances[1 + i, 1, ~hit].tobytes() == distances[0, 1, ~hit].tobytes()
        assert distances[1 + i, 0].tobytes() == distances[0, 0].tobytes()


@pytest.mark.parametrize("reduction", [Reduction(), Reduction("pca", 0.99), Reduction("npca", 0.5)])
def test_a_fit_from_its_tensors(emulator: Emulator, reduction: Reduction) -> None:
    """From good parts to a bundle's tensors to the kernel: the distances of new parts."""
    rng = np.random.default_rng(10)
    levels = [Level(f"l{d}", "t", d, 8, at) for d, at in ((6, 0), (18, 6), (40, 24))]
    mixing = rng.normal(size=(64, 64)) / 8.0
    good, new = ((rng.normal(size=(n, 64)) @ mixing).astype(np.float32) for n in (200, 5))
    gaussians = fit_levels(good, levels, reduction)
    tensors = level_tensors("cuda", "tile", levels, gaussians)
    heads = [[level_head(tensors, "cuda", "tile", level) for level in levels]]
    found = emulator.levels(plan_for(heads), heads, new[:, None])
    check(found, level_distances(new, levels, gaussians)[:, None], 1e-5)
