"""Eight-bit convolutions written into the graph as Q/DQ pairs, with ranges from pictures of the line."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.tensorrt.graph import infer_anew, keep_standard, libraries, producers
from edge_ad.backbone.tensorrt.half import REDUCTIONS, normalisation
from edge_ad.errors import CheckFailed

FEWEST_FRAMES = 8  # below, one unlucky picture sets the ranges


_FORM = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,  # a bare DQ on stored bytes is a form that 10.3 may not fuse
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": ["Conv"],
    "DedicatedQDQPair": True,
}


def to_int8(model: Any, frames: Iterable[NDArray[np.uint8]]) -> Any:
    """A prepared graph whose convolutions take Q/DQ inputs and weights; all else stays float32.

    `frames` are network inputs [batch, H, W, 3], FEWEST_FRAMES pictures or more in all. The form is
    that of TensorRT's explicit quantisation: symmetric, zero points 0, weights per channel, biases as
    they are. Left out are the first convolution, which all errors would pass through, the
    squeeze-and-excite branches, whose values are few and matter, and the projection of `local`.
    Raises CheckFailed for too few frames.
    """
    onnx, _ = libraries()
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    frames = list(frames)
    pictures = sum(len(frame) for frame in frames)
    if pictures < FEWEST_FRAMES:
        raise CheckFailed(
            f"--frames: {pictures} pictures for int8's ranges, {FEWEST_FRAMES} are needed; give more of "
            "good parts"
        )
    chosen = quantised(model.graph)
    reader = _reader(model.graph.input[0].name, frames)
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary) / "float.onnx", Path(temporary) / "int8.onnx"
        onnx.save(model, source)
        with _quiet():
            quantize_static(
                str(source),
                str(target),
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=sorted(chosen),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=_FORM,
            )
        found = onnx.load(target)
    _leave_others(found.graph, chosen)
    keep_standard(found)
    return infer_anew(onnx, found)


def quantised(graph: Any) -> set[str]:
    """Names of the convolutions that are quantised: those on maps but the first, with a bias of their
    own (the exporter folds every batch norm into one; only projections are without)."""
    ahead = normalisation(graph)
    picture = {name for node in graph.node if node.name in ahead for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    pooled: set[str] = set()
    names = set()
    for node in graph.node:
        moving = set(node.input) - constants
        if node.op_type in REDUCTIONS or (moving and pooled.issuperset(moving)):
            pooled.update(node.output)
        elif node.op_type == "Conv" and len(node.input) > 2 and node.input[0] not in picture:
            names.add(node.name)
    return names


def _leave_others(graph: Any, chosen: set[str]) -> None:
    """Let every other node read its tensors as they were: the library gives all readers of a quantised
    tensor the rounded one, reductions and sums as well."""
    made = producers(graph)
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        if node.name in chosen or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for i, name in enumerate(node.input):
            if name in made and made[name].op_type == "DequantizeLinear":
                node.input[i] = made[made[name].input[0]].input[0]
    for kind in ("DequantizeLinear", "QuantizeLinear"):  # those that nobody reads any more
        read = {name for node in graph.node for name in node.input} | outputs
        for node in [node for node in graph.node if node.op_type == kind]:
            if node.output[0] not in read:
                graph.node.remove(node)


@contextmanager
def _quiet() -> Iterator[None]:
    """The library warns, at the root, that a graph be prepared first, which this one has been."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _reader(name: str, frames: Iterable[NDArray[np.uint8]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(frames)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            frame = next(self.left, None)
            return None if frame is None else {name: frame}

    return Reader()
