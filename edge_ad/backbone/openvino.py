"""The CPU engine: OpenVINO with the precision pinned and the Gaussians' whitening in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from edge_ad.backbone.engine import EngineIdentity, Head, LocalHead
from edge_ad.backbone.grid import narrowing
from edge_ad.backbone.openvino_graph import cells, distances
from edge_ad.backbone.spec import Backbone, check_outputs
from edge_ad.cores import usable_cores
from edge_ad.errors import ArtifactError, ConfigError, DeviceError

PRECISIONS = {"f32": ov.Type.f32, "f16": ov.Type.f16, "bf16": ov.Type.bf16}


class OpenVinoEngine:
    """A compiled graph whose input and outputs are bound to arrays: `infer()` allocates nothing.

    It has one output [B, ...] or more. Owned and used by one thread at a time.
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
        request.set_input_tensor(ov.Tensor(self.input, shared_memory=True))
        self._outputs: list[NDArray[np.float32]] = []
        for i, output in enumerate(compiled.outputs):
            self._outputs.append(np.zeros(tuple(output.shape), np.float32))
            request.set_output_tensor(i, ov.Tensor(self._outputs[i], shared_memory=True))
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
        return self._outputs[0]

    def close(self) -> None:
        """Release the compiled graph; calling it again does nothing."""
        self._request = None


class OpenVinoFeatures(OpenVinoEngine):
    """Pictures to pooled features [B, D], and to `local` features per position where opened with it."""

    @property
    def local(self) -> NDArray[np.float32] | None:
        """Features per position [B, P, d] of the last `infer()`."""
        return self._outputs[1] if len(self._outputs) > 1 else None


class OpenVinoScorer(OpenVinoEngine):
    """Pictures to distances [B, L], and to distances of `cells` where opened with local heads."""

    @property
    def cells(self) -> NDArray[np.float32] | None:
        """Distances per position [B, P] of the last `infer()`."""
        return self._outputs[1] if len(self._outputs) > 1 else None

    @property
    def local(self) -> NDArray[np.float32] | None:
        """Features per position [B, P, d] of the last `infer()`."""
        return self._outputs[2] if len(self._outputs) > 1 else None


def open_features(
    backbone: Backbone,
    batch: int = 1,
    threads: int = 0,
    precision: str = "f32",
    local: bool = False,
    dim: int = 0,
) -> OpenVinoFeatures:
    """The bare backbone: uint8 [batch, H, W, 3] to float32 pooled features [batch, D].

    With `local` also the features per position, `dim` of them where that is fewer than the backbone has
    (0: all); ConfigError when it has none.
    """
    model, pooled, positions = _read(backbone, batch)
    outputs = [pooled, _narrowed(positions, backbone, dim)] if local else [pooled]
    bare = ov.Model([ops.result(output) for output in outputs], model.get_parameters(), "features")
    return OpenVinoFeatures(bare, backbone, batch, threads, precision)


def open_scorer(
    backbone: Backbone,
    heads: Sequence[Sequence[Head]],
    threads: int = 0,
    precision: str = "f32",
    local: Sequence[LocalHead] | None = None,
) -> OpenVinoScorer:
    """The backbone with its Gaussians: uint8 [B, H, W, 3] to float32 distances [B, L].

    `heads[b][l]` is level l of the tile in batch row b; every row has the same number of levels.
    `local[b]` are that row's Gaussians per position, for `cells`, of as many features as the backbone
    has or fewer; ConfigError when it has none.
    """
    batch = len(heads)
    model, pooled, positions = _read(backbone, batch)
    outputs = [distances(pooled, heads)]
    if local is not None:
        dim = local[0].mean.shape[1] if local else 0
        near = _narrowed(positions, backbone, dim)
        outputs += [cells(near, local), near]
    scored = ov.Model([ops.result(output) for output in outputs], model.get_parameters(), "scorer")
    return OpenVinoScorer(scored, backbone, batch, threads, precision)


def _properties(threads: int, precision: str) -> dict[str, Any]:
    """Latency of one frame is what counts; a hint left open would let the CPU choose bf16 by itself."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads or usable_cores(),
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "EXECUTION_MODE_HINT": "ACCURACY",
    }


def _read(backbone: Backbone, batch: int) -> tuple[ov.Model, Any, Any]:
    """The graph with its batch fixed, and what is in its outputs `pooled` and `local` (or None), both
    checked against backbone.json."""
    try:
        model = ov.Core().read_model(backbone.onnx_path)
        model.reshape([batch, backbone.height, backbone.width, 3])
    except RuntimeError as error:
        raise ArtifactError(
            f"{backbone.onnx_path}: OpenVINO {ov.get_version()} cannot read it: {_first_line(error)}; "
            "export the backbone again"
        ) from error
    found = {name: output for output in model.outputs for name in output.get_names()}
    shapes = {name: output.get_partial_shape() for name, output in found.items()}
    check_outputs(backbone, shapes, batch, "OpenVINO")
    local = None if backbone.local is None else found["local"].get_node().input_value(0)
    return model, found["pooled"].get_node().input_value(0), local


def _narrowed(positions: Any, backbone: Backbone, dim: int) -> Any:
    """The graph's features per position, projected to `dim` of them where that is fewer."""
    matrix = narrowing(backbone, dim)
    return positions if matrix is None else ops.matmul(positions, ops.constant(matrix), False, False)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Check" not in line), lines[0] if lines else "")
