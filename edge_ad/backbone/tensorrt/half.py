"""Half precision written into the graph, so that a strongly typed engine has no choice of its own."""

from __future__ import annotations

import importlib
from typing import Any

from edge_ad.backbone.tensorrt.graph import consumers, infer_anew, libraries, producers

# Sums over a whole map, of up to 36,100 values: their rounding would go into the features as it is.
REDUCTIONS = ("ReduceMean", "GlobalAveragePool")
_COMPUTE = {"Conv", "MatMul", "Gemm"}
_JOINS = {"Concat", "Flatten", "Reshape", "Squeeze"}


def to_half(model: Any) -> Any:
    """A prepared graph with float16 convolutions and activations.

    In float32 stay: the picture's normalisation, every reduction over a map, what joins the pooled
    features, and a projection of `local` to fewer features. Outputs are float32.
    """
    onnx, _ = libraries()
    library = importlib.import_module("onnxruntime.transformers.float16")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = normalisation(copy.graph) | _joins(copy.graph) | {"local:narrow"}
    copy = library.convert_float_to_float16(
        copy,
        keep_io_types=True,
        op_block_list=[*library.DEFAULT_OP_BLOCK_LIST, *REDUCTIONS],
        node_block_list=sorted(kept),
    )
    _merge_casts(onnx, copy.graph)
    sort_nodes(copy)
    return infer_anew(onnx, copy)


def normalisation(graph: Any) -> set[str]:
    """Names of the nodes between the picture and the first convolution."""
    reached, names = {graph.input[0].name}, set()
    for node in graph.node:
        if node.op_type not in _COMPUTE and reached.intersection(node.input):
            names.add(node.name)
            reached.update(node.output)
    return names


def sort_nodes(model: Any) -> None:
    """Put the nodes into the order in which they can be computed, as the standard demands."""
    importlib.import_module("onnxruntime.quantization.onnx_model").ONNXModel(model).topological_sort()


def _joins(graph: Any) -> set[str]:
    """Names of the nodes that put reductions together and compute nothing."""
    constants = {tensor.name for tensor in graph.initializer}
    reduced: set[str] = set()
    names = set()
    for node in graph.node:
        if node.op_type in REDUCTIONS:
            reduced.update(node.output)
        elif node.op_type in _JOINS and reduced.issuperset(set(node.input) - constants):
            names.add(node.name)
            reduced.update(node.output)
    return names


def _merge_casts(onnx: Any, graph: Any) -> None:
    """Take away every way from float32 to float16 and straight back, which the converter leaves between
    two nodes that it was told to leave alone: it rounds, and that is all it does."""
    made = producers(graph)
    float32, float16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    outputs = {output.name for output in graph.output}
    for back in [node for node in graph.node if _casts_to(node, float32)]:
        there = made.get(back.input[0])
        if there is None or not _casts_to(there, float16):
            continue
        source, target = there.input[0], back.output[0]
        if target in outputs:  # its name must stay: what makes the source makes the output itself
            source, target = target, source
            maker = made[target]
            maker.output[:] = [source if name == target else name for name in maker.output]
        for reader in consumers(graph).get(target, []):
            reader.input[:] = [source if name == target else name for name in reader.input]
        graph.node.remove(back)
        made = producers(graph)
    read = consumers(graph)
    for cast in [node for node in graph.node if node.op_type == "Cast"]:
        if cast.output[0] not in read and cast.output[0] not in outputs:
            graph.node.remove(cast)


def _casts_to(node: Any, kind: int) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == kind for a in node.attribute)
