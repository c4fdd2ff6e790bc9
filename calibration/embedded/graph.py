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
    """The same graph for another input size."""
    graph = Graph()
    graph.nodes = list(model.graph.node)
    graph.constants = list(model.graph.initializer)
    outputs = [(o.name, [d.dim_value for d in o.type.tensor_type.shape.dim]) for o in model.graph.output]
    return finish(graph, height, width, outputs[:1])


def with_local(
    model: onnx.ModelProto, levels: list[dict[str, Any]], stride: int, dim: int, seed: int
) -> onnx.ModelProto:
    """Add the output `local` [1, P, dim]: `levels` on the grid of `stride`, projected and summed.

    The projection has orthonormal columns over the concatenated channels; each level is projected on
    its own grid before it is enlarged, which is the same (both are linear) and much cheaper.
    """
    _, height, width, _ = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    graph = Graph()
    graph.nodes = list(model.graph.node)
    graph.constants = list(model.graph.initializer)
    total = sum(level["dim"] for level in levels)
    noise = np.random.default_rng(seed).standard_normal((total, min(dim, total)))
    matrix = np.linalg.qr(noise)[0].astype(np.float32)
    parts, start = [], 0
    for level in levels:
        name, rows = level["tensor"], matrix[start : start + level["dim"]]
        start += level["dim"]
        weight = graph.constant(f"{name}.project", np.ascontiguousarray(rows.T[:, :, None, None]))
        part = graph.node("Conv", [name, weight], f"{name}.projected", kernel_shape=[1, 1])
        scale = level["stride"] / stride
        if scale != 1:
            factors = graph.constant(f"{name}.scale", np.float32([1, 1, scale, scale]))
            part = graph.node(
                "Resize", [part, "", factors], f"{name}.resized", mode="linear"
            )  # half-pixel centres: the default
        parts.append(part)
    grid = graph.node("Sum", parts, "local.grid") if len(parts) > 1 else parts[0]
    shape = graph.constant("local.shape", np.int64([0, matrix.shape[1], -1]))
    flat = graph.node("Reshape", [grid, shape], "local.flat")
    graph.node("Transpose", [flat], "local", perm=[0, 2, 1])
    pooled = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    cells = (height // stride) * (width // stride)
    outputs = [("pooled", [1, pooled]), ("local", [1, cells, matrix.shape[1]])]
    return finish(graph, height, width, outputs)
