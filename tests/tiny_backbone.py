"""A backbone small enough for tests and made without torch: four convolutions with seeded weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_ad.backbone.grid import projection
from edge_ad.backbone.spec import (
    JSON_NAME,
    ONNX_NAME,
    Backbone,
    BackboneSpec,
    Input,
    Level,
    Local,
    Normalisation,
    Outputs,
    Pooled,
    encode_spec,
    file_sha256,
    load_backbone,
)

WIDTHS = (8, 12, 16, 24)
LOCAL = 10  # dimensions of `local`


def write_tiny_backbone(
    directory: Path,
    seed: int = 0,
    size: int = 64,
    widths: tuple[int, ...] = WIDTHS,
    local: bool = True,
    dim: int = LOCAL,
) -> Backbone:
    """Write backbone.onnx and backbone.json: a stride-2 convolution and ReLU per level, averaged.

    `local` is made of levels 3 and 4 (strides 8 and 16), of `dim` dimensions if they have as many.
    """
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["x0"]),
    ]
    constants = {"scale": np.array(1 / 255, np.float32), "axes": np.array([2, 3], np.int64)}
    before = 3
    for i, width in enumerate(widths):
        constants[f"w{i}"] = rng.normal(0, (2 / (9 * before)) ** 0.5, (width, before, 3, 3)).astype(
            np.float32
        )
        constants[f"b{i}"] = rng.normal(0, 0.1, width).astype(np.float32)
        nodes += [
            helper.make_node(
                "Conv", [f"x{i}", f"w{i}", f"b{i}"], [f"c{i}"], strides=[2, 2], pads=[1, 1, 1, 1]
            ),
            helper.make_node("Relu", [f"c{i}"], [f"x{i + 1}"]),
            helper.make_node("ReduceMean", [f"x{i + 1}", "axes"], [f"p{i}"], keepdims=0),
        ]
        before = width
    outputs = [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, sum(widths)])]
    if local:
        channels = widths[2] + widths[3]
        dim = min(dim, channels)
        matrix = projection(channels, dim, 0) if dim < channels else np.eye(dim, dtype=np.float32)
        constants |= {
            "project": matrix.T[:, :, None, None].copy(),
            "shape": np.array([0, -1, dim], np.int64),
        }
        nodes += [
            helper.make_node("AveragePool", ["x3"], ["x3half"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Concat", ["x3half", "x4"], ["joined"], axis=1),
            helper.make_node("Conv", ["joined", "project"], ["projected"]),
            helper.make_node("Transpose", ["projected"], ["positions"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", ["positions", "shape"], ["local"]),
        ]
        shape = [1, (size // 16) ** 2, dim]
        outputs.append(helper.make_tensor_value_info("local", TensorProto.FLOAT, shape))
    nodes.append(helper.make_node("Concat", [f"p{i}" for i in range(len(widths))], ["pooled"], axis=1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, size, size, 3])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ONNX_NAME).write_bytes(model.SerializeToString(deterministic=True))
    (directory / JSON_NAME).write_bytes(
        encode_spec(_spec(directory, seed, size, widths, dim if local else 0))
    )
    return load_backbone(directory)


def _spec(directory: Path, seed: int, size: int, widths: tuple[int, ...], dim: int) -> BackboneSpec:
    levels = tuple(
        Level(f"level{i + 1}", f"x{i + 1}", width, 2 ** (i + 1), sum(widths[:i]))
        for i, width in enumerate(widths)
    )
    side = size // 16
    channels = widths[2] + widths[3]
    grid = Local(
        dim=min(dim, channels),
        rows=side,
        columns=side,
        stride=16,
        levels=("level3", "level4"),
        seed=0 if dim < channels else None,
    )
    return BackboneSpec(
        name="tiny",
        source={"kind": "seed", "seed": seed},
        onnx_sha256=file_sha256(directory / ONNX_NAME),
        opset=18,
        input=Input(height=size, width=size),
        normalisation=Normalisation(color="BGR", scale=1 / 255, mean=(0.0,) * 3, std=(1.0,) * 3),
        outputs=Outputs(Pooled(sum(widths), levels), grid if dim else None),
    )
