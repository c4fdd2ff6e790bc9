"""Plans and packing, which need no GPU: what lies where, how much is read, what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import emulator as emulator_module
import numpy as np
import pytest
from emulator import SOURCES, Emulator
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_gaussians import good_features, local_head, plan_for, tile
from numpy.typing import NDArray

from edge_ad.config.local import tomllib
from edge_ad.cuda.bandwidth import floor_us
from edge_ad.gaussian.cuda import floor
from edge_ad.gaussian.cuda.cells import TileShape, pack_cells, plan_cells, tile_shapes
from edge_ad.gaussian.cuda.layout import (
    LEVEL_FIELDS,
    VECTOR,
    WIDE,
    Store,
    by_columns,
    by_rows,
    factor_vectors,
)
from edge_ad.gaussian.cuda.levels import LevelShape, pack_levels, plan_levels
from edge_ad.gaussian.cuda.precision import choose_store, half_error, to_halves

ROOT = Path(__file__).resolve().parents[2]
shapes = st.integers(1, 40).flatmap(lambda d: st.tuples(st.integers(1, d), st.just(d)))


def unpack(rows: NDArray[np.float32], k: int, d: int, wide: int, columns: bool) -> NDArray[np.float32]:
    """What `layout` says, word by word."""
    result = np.zeros((k, -(-d // wide) * wide), np.float32)
    vectors = iter(rows)
    starts = [(r, c) for r in range(k) for c in range(r // wide, -(-d // wide))]
    for r, c in sorted(starts, key=lambda at: (at[1], at[0])) if columns else starts:
        result[r, wide * c : wide * (c + 1)] = next(vectors)
    assert next(vectors, None) is None
    assert not result[:, d:].any()
    return result[:, :d]


@settings(max_examples=60, deadline=None)
@given(shapes, st.sampled_from([4, 8]))
def test_a_packed_factor_is_the_factor(shape: tuple[int, int], wide: int) -> None:
    k, d = shape
    w = np.triu(np.arange(1, k * d + 1, dtype=np.float32).reshape(k, d))
    rows, columns = by_rows(w, wide), by_columns(np.stack([w, -w]), wide)
    assert len(rows) == columns.shape[1] == factor_vectors(k, d, wide)
    np.testing.assert_array_equal(unpack(rows, k, d, wide, False), w)
    np.testing.assert_array_equal(unpack(columns[1], k, d, wide, True), -w)


@settings(max_examples=40, deadline=None)
@given(st.lists(shapes, min_size=1, max_size=5), st.integers(1, 3))
def test_every_pair_of_rows_is_there_once(levels: list[tuple[int, int]], tiles: int) -> None:
    rng = np.random.default_rng(0)
    plan = plan_for([tile(rng, levels)] * tiles)
    for index, row in enumerate(plan.table):
        fields = dict(zip(LEVEL_FIELDS, row.tolist(), strict=True))
        own = plan.pairs[fields["first"] : fields["first"] + fields["pairs"]]
        assert set((own >> 16).tolist()) == {index}
        rows = {r for pair in own.tolist() for r in (pair & 0xFFFF, fields["k"] - 1 - (pair & 0xFFFF))}
        assert rows == set(range(fields["k"]))
    assert sorted(plan.table[:, LEVEL_FIELDS.index("distance")]) == list(range(tiles * len(levels)))
    widths = plan.table[:, LEVEL_FIELDS.index("d")]
    assert (np.diff(widths) <= 0).all()  # the longest first
    assert plan.grid * plan.block >= 32 * len(plan.pairs)


def test_bytes_of_a_frame_are_those_of_what_is_packed() -> None:
    rng = np.random.default_rng(1)
    heads = [tile(rng, [(9, 9), (80, 100)]) for _ in range(2)]
    stores: tuple[Store, ...] = ("f32", "f16")
    for store in stores:
        plan = plan_for(heads, store)
        vectors, floats = pack_levels(plan, heads)
        read = vectors.nbytes + floats.nbytes + plan.table.nbytes + plan.pairs.nbytes + 4 * 2 * 109
        written = 4 * (2 * 2)
        assert plan.bytes_per_frame == read + written + 4 * (2 * plan.squares + plan.tickets)
        assert vectors.nbytes == 2 * VECTOR * sum(
            factor_vectors(k, d, WIDE[store]) for k, d in [(9, 9), (80, 100)]
        )
    local = [local_head(rng, (3, 3), 6, 7, q) for q in (5, 0)]
    cells = plan_cells(tile_shapes(local))
    vectors, floats = pack_cells(cells, local)
    values = 2 * 9 * 7 + 2 * 9 + 2 * 2 * (cells.view + cells.regressors)
    expected = vectors.nbytes + floats.nbytes + cells.table.nbytes + 4 * values
    assert cells.bytes_per_frame == expected


def test_operations_are_those_of_the_formula() -> None:
    # d = 3, k = 2: 3 differences, rows of 3 and 2 products and sums, 2 squares and sums, one root.
    assert plan_levels([[LevelShape(0, 2, 3)]], 3).operations == 3 + 2 * 5 + 2 * 2 + 1
    # The same at 2 positions with its root, besides 1 regressor of 1 cell: mean of 2 positions, 3
    # differences and products and sums; then its 3 products and sums, at each position.
    assert plan_cells([TileShape(2, 3, 2, 0, 1)]).operations == 2 * (3 + 2 * 5 + 2 * 2)
    assert plan_cells([TileShape(2, 3, 2, 1, 1)]).operations == 2 * (17 + 9) + 6 + 3 + 6


def test_halves_are_taken_where_good_parts_allow_it() -> None:
    rng = np.random.default_rng(2)
    mild = tile(rng, [(600, 600)], 4.0)[0].whitening
    assert choose_store(mild) == "f16"
    halves, scales = to_halves(mild)
    assert half_error(mild) <= 5e-5
    assert (np.abs(halves).max(axis=1) >= 2.0**14).all()
    assert (np.abs(halves).max(axis=1) <= 2.0**15).all()
    assert (np.frexp(scales)[0] == 0.5).all()
    assert choose_store(tile(rng, [(90, 90)], 1e6)[0].whitening) == "f32"  # differences of large numbers
    assert choose_store(tile(rng, [(8, 8)], 1.0)[0].whitening) == "f32"  # nothing averages out
    singular = np.triu(rng.normal(size=(80, 80))).astype(np.float32)
    singular[17] = 0.0
    assert choose_store(singular) == "f32"
    assert choose_store(np.stack([mild[:70, :70], np.full((70, 70), np.nan, np.float32)])) == "f32"


@pytest.mark.parametrize(
    ("levels", "features"),
    [
        ([], 3),
        ([[]], 3),
        ([[LevelShape(0, 3, 3)], []], 3),
        ([[LevelShape(0, 4, 3)]], 3),
        ([[LevelShape(0, 0, 3)]], 3),
        ([[LevelShape(1, 3, 3)]], 3),
        ([[LevelShape(-1, 3, 3)]], 3),
        ([[LevelShape(0, 70_000, 70_000)]], 70_000),
        ([[LevelShape(0, 60_000, 60_000)] * 20], 60_000),
    ],
)
def test_levels_that_cannot_be_are_refused(levels: list[list[LevelShape]], features: int) -> None:
    with pytest.raises(ValueError, match=r"tile|fit"):
        plan_levels(levels, features)


@pytest.mark.parametrize(
    "tiles",
    [
        [],
        [TileShape(4, 3, 4, 0, 1)],
        [TileShape(0, 3, 3, 0, 1)],
        [TileShape(4, 3, 3, 0, 1), TileShape(5, 3, 3, 0, 1)],
        [TileShape(4, 3000, 3000, 0, 1)],
        [TileShape(4096, 128, 128, 400, 16)] * 60,
    ],
)
def test_positions_that_cannot_be_are_refused(tiles: list[TileShape]) -> None:
    with pytest.raises(ValueError, match=r"tile|features"):
        plan_cells(tiles)


def test_heads_of_other_shapes_or_with_a_lower_triangle_are_refused() -> None:
    rng = np.random.default_rng(3)
    heads = [tile(rng, [(4, 4), (3, 5)])]
    plan = plan_for(heads)
    with pytest.raises(ValueError, match="tile 0, level 1"):
        pack_levels(plan, [tile(rng, [(4, 4), (2, 5)])])
    with pytest.raises(ValueError, match=r"at 0, planned was .*offset=4"):
        pack_levels(plan, [heads[0][::-1]])
    with pytest.raises(ValueError, match="planned were 1 tiles"):
        pack_levels(plan, heads * 2)
    heads[0][1].whitening[2, 0] = 1e-6
    with pytest.raises(ValueError, match="tile 0, level 1: W has numbers below its diagonal"):
        pack_levels(plan, heads)
    local = [local_head(rng, (2, 2), 3, 3, 2)]
    cells = plan_cells(tile_shapes(local))
    with pytest.raises(ValueError, match="tile 0"):
        pack_cells(cells, [local_head(rng, (2, 2), 3, 3, 1)])
    local[0].whitening[3, 2, 1] = 1e-6
    with pytest.raises(ValueError, match="tile 0: W has numbers below its diagonal"):
        pack_cells(cells, local)


def test_reading_beyond_a_buffer_ends_the_emulation(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    heads = [tile(rng, [(8, 8)])]
    short = [array[:-1] for array in pack_levels(plan_for(heads), heads)]
    monkeypatch.setattr(emulator_module, "pack_levels", lambda plan, heads: short)
    with pytest.raises(AssertionError, match="ended with -11"):
        emulator.levels(plan_for(heads), heads, good_features(rng, heads, 1))


def test_a_barrier_that_some_threads_pass_by_ends_the_emulation(emulator: Emulator) -> None:
    done = subprocess.run([emulator.program, "stuck"], capture_output=True, text=True, check=False)
    assert (done.returncode, "a barrier that not all threads reach" in done.stderr) == (3, True)


def test_the_committed_table_is_what_the_plans_say() -> None:
    results = (ROOT / "calibration" / "RESULTS.md").read_text(encoding="utf-8")
    section = results.split("## CUDA kernel\n", 1)[1].split("\n## ", 1)[0]
    assert [line for line in section.splitlines() if line.startswith("|")] == floor.table()
    assert "not measured" in section


def test_the_floor_is_bytes_over_bandwidth() -> None:
    assert floor_us(204_800_000, 204.8) == pytest.approx(1000.0)
    plan = plan_levels([floor.square_levels(floor.EFFICIENTNET_B4, "f32")], 2944)
    entries = sum(d * (d + 1) // 2 for d in floor.EFFICIENTNET_B4)
    assert 4 * entries < plan.bytes_per_frame < 1.02 * 4 * entries  # padding and all that is small


def test_a_plan_needs_no_gpu_and_no_library_for_one() -> None:
    names = [f"edge_ad.gaussian.cuda.{path.stem}" for path in SOURCES.glob("*.py")]
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {names}];"
        "print(sorted({m.split('.')[0] for m in sys.modules}"
        " & {'pycuda', 'cuda', 'cupy', 'torch', 'tensorrt', 'numba', 'openvino', 'cv2'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_ships_its_sources() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["edge_ad"]
    shipped = {path for pattern in patterns for path in (ROOT / "edge_ad").glob(pattern)}
    sources = {path for path in SOURCES.iterdir() if path.suffix in (".cu", ".cuh")}
    assert sources
    assert sources <= shipped
