"""The CPU engine: OpenVINO with the precision pinned and the Gaussians' whitening in the graph."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from edge_ad.backbone.engine import EngineIdentity, Head
from edge_ad.backbone.spec import Backbone
from edge_ad.errors import ArtifactError, ConfigError, DeviceError

PRECISIONS = {"f32": ov.Type.f32, "f16": ov.Type.f16, "bf16": ov.Type.bf16}
# Measured with MobileNetV2 and EfficientNet-B4 on two cores; see _distances.
SMALL = 192  # features of a level that is whitened together with its neighbours
BLOCK = 320  # rows of a block of a triangular whitening factor


class OpenVinoEngine:
    """A compiled graph whose input and output are bound to arrays: `infer()` allocates nothing.

    Owned and used by one thread at a time.
    """

    def __init__(
        self, model: ov.Model, backbone: Backbone, batch: int, threads: int, precision: str
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"engine.precision: {precision!r} is unknown; have {sorted(PRECISIONS)}")
        core = ov.Core()
        try:
            compiled = core.compile_model(model, "CPU", _properties(threads, precision))
            request = compiled.create_infer_request()
        except RuntimeError as error:
            raise DeviceError(
                f"{backbone.onnx_path}: OpenVINO {ov.get_version()} cannot compile it for the CPU: "
                f"{_first_line(error)}; export the backbone again"
            ) from error
        self.identity = EngineIdentity(
            kind="openvino",
            runtime=ov.get_version(),
            device=str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip(),
            precision=precision,
            backbone_sha256=backbone.sha256,
        )
        self.input: NDArray[np.uint8] = np.zeros((batch, backbone.height, backbone.width, 3), np.uint8)
        self._output: NDArray[np.float32] = np.zeros(tuple(compiled.output(0).shape), np.float32)
        request.set_input_tensor(ov.Tensor(self.input, shared_memory=True))
        request.set_output_tensor(ov.Tensor(self._output, shared_memory=True))
        self._request: Any = request

    def infer(self) -> NDArray[np.float32]:
        """Run what `input` holds. The result is the engine's own array, valid until the next call.

        Raises DeviceError when the runtime fails or the engine is closed.
        """
        if self._request is None:
            raise DeviceError("the engine is closed; open another one")
        try:
            self._request.infer()
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO inference failed: {_first_line(error)}") from error
        return self._output

    def close(self) -> None:
        """Release the compiled graph; calling it again does nothing."""
        self._request = None


def open_features(
    backbone: Backbone, batch: int = 1, threads: int = 0, precision: str = "f32"
) -> OpenVinoEngine:
    """The bare backbone: uint8 [batch, H, W, 3] to float32 pooled features [batch, D]."""
    return OpenVinoEngine(_read(backbone, batch), backbone, batch, threads, precision)


def open_scorer(
    backbone: Backbone, heads: Sequence[Sequence[Head]], threads: int = 0, precision: str = "f32"
) -> OpenVinoEngine:
    """The backbone with its Gaussians: uint8 [B, H, W, 3] to float32 distances [B, L].

    `heads[b][l]` is level l of the view in batch row b; every row has the same number of levels.
    """
    batch = len(heads)
    model = _read(backbone, batch)
    pooled = model.output(0).get_node().input_value(0)
    distances = _distances(pooled, heads)
    scored = ov.Model([ops.result(distances)], model.get_parameters(), "scorer")
    return OpenVinoEngine(scored, backbone, batch, threads, precision)


def usable_cores(root: Path = Path("/sys")) -> int:
    """Physical cores that this process may use: affinity, hyper-threads and CPU quota considered."""
    cpus = os.sched_getaffinity(0)
    siblings = set()
    for cpu in cpus:
        topology = root / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        try:
            siblings.add(topology.read_text().strip())
        except OSError:
            siblings.add(str(cpu))
    try:
        quota, period = (root / "fs/cgroup/cpu.max").read_text().split()
        limit = len(siblings) if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError):
        limit = len(siblings)
    return max(1, min(len(siblings), limit))


def _properties(threads: int, precision: str) -> dict[str, Any]:
    """Latency of one frame is what counts; a hint left open would let the CPU choose bf16 by itself."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads or usable_cores(),
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "EXECUTION_MODE_HINT": "ACCURACY",
    }


def _read(backbone: Backbone, batch: int) -> ov.Model:
    """The graph with its batch fixed, its output checked against backbone.json."""
    try:
        model = ov.Core().read_model(backbone.onnx_path)
        model.reshape([batch, backbone.height, backbone.width, 3])
    except RuntimeError as error:
        raise ArtifactError(
            f"{backbone.onnx_path}: OpenVINO {ov.get_version()} cannot read it: {_first_line(error)}; "
            "export the backbone again"
        ) from error
    shape = model.output(0).get_partial_shape()
    if str(shape) != f"[{batch},{backbone.dim}]":
        raise ArtifactError(
            f"{backbone.onnx_path}: pooled has shape {shape}, backbone.json says "
            f"[{batch},{backbone.dim}]; export the backbone again"
        )
    return model


def _distances(pooled: Any, heads: Sequence[Sequence[Head]]) -> Any:
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


def _floats(values: NDArray[Any]) -> Any:
    return ops.constant(np.ascontiguousarray(values, np.float32))


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Check" not in line), lines[0] if lines else "")
