"""Gaussians to be scored, features of good parts, and their distances by the NumPy scorer in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import Head, LocalHead
from edge_ad.gaussian.context import pooling
from edge_ad.gaussian.cuda.cells import CellsPlan, plan_cells, tile_shapes
from edge_ad.gaussian.cuda.layout import Store
from edge_ad.gaussian.cuda.levels import LevelsPlan, level_shapes, plan_levels
from edge_ad.gaussian.local import LocalGaussian
from edge_ad.gaussian.model import Gaussian, whiten

Floats = NDArray[np.float64]
WIDE = 500  # from so many features on a factor is drawn, not fitted: that takes seconds


def whitening(rng: np.random.Generator, k: int, d: int, condition: float = 100.0) -> NDArray[np.float32]:
    """An upper trapezoid [k, d] of a covariance of such a condition number."""
    if d >= WIDE:
        upper = np.triu(rng.standard_normal((d, d), np.float32), 1)[:k] / np.float32(2.0 * np.sqrt(d))
        upper[np.arange(k), np.arange(k)] = 1.0
        scales = rng.permutation(np.geomspace(1.0, np.sqrt(condition), k))
        return np.asarray(upper * scales[:, None].astype(np.float32))
    axes = np.linalg.qr(rng.standard_normal((d, k)))[0]
    if k == d:
        return whiten((axes * np.geomspace(1.0, 1.0 / condition, d)) @ axes.T).astype(np.float32)
    # As `fit_reduced` does it.
    inside = whiten(np.diag(np.geomspace(1.0, 1.0 / condition, k)))
    return np.linalg.qr(inside @ axes.T, mode="r").astype(np.float32)


def tile(
    rng: np.random.Generator,
    shapes: Sequence[tuple[int, int]],
    condition: float = 100.0,
    scale: float = 1.0,
) -> list[Head]:
    """Levels (k, d), one after the other, of features with standard deviations around `scale`."""
    heads, offset = [], 0
    for k, d in shapes:
        mean = (scale * rng.normal(size=d)).astype(np.float32)
        heads.append(Head(offset, mean, whitening(rng, k, d, condition) / np.float32(scale)))
        offset += d
    return heads


def plan_for(tiles: Sequence[Sequence[Head]], store: Store | None = "f32") -> LevelsPlan:
    """A plan for levels one after the other; `store` None: whatever each factor allows."""
    shapes = level_shapes(tiles, halves=store is None)
    if store is not None:
        shapes = [[replace(shape, store=store) for shape in tile] for tile in shapes]
    return plan_levels(shapes, width(tiles))


def cells_plan_for(heads: Sequence[LocalHead], store: Store | None = "f32") -> CellsPlan:
    """The same for positions."""
    shapes = tile_shapes(heads, halves=store is None)
    return plan_cells(shapes if store is None else [replace(shape, store=store) for shape in shapes])


def width(tiles: Sequence[Sequence[Head]]) -> int:
    """D."""
    return max(h.offset + len(h.mean) for h in tiles[0])


def good_features(
    rng: np.random.Generator, tiles: Sequence[Sequence[Head]], n: int
) -> NDArray[np.float32]:
    """[n, T, D] of which W (x - mean) is standard normal, as of good parts."""
    x = np.zeros((n, len(tiles), width(tiles)), np.float32)
    for t, heads in enumerate(tiles):
        for h in heads:
            k, d = h.whitening.shape
            w, z = h.whitening.astype(float), rng.standard_normal((k, n))
            y = np.linalg.solve(w, z) if k == d else w.T @ np.linalg.solve(w @ w.T, z)
            x[:, t, h.offset : h.offset + d] = h.mean + y.T
    return x


def level_reference(tiles: Sequence[Sequence[Head]], x: NDArray[Any]) -> Floats:
    """Distances [n, T, L] of features [n, T, D]."""
    result = np.empty((len(x), len(tiles), len(tiles[0])))
    for t, heads in enumerate(tiles):
        for i, h in enumerate(heads):
            gaussian = Gaussian(h.mean.astype(float), h.whitening.astype(float), 0.0, 1.0, 0)
            result[:, t, i] = np.sqrt(gaussian.d2(x[:, t, h.offset : h.offset + len(h.mean)]))
    return result


def local_head(
    rng: np.random.Generator, grid: tuple[int, int], k: int, d: int, q: int, condition: float = 100.0
) -> LocalHead:
    """Positions of a tile with q regressors, whose part in x is larger than what they leave of it."""
    weights, positions = pooling(grid), grid[0] * grid[1]
    mean = rng.normal(size=(positions, d))
    context = rng.normal(size=(q, len(weights) * d)) / np.sqrt(len(weights) * d)
    arrays = (
        weights, (weights @ mean).ravel(), context, mean, rng.normal(size=(positions, d, q)),
        [whitening(rng, k, d, condition) for _ in range(positions)],
    )  # fmt: skip
    return LocalHead(*(np.ascontiguousarray(array, np.float32) for array in arrays))


def good_local(
    rng: np.random.Generator, heads: Sequence[LocalHead], n: int, spread: float = 0.1
) -> NDArray[np.float32]:
    """[n, T, P, d] around the means."""
    means = np.stack([h.mean for h in heads])
    return (means + spread * rng.standard_normal((n, *means.shape))).astype(np.float32)


def local_reference(heads: Sequence[LocalHead], grid: tuple[int, int], x: NDArray[Any]) -> Floats:
    """Distances [n, T, P], given the whole, of local features [n, T, P, d]."""
    result = []
    for t, h in enumerate(heads):
        context_mean, context, mean, coefficients, w = (
            array.astype(float)
            for array in (h.context_mean, h.context, h.mean, h.coefficients, h.whitening)
        )
        nothing = np.ones((2, len(mean)))
        fitted = LocalGaussian(
            grid, context_mean, context, mean, coefficients, w, w, nothing, nothing, 0.0, 0.0, 0
        )
        result.append(np.sqrt(fitted.d2(x[:, t].astype(float))[:, 0]))
    return np.stack(result, axis=1)
