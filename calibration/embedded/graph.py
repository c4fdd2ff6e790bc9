"""The student's trunk as an ONNX graph with the project's contract.

The graph is built node by node, so that equal weights give equal bytes. It is fully convolutional and
holds no batch size but the input's own. Every level is a tensor with the level's name, so that another
input size or the output `local` can be made from the shipped graph itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_ad.backbone.grid import projection

OPSET = 17
IR_VERSION = 8  # the lowest that holds opset 17: older runtimes read it too


class Graph:
    """Nodes and initializers in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(self, layer: Any, x: str, name: str, weight: np.ndarray | None = None) -> str:
        """A ConvNorm with its batch normalisation folded in; `weight` replaces the folded one."""
        folded, bias = (t.detach().cpu().numpy() for t in layer.folded())
        inputs = [
            x,
            self.constant(f"{name}.weight", folded if weight is None else weight),
            self.constant(f"{name}.bias", bias),
        ]
        near, far = layer.pad
        out = self.node(
            "Conv",
            inputs,
            f"{name}.conv" if layer.relu else name,
            kernel_shape=list(layer.conv.kernel_size),
            strides=list(layer.conv.stride),
            group=layer.conv.groups,
            pads=[near, near, far, far],
        )
        return self.node("Relu", [out], name) if layer.relu else out


def stem_weight(layer: Any) -> np.ndarray:
    """The stem's weight for BGR input minus 127.5: colour order and scale cost nothing at run time."""
    weight: np.ndarray = layer.folded()[0].detach().cpu().numpy()
    return np.ascontiguousarray(weight[:, ::-1] / np.float32(127.5))


def build(student: Any, height: int, width: int) -> onnx.ModelProto:
    """The trunk with input `image` uint8 [1, height, width, 3] BGR and output `pooled` [1, D]."""
    graph = Graph()
    x = graph.node("Cast", ["image"], "image.float", to=TensorProto.FLOAT)
    x = graph.node("Transpose", [x], "image.nchw", perm=[0, 3, 1, 2])
    centre = graph.constant("image.centre", np.float32([127.5]))
    x = graph.node("Sub", [x, centre], "image.centred")
    names = []
    for level, entry, blocks in zip(
        student.architecture.levels, student.entries, student.blocks, strict=True
    ):
        layers = {"dense": [entry], "none": []}.get(level.entry, entry)
        for i, layer in enumerate(layers):
            last = i + 1 == len(layers) and not len(blocks)
            name = level.name if last else f"{level.name}.entry{i}"
            x = graph.conv(layer, x, name, None if names else stem_weight(layer))
        for i, block in enumerate(blocks):
            base = f"{level.name}.block{i}"
            y = graph.conv(block.spatial, x, f"{base}.spatial")
            y = graph.conv(block.up, y, f"{base}.up")
            y = graph.conv(block.down, y, f"{base}.down")
            last = i + 1 == len(blocks)
            x = graph.node("Add", [x, y], level.name if last else base)
        names.append(x)
    means = [graph.node("GlobalAveragePool", [n], f"{n}.mean") for n in names]
    joined = graph.node("Concat", means, "pooled.nchw", axis=1)
    graph.node("Flatten", [joined], "pooled", axis=1)
    dim = sum(level.width for level in student.architecture.levels)
    return finish(graph, height, width, [("pooled", [1, dim])])


def finish(
    graph: Graph, height: int, width: int, outputs: list[tuple[str, list[int]]]
) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs]
    proto = helper.make_graph(graph.nodes, "edge_ad_embedded", [image], infos, graph.constants)
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="edge_ad",
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def resized(model: onnx.ModelProto, height: int, width: int) -> onnx.ModelProto:
    """The same graph for another input size, without what `pooled` does not need."""
    graph, needed = Graph(), {"pooled"}
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            graph.nodes.insert(0, node)
    graph.constants = [constant for constant in model.graph.initializer if constant.name in needed]
    dim = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return finish(graph, height, width, [("pooled", [1, dim])])


def with_local(
    model: onnx.ModelProto, levels: list[dict[str, Any]], stride: int, dim: int, seed: int
) -> onnx.ModelProto:
    """Add the output `local` [1, P, dim]: `levels` on the grid of `stride`.

    Finer levels are averaged over the cell, coarser ones enlarged bilinearly. More channels than `dim`
    are projected by a matrix with orthonormal columns; all of this is linear, so each level is projected
    on the smaller of both grids and the results are added.
    """
    _, height, width, _ = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    graph = Graph()
    graph.nodes = list(model.graph.node)
    graph.constants = list(model.graph.initializer)
    channels = sum(level["dim"] for level in levels)
    matrix = projection(channels, dim, seed) if channels > dim else None
    parts, start = [], 0
    for level in levels:
        name = part = level["tensor"]
        if level["stride"] < stride:
            side = [stride // level["stride"]] * 2
            part = graph.node("AveragePool", [part], f"{name}.averaged", kernel_shape=side, strides=side)
        if matrix is not None:
            rows = matrix[start : start + level["dim"]].T[:, :, None, None]
            start += level["dim"]
            weight = graph.constant(f"{name}.project", np.ascontiguousarray(rows))
            part = graph.node("Conv", [part, weight], f"{name}.projected", kernel_shape=[1, 1])
        if level["stride"] > stride:
            scale = level["stride"] / stride
            factors = graph.constant(f"{name}.scale", np.float32([1, 1, scale, scale]))
            # half-pixel centres: the default
            part = graph.node("Resize", [part, "", factors], f"{name}.resized", mode="linear")
        parts.append(part)
    if matrix is None:
        grid = graph.node("Concat", parts, "local.grid", axis=1)
    else:
        grid = graph.node("Sum", parts, "local.grid") if len(parts) > 1 else parts[0]
    last = graph.node("Transpose", [grid], "local.nhwc", perm=[0, 2, 3, 1])
    width_of = min(dim, channels)
    shape = graph.constant("local.shape", np.int64([0, -1, width_of]))
    graph.node("Reshape", [last, shape], "local")
    pooled = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    cells = (height // stride) * (width // stride)
    return finish(graph, height, width, [("pooled", [1, pooled]), ("local", [1, cells, width_of])])
