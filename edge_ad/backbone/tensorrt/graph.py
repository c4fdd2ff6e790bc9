"""The backbone's ONNX as TensorRT takes it, in float32: batch fixed, shapes folded, `local` narrowed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edge_ad.backbone.grid import NARROW_SEED, projection
from edge_ad.backbone.spec import Backbone
from edge_ad.errors import ArtifactError, ConfigError

EXTRA = "building needs {name}, which is not installed; pip install 'edge_ad[build]'"
# What may stand between the picture and its cast to float: it moves pixels, and computes nothing.
_MOVES = {"Transpose", "Gather", "Reshape", "Slice", "Squeeze", "Unsqueeze", "Identity"}


def prepare(backbone: Backbone, batch: int, local_dim: int) -> Any:
    """The graph as an onnx.ModelProto: uint8 `image` [batch, H, W, 3] to float32 `pooled` [batch, D]
    and, where `local_dim` is not 0, `local` [batch, P, local_dim].

    Fewer features than the backbone has are the same projection as OpenVINO's engine gives.
    Raises ConfigError for a `local_dim` that the backbone does not have or without onnx and onnxruntime,
    ArtifactError for a graph that cannot be read or is not what backbone.json says.
    """
    onnx, _ = libraries()
    model = _load(onnx, backbone)
    _name_nodes(model.graph)
    _choose_local(onnx, model.graph, backbone, local_dim)
    _fix(model.graph.input[0], [batch, backbone.height, backbone.width, 3])
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")  # as exported; inferred anew
    model = _fold(model, backbone)
    _cast_first(onnx, model.graph)
    return _finish(onnx, model, backbone, batch, local_dim)


def libraries() -> tuple[Any, Any]:
    """onnx and onnxruntime. Raises ConfigError naming the extra when one is missing."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError(EXTRA.format(name=error.name)) from error
    return onnx, onnxruntime


def producers(graph: Any) -> dict[str, Any]:
    """The node that makes each tensor."""
    return {output: node for node in graph.node for output in node.output}


def consumers(graph: Any) -> dict[str, list[Any]]:
    """The nodes that read each tensor."""
    found: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def keep_standard(model: Any) -> None:
    """Import the standard operators alone; ONNX Runtime adds its own, used or not."""
    standard = [opset for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(standard)


def infer_anew(onnx: Any, model: Any) -> Any:
    """The graph with all types and shapes inferred again, checked. Raises onnx's InferenceError or
    ValidationError."""
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model)
    return model


def _load(onnx: Any, backbone: Backbone) -> Any:
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(backbone.onnx_path)
    except (OSError, DecodeError) as error:
        raise _unreadable(backbone, error) from error
    if [value.name for value in model.graph.input] != ["image"]:
        raise _unreadable(backbone, ValueError("its only input is not 'image'"))
    return model


def _name_nodes(graph: Any) -> None:
    """Converters name nodes to leave alone, so each needs a name of its own."""
    taken: set[str] = set()
    for i, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}:{i}"
        taken.add(node.name)


def _choose_local(onnx: Any, graph: Any, backbone: Backbone, dim: int) -> None:
    """Drop the output `local`, or project it to `dim` features."""
    local = backbone.local
    if dim and (local is None or dim > local.dim):
        have = 0 if local is None else local.dim
        raise ConfigError(
            f"{backbone.directory}: {backbone.name} has {have} features per position, asked for {dim}; "
            f"give --local-dim {have or 'none'}, or export it again with --local {dim}"
        )
    places = [i for i, output in enumerate(graph.output) if output.name == "local"]
    if local is None or not places:
        return
    if not dim:
        del graph.output[places[0]]
        return
    if dim == local.dim:
        return
    whole = "local:whole"
    for node in graph.node:
        node.output[:] = [whole if name == "local" else name for name in node.output]
        node.input[:] = [whole if name == "local" else name for name in node.input]
    matrix = projection(local.dim, dim, NARROW_SEED)
    graph.initializer.append(onnx.numpy_helper.from_array(matrix, "local:narrowing"))
    graph.node.append(
        onnx.helper.make_node("MatMul", [whole, "local:narrowing"], ["local"], name="local:narrow")
    )


def _fix(value: Any, shape: list[int]) -> None:
    value.type.tensor_type.shape.ClearField("dim")
    for side in shape:
        value.type.tensor_type.shape.dim.add().dim_value = side


def _fold(model: Any, backbone: Backbone) -> Any:
    """Constants and shapes folded by ONNX Runtime, whose basic rewrites keep to standard operators. The
    padding of "same" convolutions is computed from shapes otherwise, node by node."""
    onnx, runtime = libraries()
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "folded.onnx"
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 3
        try:
            runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            folded = onnx.load(target)
        except _runtime_errors() as error:
            raise _unreadable(backbone, error) from error
    keep_standard(folded)
    return folded


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its own errors derive from Exception alone."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "Fail",
        "NotImplemented",
        "NoSuchFile",
    )
    own = (getattr(state, name) for name in names if hasattr(state, name))
    return (RuntimeError, ValueError, *own)


def _cast_first(onnx: Any, graph: Any) -> None:
    """Cast the picture to float before it is transposed: of uint8 TensorRT takes a cast and no more.
    Moving pixels and casting them commute exactly."""
    readers, chain, name = consumers(graph), [], graph.input[0].name
    while len(readers.get(name, ())) == 1 and readers[name][0].op_type in _MOVES:
        chain.append(readers[name][0])
        name = chain[-1].output[0]
    casts = readers.get(name, [])
    if not chain or len(casts) != 1 or casts[0].op_type != "Cast":
        return
    (cast,) = casts
    after = cast.output[0]
    for reader in readers.get(after, []):
        reader.input[:] = [name if one == after else one for one in reader.input]
    chain[0].input[0] = after
    cast.input[0] = graph.input[0].name
    place = list(graph.node).index(cast)
    moved = onnx.NodeProto()
    moved.CopyFrom(cast)
    del graph.node[place]
    graph.node.insert(0, moved)


def _finish(onnx: Any, model: Any, backbone: Backbone, batch: int, local_dim: int) -> Any:
    """Infer every type and shape anew, and compare the outputs with what was asked for."""
    try:
        model = infer_anew(onnx, model)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise _unreadable(backbone, error) from error
    wanted = {"pooled": [batch, backbone.dim]}
    if local_dim and backbone.local is not None:
        wanted["local"] = [batch, backbone.local.positions, local_dim]
    found = {
        output.name: [dim.dim_value for dim in output.type.tensor_type.shape.dim]
        for output in model.graph.output
    }
    if found != wanted:
        raise ArtifactError(
            f"{backbone.onnx_path}: at batch {batch} its outputs are {found}, backbone.json says "
            f"{wanted}; export the backbone again"
        )
    return model


def _unreadable(backbone: Backbone, error: BaseException) -> ArtifactError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ArtifactError(
        f"{backbone.onnx_path}: the graph cannot be prepared: {lines[0]}; export the backbone again"
    )
