"""What lies in `gaussian.safetensors`: names, types and shapes; from fits to tensors to heads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from edge_ad.backbone.engine import Head, LocalHead
from edge_ad.backbone.spec import Level, Local
from edge_ad.bundle.manifest import RESTORE, TENSORS, LevelFit, LocalFit, Manifest, Tile
from edge_ad.errors import ArtifactError
from edge_ad.gaussian.context import pooling
from edge_ad.gaussian.local import LocalGaussian
from edge_ad.gaussian.maps import MapMaker
from edge_ad.gaussian.model import Gaussian
from edge_ad.gaussian.scale import TileScale
from edge_ad.gaussian.view import Combination
from edge_ad.gaussian.zones import Labels, PatchFit

Tensors = dict[str, NDArray[Any]]
LOCAL = "local"  # stands where the name of a level does


def tensor_name(key: str, tile: str, level: str, what: str) -> str:
    """Name of a tensor; of a level `what` is "mean" (float64 [d]) or "whitening" (float32 [k, d])."""
    return f"{key}/{tile}/{level}/{what}"


def level_fits(levels: Sequence[Level], gaussians: Sequence[Gaussian]) -> list[LevelFit]:
    """What the manifest says of a tile's levels."""
    return [
        LevelFit(name=level.name, k=len(g.whitening), shrinkage=g.shrinkage, condition=g.condition)
        for level, g in zip(levels, gaussians, strict=True)
    ]


def local_fit(
    local: LocalGaussian, combination: Combination, patches: Sequence[PatchFit] = ()
) -> LocalFit:
    """What the manifest says of a tile's positions."""
    return LocalFit(
        k=local.whitening.shape[1],
        q=len(local.context),
        coarse=len(pooling(local.grid)),
        shrinkage=local.shrinkage,
        combination=combination,
        shared=local.shared,
        patches=list(patches),
    )


def level_tensors(
    key: str, tile: str, levels: Sequence[Level], gaussians: Sequence[Gaussian]
) -> Tensors:
    """The tensors of a tile's levels."""
    tensors: Tensors = {}
    for level, gaussian in zip(levels, gaussians, strict=True):
        tensors[tensor_name(key, tile, level.name, "mean")] = gaussian.mean
        tensors[tensor_name(key, tile, level.name, "whitening")] = _float32(gaussian.whitening)
    return tensors


def local_tensors(key: str, tile: str, local: LocalGaussian) -> Tensors:
    """The tensors of a tile's positions."""
    whole: Tensors = {
        "pooling": pooling(local.grid),
        "context_mean": local.context_mean,
        "mean": local.mean,
        "center": local.center,
        "spread": local.spread,
    }
    large = {
        "context": local.context,
        "coefficients": local.coefficients,
        "whitening": local.whitening,
        "alone": local.alone,
    }
    tensors: Tensors = {tensor_name(key, tile, LOCAL, what): array for what, array in whole.items()}
    for what, array in large.items():
        tensors[tensor_name(key, tile, LOCAL, what)] = _float32(array)
    return tensors


def level_head(tensors: Mapping[str, NDArray[Any]], key: str, tile: str, level: Level) -> Head:
    """What an engine takes of one level."""
    mean, whitening = (tensors[tensor_name(key, tile, level.name, w)] for w in ("mean", "whitening"))
    return Head(level.offset, _float32(mean), whitening)


def local_head(tensors: Mapping[str, NDArray[Any]], key: str, tile: str) -> LocalHead:
    """What an engine takes of the positions."""
    names = (field.name for field in fields(LocalHead))
    return LocalHead(*(_float32(tensors[tensor_name(key, tile, LOCAL, what)]) for what in names))


def tile_scale(
    tensors: Mapping[str, NDArray[Any]],
    key: str,
    tiles: Sequence[Tile],
    fits: Sequence[LocalFit],
    labels: Labels | None = None,
) -> TileScale:
    """What puts the distances of a part's tiles on the scale of good parts; labels [T, P]: zones."""
    center, spread = (_of_tiles(tensors, key, tiles, what)[:, 0] for what in ("center", "spread"))
    combinations, patches = [fit.combination for fit in fits], [fit.patches for fit in fits]
    return TileScale.of(combinations, patches, labels, center, spread)


def map_maker(
    tensors: Mapping[str, NDArray[Any]], key: str, tiles: Sequence[Tile], local: Local
) -> MapMaker:
    """What makes the maps of a part's tiles."""
    center, spread = (_of_tiles(tensors, key, tiles, what)[:, 1] for what in ("center", "spread"))
    mean, alone = (_float32(_of_tiles(tensors, key, tiles, what)) for what in ("mean", "alone"))
    return MapMaker((local.rows, local.columns), mean, alone, center, spread)


def _of_tiles(
    tensors: Mapping[str, NDArray[Any]], key: str, tiles: Sequence[Tile], what: str
) -> NDArray[Any]:
    """[T, ...] of the tiles' positions."""
    return np.stack([tensors[tensor_name(key, tile.name, LOCAL, what)] for tile in tiles])


def expected_tensors(manifest: Manifest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> dtype and shape of every tensor that the manifest calls for."""
    expected: dict[str, tuple[str, tuple[int, ...]]] = {}
    for key, section in manifest.engines.items():
        for tile, fits in zip(manifest.tiles, section.levels, strict=True):
            for level, fit in zip(manifest.levels, fits, strict=True):
                expected[tensor_name(key, tile.name, level.name, "mean")] = ("float64", (level.dim,))
                expected[tensor_name(key, tile.name, level.name, "whitening")] = (
                    "float32",
                    (fit.k, level.dim),
                )
        if manifest.local is None:
            continue
        p, d = manifest.local.positions, manifest.local.dim
        for tile, local in zip(manifest.tiles, section.local, strict=True):
            shapes = {
                "pooling": ("float64", (local.coarse, p)),
                "context_mean": ("float64", (local.coarse * d,)),
                "context": ("float32", (local.q, local.coarse * d)),
                "mean": ("float64", (p, d)),
                "coefficients": ("float32", (p, d, local.q)),
                "whitening": ("float32", (p, local.k, d)),
                "alone": ("float32", (p, local.k, d)),
                "center": ("float64", (2, p)),
                "spread": ("float64", (2, p)),
            }
            for what, shape in shapes.items():
                expected[tensor_name(key, tile.name, LOCAL, what)] = shape
    return expected


def read_tensors(data: bytes, manifest: Manifest, directory: Path) -> Tensors:
    """Tensors by name, read-only. A file of another format is refused by safetensors, never executed."""
    try:
        tensors = cast("Tensors", load(data))
    except (SafetensorError, json.JSONDecodeError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{directory}: {TENSORS} is not a safetensors file ({error}; it starts with {data[:4]!r}); "
            f"{RESTORE}"
        ) from error
    expected = expected_tensors(manifest)
    if set(tensors) != set(expected):
        missing, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
        raise ArtifactError(
            f"{directory}: {TENSORS} lacks {missing[:2]} and has unexpected {extra[:2]}; calibrate again"
        )
    for name, (dtype, shape) in expected.items():
        tensor = tensors[name]
        if (str(tensor.dtype), tensor.shape) != (dtype, shape):
            raise ArtifactError(
                f"{directory}: tensor {name} is {tensor.dtype} {list(tensor.shape)}, the manifest says "
                f"{dtype} {list(shape)}; calibrate again"
            )
        if not np.isfinite(tensor).all():
            raise ArtifactError(f"{directory}: tensor {name} is not finite; calibrate again")
        if name.endswith(f"/{LOCAL}/spread") and tensor.min() <= 0:
            raise ArtifactError(
                f"{directory}: tensor {name} goes down to {tensor.min()}; calibrate again"
            )
        tensor.flags.writeable = False
    return tensors


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)
