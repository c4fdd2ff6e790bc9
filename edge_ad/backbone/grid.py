"""The output `local`: which levels it is made of, and how their maps come onto one grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Backbone, Level, Local
from edge_ad.errors import ConfigError

STRIDE = 16  # input pixels from one position to the next
MIDDLE = (8, 16)  # strides of the levels that are used where none are named
DIM = 128
SEED = 0
NARROW_SEED = 1  # of the projection to fewer features per position than the graph gives
AUTO = "auto"


def choose_local(
    levels: Sequence[Level], first: str, wanted: Sequence[str] | None, dim: int, size: tuple[int, int]
) -> Local | None:
    """What `local` is made of; None where no level is of a middle stride.

    `wanted` names levels; None: those of the strides MIDDLE, but never the network's `first` one, which
    is edges and colours alone. Channels beyond `dim` are projected.
    Raises ConfigError for a level that is not there or has no map.
    """
    known = {level.name: level for level in levels}
    if wanted is None:
        wanted = [level.name for level in levels if level.stride in MIDDLE and level.name != first]
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ConfigError(
            f"--local-levels: {missing[0]} is not among the levels {list(known)}; local is made of "
            "levels that --levels keeps"
        )
    if not wanted:
        return None
    channels = sum(known[name].dim for name in wanted)
    rows, columns = (-(-side // STRIDE) for side in size)
    return Local(
        dim=min(dim, channels),
        rows=rows,
        columns=columns,
        stride=STRIDE,
        levels=tuple(wanted),
        seed=SEED if channels > dim else None,
    )


def projection(channels: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Seeded matrix [channels, dim] with orthonormal columns: it depends on no data."""
    noise = np.random.default_rng(seed).standard_normal((channels, dim))
    return np.linalg.qr(noise)[0].astype(np.float32)


def narrowing(backbone: Backbone, dim: int) -> NDArray[np.float32] | None:
    """The matrix [d, dim] by which an engine projects `local` where `dim` is fewer features than the
    graph gives (0: all of them); None where it is not. ConfigError for a graph without `local`."""
    if backbone.local is None:
        raise ConfigError(
            f"{backbone.directory}: {backbone.name} has no features per position; export it again, "
            "without --local none"
        )
    width = backbone.local.dim
    return projection(width, dim, NARROW_SEED) if 0 < dim < width else None


def join(torch: Any, maps: Sequence[Any], levels: Sequence[Level], local: Local) -> Any:
    """Maps [B, c, h, w] of `levels`, those of `local`, as torch tensors -> [B, P, dim].

    Pooling, projection and enlarging are linear, so each level is projected by its own rows of the
    matrix, on the smaller of its own grid and the common one, and the results are added.
    """
    functional = torch.nn.functional
    widths = [level.dim for level in levels]
    rows: Sequence[Any] = [None] * len(levels)
    if local.seed is not None:
        rows = torch.from_numpy(projection(sum(widths), local.dim, local.seed)).split(widths)
    parts = []
    for x, level, weight in zip(maps, levels, rows, strict=True):
        if x.ndim != 4:
            raise ConfigError(
                f"--local-levels: {level.name} has no positions, it is pooled; leave it out"
            )
        if level.stride < local.stride:  # ceil_mode: the last cell may reach over the picture's edge
            side = local.stride // level.stride
            x = functional.avg_pool2d(x, side, ceil_mode=True, count_include_pad=False)
        if weight is not None:
            x = functional.conv2d(x, weight.T[:, :, None, None])
        if level.stride > local.stride:
            x = functional.interpolate(x, scale_factor=level.stride / local.stride, mode="bilinear")
            x = x[:, :, : local.rows, : local.columns]
        parts.append(x)
    joined = torch.cat(parts, 1) if local.seed is None else sum(parts[1:], parts[0])
    # The batch stays open (-1): engines reshape it.
    return joined.permute(0, 2, 3, 1).reshape(-1, local.positions, local.dim)
