"""Graphs as TensorRT gets them, beside the exported ones: the same features, in the stated types."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import NETWORKS, GetBackbone, GetConverted, pictures
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone, load_backbone
from edge_ad.backbone.tensorrt.compare import feature_errors, made_up_frames
from edge_ad.backbone.tensorrt.graph import prepare
from edge_ad.backbone.tensorrt.half import REDUCTIONS, to_half
from edge_ad.backbone.tensorrt.make import Request, convert
from edge_ad.backbone.tensorrt.quantize import to_int8
from edge_ad.errors import ArtifactError, CheckFailed, ConfigError

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return write_tiny_backbone(tmp_path_factory.mktemp("tiny"))


def _run(model: Any, image: NDArray[np.uint8]) -> dict[str, Floats]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def _openvino(backbone: Backbone, image: NDArray[np.uint8], dim: int) -> tuple[Floats, Floats]:
    engine = open_features(backbone, batch=len(image), local=True, dim=dim)
    engine.input[:] = image
    pooled = engine.infer().copy()
    assert engine.local is not None
    return pooled, engine.local.copy()


def _types(model: Any) -> dict[str, int]:
    """The element type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _casts(graph: Any, kind: int) -> list[Any]:
    return [n for n in graph.node if n.op_type == "Cast" and n.attribute[0].i == kind]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_prepared_graph_gives_openvinos_features(get_backbone: GetBackbone, name: str) -> None:
    """Batch 2 where it was exported with 1, and fewer features per position by the same projection."""
    backbone = get_backbone(name)
    (image,) = pictures(backbone, 2, count=1)
    model = prepare(backbone, 2, 48)
    pooled, local = _openvino(backbone, image, 48)
    ours = _run(model, image)
    assert ours["local"].shape == local.shape
    assert local.shape[2] == 48
    np.testing.assert_allclose(ours["pooled"], pooled, atol=1e-4 * np.abs(pooled).max())
    np.testing.assert_allclose(ours["local"], local, atol=1e-4 * np.abs(local).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_prepared_graph_is_fixed_and_casts_first(get_backbone: GetBackbone, name: str) -> None:
    graph = prepare(get_backbone(name), 2, 0).graph
    assert [output.name for output in graph.output] == ["pooled"]
    readers = [node for node in graph.node if "image" in node.input]
    assert [node.op_type for node in readers] == ["Cast"]
    computed = {node.op_type for node in graph.node}
    assert not computed & {"Shape", "Constant", "ConstantOfShape", "Identity", "Pad", "Slice", "If"}
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}


def test_preparing_twice_gives_the_same_bytes(get_backbone: GetBackbone) -> None:
    """An engine's key has their sha256."""
    request = Request(get_backbone("mobilenetv2_100"), "f16", 1, 48)
    assert convert(request).onnx == convert(request).onnx


def test_all_features_per_position_stay_unprojected(tiny: Backbone) -> None:
    (image,) = pictures(tiny, 1, count=1)
    _, local = _openvino(tiny, image, 0)
    model = prepare(tiny, 1, 10)
    assert "MatMul" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(_run(model, image)["local"], local, atol=1e-5 * np.abs(local).max())


def test_features_that_the_backbone_does_not_have_are_refused(tiny: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 10 features per position, asked for 11; .*--local 11"):
        prepare(tiny, 1, 11)
    bare = write_tiny_backbone(tmp_path, local=False)
    with pytest.raises(ConfigError, match=r"has 0 features .*--local-dim none"):
        prepare(bare, 1, 4)


@pytest.mark.parametrize("data", [b"\x08\x09garbage", b""])
def test_a_graph_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    other = write_tiny_backbone(tmp_path / "damaged")
    other.onnx_path.write_bytes(data)
    with pytest.raises(
        ArtifactError, match=r"cannot be prepared: .*export the backbone again"
    ) as caught:
        prepare(other, 1, 0)
    assert "\n" not in str(caught.value)


def test_a_graph_of_another_width_is_refused(tiny: Backbone, tmp_path: Path) -> None:
    other = write_tiny_backbone(tmp_path / "wide", widths=(8, 12, 16, 25))
    (tmp_path / "wide" / "backbone.json").write_bytes((tiny.directory / "backbone.json").read_bytes())
    with pytest.raises(ArtifactError, match=r"'pooled': \[1, 61\].*says .*'pooled': \[1, 60\]"):
        prepare(load_backbone(other.directory, verify=False), 1, 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_costs_little(get_converted: GetConverted, name: str) -> None:
    errors = get_converted(name, "f16").errors
    assert errors.keys() > {"local"}
    # Half has 11 bits: 5e-4 for a number, some of which add up over the layers.
    assert 1e-5 < max(errors.values()) < 6e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_half_leaves_the_stated_parts_in_float32(get_converted: GetConverted, name: str) -> None:
    model = onnx.load_from_string(get_converted(name, "f16").onnx)
    graph, types = model.graph, _types(model)
    made = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "Conv":
            assert {types[one] for one in [*node.input, *node.output]} == {TensorProto.FLOAT16}
        if node.op_type in (*REDUCTIONS, "Sub", "MatMul"):
            assert types[node.output[0]] == TensorProto.FLOAT, node.name
    joined = ["pooled"]
    while joined:  # from the output back to the reductions nothing rounds
        node = made[joined.pop()]
        assert node.op_type in (*REDUCTIONS, "Concat", "Flatten"), node.op_type
        if node.op_type not in REDUCTIONS:
            joined += node.input
    assert types["pooled"] == types["local"] == TensorProto.FLOAT
    assert types["image"] == TensorProto.UINT8


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_rounded_to_half_and_straight_back(get_converted: GetConverted, name: str) -> None:
    graph = onnx.load_from_string(get_converted(name, "f16").onnx).graph
    halves = {node.output[0] for node in _casts(graph, TensorProto.FLOAT16)}
    assert not [node.name for node in _casts(graph, TensorProto.FLOAT) if node.input[0] in halves]
    read = {one for node in graph.node for one in node.input} | {o.name for o in graph.output}
    assert not [node.name for node in graph.node if not read & set(node.output)]


def test_reductions_in_float32_are_worth_it(get_backbone: GetBackbone) -> None:
    """The largest map's mean, of 12,544 values, beside one that is rounded before the sum is."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    backbone = get_backbone("mobilenetv2_100")
    frames = pictures(backbone, 1, count=2)
    model = prepare(backbone, 1, 0)
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    plain = convert_float_to_float16(plain, keep_io_types=True)
    ours = feature_errors(model, to_half(model), backbone, frames)
    theirs = feature_errors(model, plain, backbone, frames)
    assert ours["level1"] < 0.7 * theirs["level1"]


@pytest.mark.parametrize("name", NETWORKS)
def test_int8_has_the_form_of_explicit_quantisation(get_converted: GetConverted, name: str) -> None:
    """Every quantised convolution reads pairs with zero points 0: per channel for its weights, per
    tensor for its map, with scales in float32, and a bias that is left alone."""
    graph = onnx.load_from_string(get_converted(name, "int8").onnx).graph
    made = {output: node for node in graph.node for output in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    quantised = 0
    for node in graph.node:
        if node.op_type != "Conv" or made.get(node.input[0], node).op_type != "DequantizeLinear":
            continue
        quantised += 1
        channels = constants[made[made[node.input[1]].input[0]].input[0]].shape[0]
        for place, size in ((0, 1), (1, channels)):
            back = made[node.input[place]]
            there = made[back.input[0]]
            assert (there.op_type, back.op_type) == ("QuantizeLinear", "DequantizeLinear")
            for pair in (there, back):
                scale, zero = constants[pair.input[1]], constants[pair.input[2]]
                assert (scale.size, scale.dtype) == (size, np.float32)
                assert zero.dtype == np.int8
                assert not zero.any()
        assert constants[node.input[2]].dtype == np.float32
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    # B4's squeeze-and-excite branches and the projections of `local` are not quantised.
    assert 0.55 * len(convolutions) < quantised < len(convolutions)


@pytest.mark.parametrize("name", NETWORKS)
def test_int8_is_rougher_than_half_but_no_other_network(get_converted: GetConverted, name: str) -> None:
    half, eight = get_converted(name, "f16").errors, get_converted(name, "int8").errors
    assert half.keys() == eight.keys()
    assert 2 * max(half.values()) < max(eight.values()) < 0.3


def test_int8_needs_pictures(tiny: Backbone) -> None:
    with pytest.raises(ConfigError, match=r"--precision int8: .*--frames"):
        convert(Request(tiny, "int8", 1, 0))
    with pytest.raises(CheckFailed, match="7 pictures for int8's ranges, 8 are needed"):
        to_int8(prepare(tiny, 1, 0), pictures(tiny, 1, count=7))


def test_features_that_overflow_in_half_are_refused(tmp_path: Path) -> None:
    """Weights of the first convolution so large that its map passes 65,504."""
    backbone = write_tiny_backbone(tmp_path, local=False)
    model = onnx.load(backbone.onnx_path)
    for tensor in model.graph.initializer:
        if tensor.name == "w0":
            tensor.CopyFrom(numpy_helper.from_array(3e4 * numpy_helper.to_array(tensor), "w0"))
    onnx.save(model, backbone.onnx_path)
    loaded = load_backbone(tmp_path, verify=False)
    assert convert(Request(loaded, "f32", 1, 0)).errors == {}
    with pytest.raises(ArtifactError, match=r"level1 is not finite in f16.*--precision f32"):
        convert(Request(loaded, "f16", 1, 0))


def test_errors_are_shares_of_a_levels_largest_feature(tiny: Backbone) -> None:
    model = prepare(tiny, 1, 0)
    frames = made_up_frames((1, tiny.height, tiny.width, 3))
    assert set(feature_errors(model, model, tiny, frames).values()) == {0.0}
    scaled = onnx.ModelProto()
    scaled.CopyFrom(model)
    for tensor in scaled.graph.initializer:
        if tensor.name in ("w3", "b3"):  # the last level: ReLU commutes with a factor above 0
            value = np.float32(1.25) * numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    errors = feature_errors(model, scaled, tiny, frames)
    assert errors["level4"] == pytest.approx(0.25, rel=1e-4)
    assert errors["level3"] == 0.0


def test_converting_imports_no_torch(tiny: Backbone) -> None:
    import subprocess

    # The last onnxruntime for Python 3.10 imports torch itself, unless it is not there.
    without = "sys.modules['torch'] = None;" if sys.version_info < (3, 11) else ""
    code = (
        f"import sys; {without}"
        "from edge_ad.backbone.spec import load_backbone;"
        "from edge_ad.backbone.tensorrt.make import Request, convert;"
        f"convert(Request(load_backbone({str(tiny.directory)!r}), 'f16', 1, 4));"
        "heavy = ('torch', 'timm', 'scipy', 'sklearn', 'openvino');"
        "print([name for name in heavy if sys.modules.get(name)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
