"""The kernels of positions are `LocalGaussian`, whatever the order of threads."""

from __future__ import annotations

import numpy as np
import pytest
from emulator import SOURCES, Emulator
from made_up_gaussians import cells_plan_for, good_local, local_head, local_reference

from edge_ad.backbone.engine import LocalHead
from edge_ad.bundle.tensors import local_head as head_of_bundle
from edge_ad.bundle.tensors import local_tensors
from edge_ad.gaussian.cuda.heads import by_itself
from edge_ad.gaussian.cuda.layout import Store
from edge_ad.gaussian.local import fit_local
from edge_ad.gaussian.maps import MapMaker

# Grid, k, d, regressors of each tile.
Case = tuple[tuple[int, int], int, int, tuple[int, ...]]
CASES: dict[str, Case] = {
    "a camera's": ((16, 16), 128, 128, (400,)),
    "24 tiles": ((4, 4), 64, 64, (64,) * 23 + (17,)),
    "some without regressors": ((3, 5), 20, 20, (0, 9, 0)),
    "none with regressors": ((3, 5), 20, 20, (0, 0)),
    "one position": ((1, 1), 12, 12, (3, 2)),
    "one feature": ((4, 5), 1, 1, (1, 1)),
    "one row": ((2, 3), 1, 9, (5,)),
    "fewer rows than features": ((5, 4), 10, 35, (6, 8)),
    "widths that no vector fits": ((7, 2), 33, 33, (7, 13)),
}


def heads_for(rng: np.random.Generator, case: Case, condition: float = 100.0) -> list[LocalHead]:
    grid, k, d, regressors = case
    return [local_head(rng, grid, k, d, q, condition) for q in regressors]


@pytest.mark.parametrize("condition", [1e2, 1e6])
@pytest.mark.parametrize("name", CASES)
def test_distances_given_the_whole(emulator: Emulator, name: str, condition: float) -> None:
    rng = np.random.default_rng(1)
    grid = CASES[name][0]
    heads = heads_for(rng, CASES[name], condition)
    x = good_local(rng, heads, 2)
    found = emulator.cells(cells_plan_for(heads), heads, x, grid=6)
    assert all(one.tobytes() == found[0].tobytes() for one in found)
    np.testing.assert_allclose(found[0], local_reference(heads, grid, x), rtol=1e-5)


def test_halves(emulator: Emulator) -> None:
    """Wide, well-conditioned factors; an ill-conditioned tile between them stays in float32."""
    rng = np.random.default_rng(2)
    conditions = {9: 1.0, 0: 1e6, 30: 1.0}
    heads = [local_head(rng, (2, 2), 250, 250, q, condition) for q, condition in conditions.items()]
    plan = cells_plan_for(heads, None)
    assert [shape.store for shape in plan.shapes] == ["f16", "f32", "f16"]
    x = good_local(rng, heads, 2)
    found = emulator.cells(plan, heads, x, grid=3)
    assert all(one.tobytes() == found[0].tobytes() for one in found)
    np.testing.assert_allclose(found[0], local_reference(heads, (2, 2), x), rtol=1e-4)


@pytest.mark.parametrize("store", ["f32", "f16"])
def test_results_depend_neither_on_grid_nor_on_block(emulator: Emulator, store: Store) -> None:
    rng = np.random.default_rng(3)
    heads = heads_for(rng, CASES["widths that no vector fits"])
    x = good_local(rng, heads, 1)
    plan = cells_plan_for(heads, store)
    launches = [(None, None), (1, 32), (1, 256), (5, 96), (50, 64)]
    found = [emulator.cells(plan, heads, x, grid=grid, block=block) for grid, block in launches]
    assert {one.tobytes() for results in found for one in results} == {found[0][0].tobytes()}


@pytest.mark.parametrize("store", ["f32", "f16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_number_reaches_the_positions(emulator: Emulator, value: float, store: Store) -> None:
    """Each feature of each position in turn: all positions of its tile given the whole, its own without;
    never one of another tile."""
    rng = np.random.default_rng(4)
    heads = heads_for(rng, ((3, 2), 5, 5, (4, 0, 3)))
    good = good_local(rng, heads, 1)
    count = good[0, 0].size
    x = np.repeat(good, 1 + count, axis=0)
    for i in range(count):
        x[1 + i, :2].reshape(2, -1)[:, i] = value
    found = emulator.cells(cells_plan_for(heads, store), heads, x, ("reversed",))[0]
    assert not np.isfinite(found[1:, 0]).any()
    for i in range(count):
        own = np.arange(6) == i // 5
        assert not np.isfinite(found[1 + i, 1, own]).any()
        assert found[1 + i, 1, ~own].tobytes() == found[0, 1, ~own].tobytes()
        assert found[1 + i, 2].tobytes() == found[0, 2].tobytes()


def test_frames_do_not_depend_on_frames_before(emulator: Emulator) -> None:
    rng = np.random.default_rng(5)
    heads = heads_for(rng, CASES["some without regressors"])
    x = good_local(rng, heads, 3)
    x[1] = np.nan
    x[2] = x[0]
    found = emulator.cells(cells_plan_for(heads), heads, x)
    assert np.isnan(found[:, 1]).all()
    assert found[:, 2].tobytes() == found[:, 0].tobytes()


def test_a_fit_from_its_tensors_and_its_map(emulator: Emulator) -> None:
    """From good parts to a bundle's tensors to the kernel: both distances, and the map made of them."""
    rng = np.random.default_rng(6)
    grid, d = (4, 3), 10
    mixing = rng.normal(size=(d, d))
    good, new = (
        (rng.normal(size=(n, 12, d)) @ mixing + rng.normal(size=(n, 1, d)) + 3.0).astype(np.float32)
        for n in (120, 2)
    )
    fitted, _ = fit_local(good, grid)
    assert len(fitted.context) > 10
    heads = [head_of_bundle(local_tensors("cuda", "tile", fitted), "cuda", "tile")]
    expected = np.sqrt(fitted.d2(new))
    given = emulator.cells(cells_plan_for(heads), heads, new[:, None])
    np.testing.assert_allclose(given[0, :, 0], expected[:, 0], rtol=3e-5)
    mean, alone = (np.float32(array) for array in (fitted.mean, fitted.alone))
    heads = [by_itself(mean, alone)]
    found = emulator.cells(cells_plan_for(heads), heads, new[:, None])
    np.testing.assert_allclose(found[0, :, 0], expected[:, 1], rtol=1e-5)
    maker = MapMaker(grid, mean[None], alone[None], fitted.center[1:], fitted.spread[1:])
    z = fitted.z(np.stack([given[0, 0], found[0, 0]], axis=1))
    np.testing.assert_allclose(
        np.minimum(z[0, 0], z[0, 1]).reshape(grid), maker.maps(new[:1], z[:, 0])[0], atol=1e-4
    )


BARRIERS = [
    number
    for number, line in enumerate((SOURCES / "mahalanobis.cu").read_text().splitlines(), 1)
    if "__syncthreads();" in line
]


@pytest.mark.parametrize("line", BARRIERS)
def test_every_barrier_is_needed_and_the_orders_show_it(
    emulator: Emulator, line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any one of them results are wrong, or differ from one order of threads to the next."""
    rng = np.random.default_rng(7)
    heads = heads_for(rng, ((4, 4), 40, 40, (12, 30)))
    x = good_local(rng, heads, 1)
    plan = cells_plan_for(heads)
    whole = emulator.cells(plan, heads, x, grid=2)
    assert {one.tobytes() for one in whole} == {whole[0].tobytes()}
    monkeypatch.setenv("SHIM_LEAVE_OUT", str(line))
    assert {one.tobytes() for one in emulator.cells(plan, heads, x, grid=2)} != {whole[0].tobytes()}
