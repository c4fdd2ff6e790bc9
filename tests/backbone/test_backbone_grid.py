"""Features per position beside a naive join of the maps, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_ad.backbone.grid import choose_local, join, projection
from edge_ad.backbone.spec import Level
from edge_ad.errors import ConfigError

LEVELS = (
    Level("level1", "a", 5, 8, 0),
    Level("level2", "b", 3, 4, 5),
    Level("level3", "c", 4, 8, 8),
    Level("level4", "d", 6, 16, 12),
    Level("level5", "e", 7, 32, 18),
)


def _naive(x: np.ndarray, stride: int, rows: int, columns: int) -> np.ndarray:
    """One map [c, h, w] on the grid, cell by cell."""
    out = np.empty((x.shape[0], rows, columns))
    for r in range(rows):
        for c in range(columns):
            if stride <= 16:
                side = 16 // stride
                cell = x[:, r * side : (r + 1) * side, c * side : (c + 1) * side]
                out[:, r, c] = cell.mean((1, 2))
                continue
            # Bilinear with half-pixel centres, the edge repeated.
            y, z = ((i + 0.5) * 16 / stride - 0.5 for i in (r, c))
            y, z = max(y, 0), max(z, 0)
            top, left = int(y), int(z)
            low, right = min(top + 1, x.shape[1] - 1), min(left + 1, x.shape[2] - 1)
            dy, dz = y - top, z - left
            out[:, r, c] = (1 - dy) * ((1 - dz) * x[:, top, left] + dz * x[:, top, right]) + dy * (
                (1 - dz) * x[:, low, left] + dz * x[:, low, right]
            )
    return out


@pytest.mark.parametrize("dim", [6, 100], ids=["projected", "as they are"])
@pytest.mark.parametrize("size", [(64, 96), (71, 130)], ids=["whole cells", "cut cells"])
def test_maps_of_other_strides_come_onto_one_grid(size: tuple[int, int], dim: int) -> None:
    names = ["level2", "level3", "level4", "level5"]
    local = choose_local(LEVELS, "level1", names, dim, size)
    assert local is not None
    assert (local.rows, local.columns) == (-(-size[0] // 16), -(-size[1] // 16))
    assert (local.dim, local.seed) == ((6, 0) if dim == 6 else (20, None))
    rng = np.random.default_rng(0)
    levels = LEVELS[1:]
    maps = [
        rng.normal(size=(2, lv.dim, *(-(-side // lv.stride) for side in size))).astype(np.float32)
        for lv in levels
    ]
    found = join(torch, [torch.from_numpy(m) for m in maps], levels, local).numpy()
    for b in range(2):
        joined = np.concatenate(
            [
                _naive(m[b], lv.stride, local.rows, local.columns)
                for m, lv in zip(maps, levels, strict=True)
            ]
        )
        expected = joined.reshape(20, -1).T
        if dim == 6:
            expected = expected @ projection(20, 6, 0)
        np.testing.assert_allclose(found[b], expected, atol=1e-5)


def test_the_projection_keeps_lengths_and_is_the_same_everywhere() -> None:
    matrix = projection(20, 6, 3)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(6), atol=1e-6)
    assert np.array_equal(matrix, projection(20, 6, 3))
    assert not np.array_equal(matrix, projection(20, 6, 4))


def test_middle_strides_are_the_default_but_never_the_first_level() -> None:
    local = choose_local(LEVELS, "level1", None, 128, (64, 64))
    assert local is not None
    assert local.levels == ("level3", "level4")
    assert choose_local(LEVELS[:2], "level1", None, 128, (64, 64)) is None


def test_levels_that_cannot_be_local_are_refused() -> None:
    with pytest.raises(ConfigError, match="--local-levels: level9 is not among the levels"):
        choose_local(LEVELS, "level1", ["level9"], 128, (64, 64))
    local = choose_local(LEVELS, "level1", ["level5"], 128, (64, 64))
    assert local is not None
    with pytest.raises(ConfigError, match="level5 has no positions, it is pooled"):
        join(torch, [torch.zeros(1, 7)], LEVELS[4:], local)
