"""Gaussians as nodes of an OpenVINO graph: distances on `pooled`, distances of the cells on `local`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import opset13 as ops

from edge_ad.backbone.engine import Head, LocalHead

# Measured with MobileNetV2 and EfficientNet-B4 on two cores; see distances.
SMALL = 192  # features of a level that is whitened together with its neighbours
BLOCK = 320  # rows of a block of a triangular whitening factor


def distances(pooled: Any, heads: Sequence[Sequence[Head]]) -> Any:
    """d = |W (x - mean)| of every row and level as a graph on `pooled` [B, D], output [B, L].

    Whitening one picture takes as long as reading W does: small neighbouring levels share one
    block-diagonal product, large ones skip most of the zeros below W's diagonal. The difference comes
    first: W x - W mean would cancel. NaN and Inf reach their own level, and may reach its neighbours.
    """
    rows = []
    for row, levels in enumerate(heads):
        squares = []
        for group in _groups(levels):
            start = group[0].offset
            mean = np.concatenate([head.mean for head in group])
            x = ops.slice(pooled, _ints(row, start), _ints(row + 1, start + len(mean)), _ints(1, 1))
            y = _whiten(ops.subtract(x, _floats(mean[None])), [head.whitening for head in group])
            y2 = ops.multiply(y, y)
            lengths = _ints(*(head.whitening.shape[0] for head in group))
            parts = ops.variadic_split(y2, ops.constant(np.int64(1)), lengths).outputs()
            squares += [ops.reduce_sum(part, _ints(1), keep_dims=True) for part in parts]
        rows.append(ops.sqrt(ops.concat(squares, 1)))
    return ops.concat(rows, 0)


def _groups(levels: Sequence[Head]) -> list[list[Head]]:
    """The heads in order, neighbours of at most SMALL features that touch in `pooled` put together."""
    groups: list[list[Head]] = []
    for head in levels:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and max(len(last.mean), len(head.mean)) <= SMALL
            and last.offset + len(last.mean) == head.offset
        ):
            groups[-1].append(head)
        else:
            groups.append([head])
    return groups


def _whiten(x: Any, whitenings: list[NDArray[np.float32]]) -> Any:
    """W x for the block-diagonal W of these blocks, leaving out what is zero in block rows."""
    rows, columns = np.sum([w.shape for w in whitenings], axis=0)
    whole = np.zeros((rows, columns), np.float32)
    row = column = 0
    for w in whitenings:
        whole[row : row + w.shape[0], column : column + w.shape[1]] = w
        row, column = row + w.shape[0], column + w.shape[1]
    triangular = not np.tril(whole, -1).any()
    edges = np.linspace(0, rows, 1 + (max(1, round(rows / BLOCK)) if triangular else 1)).astype(int)
    products = []
    for first, last in pairwise(edges):
        tail = ops.slice(x, _ints(first), _ints(columns), _ints(1), _ints(1)) if first else x
        products.append(ops.matmul(tail, _floats(whole[first:last, first:]), False, True))
    return ops.concat(products, 1)


def cells(local: Any, heads: Sequence[LocalHead]) -> Any:
    """d_p of every row and position as a graph on `local` [B, P, d], output [B, P].

    The prediction is subtracted before whitening: folding W B into one matrix is no faster, and W x
    would cancel against it. What takes the time is reading B and W. NaN and Inf reach all positions,
    or their own where there is no context.
    """
    rows = []
    for row, head in enumerate(heads):
        positions, _, d = head.whitening.shape
        view = ops.slice(local, _ints(row), _ints(row + 1), _ints(1), _ints(0))
        x = ops.subtract(view, _floats(head.mean[None]))
        if len(head.context):
            coarse = ops.matmul(_floats(head.pooling[None]), view, False, False)
            whole = ops.reshape(coarse, _ints(1, len(head.context_mean)), False)
            whole = ops.subtract(whole, _floats(head.context_mean[None]))
            t = ops.matmul(whole, _floats(head.context), False, True)
            flat = head.coefficients.reshape(positions * d, -1)
            predicted = ops.matmul(t, _floats(flat), False, True)
            x = ops.subtract(x, ops.reshape(predicted, _ints(1, positions, d), False))
        rows.append(_lengths(x, head.whitening))
    return ops.sqrt(ops.concat(rows, 0))


def _lengths(x: Any, whitening: NDArray[np.float32]) -> Any:
    """|W_p x_p|^2, [1, P], of x [1, P, d] for W [P, k, d].

    Positions are groups of a convolution of one pixel, which reads W faster than a product of P
    matrices with a vector each does, also where that leaves out blocks of zeros: 4.4 instead of 5.6 ms
    for 24 tiles of 196 positions with 48 features.
    """
    positions, k, d = whitening.shape
    pixel = ops.reshape(x, _ints(1, positions * d, 1, 1), False)
    weights = _floats(whitening.reshape(positions, k, d, 1, 1))
    y = ops.group_convolution(pixel, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    y = ops.reshape(y, _ints(1, positions, k), False)
    return ops.reduce_sum(ops.multiply(y, y), _ints(2), False)


def _floats(values: NDArray[Any]) -> Any:
    return ops.constant(np.ascontiguousarray(values, np.float32))


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))
