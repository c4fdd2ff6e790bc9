"""The PyTorch engine gives what OpenVINO gives, and names what it cannot read."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from device_mixing import mixing
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone import openvino
from edge_ad.backbone.engine import Head, LocalHead
from edge_ad.backbone.spec import JSON_NAME, ONNX_NAME, Backbone, encode_spec, file_sha256, load_backbone
from edge_ad.backbone.torch import open_features, open_scorer
from edge_ad.backbone.torch_graph import TorchGraph, output_shapes
from edge_ad.config import EMBEDDED_BACKBONE
from edge_ad.errors import ArtifactError, ConfigError, DeviceError

Floats = NDArray[np.float32]


@pytest.fixture(scope="module", params=["embedded", "tiny"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    if request.param == "embedded":
        return load_backbone(EMBEDDED_BACKBONE)
    return write_tiny_backbone(tmp_path_factory.mktemp("net"))


def _pictures(batch: int, backbone: Backbone) -> NDArray[np.uint8]:
    shape = (batch, backbone.height, backbone.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(("batch", "dim"), [(1, 0), (3, 5)])
def test_features_are_those_of_openvino(backbone: Backbone, batch: int, dim: int) -> None:
    ours = open_features(backbone, batch, threads=1, local=True, dim=dim)
    theirs = openvino.open_features(backbone, batch, threads=1, local=True, dim=dim)
    ours.input[:] = theirs.input[:] = _pictures(batch, backbone)
    found, expected = ours.infer(), theirs.infer()
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert ours.local is not None
    assert theirs.local is not None
    np.testing.assert_allclose(ours.local, theirs.local, atol=1e-5 * np.abs(theirs.local).max())
    assert (ours.identity.key, ours.identity.runtime) == ("torch-f32", torch.__version__)
    assert ours.identity.backbone_sha256 == backbone.sha256
    alone = open_features(backbone, batch)
    alone.input[:] = ours.input
    assert alone.infer().shape == found.shape
    assert alone.local is None


def _heads(backbone: Backbone, pooled: Floats, rng: np.random.Generator) -> list[list[Head]]:
    return [
        [
            Head(
                level.offset,
                (row[level.offset :][: level.dim] + rng.normal(0, 1e-3, level.dim)).astype(np.float32),
                np.triu(rng.normal(0, 30, (level.dim, level.dim))).astype(np.float32),
            )
            for level in backbone.levels[1:3]
        ]
        for row in pooled
    ]


def _local_heads(local: Floats, rng: np.random.Generator, q: int) -> list[LocalHead]:
    heads = []
    for near in local:
        positions, d = near.shape
        pooling = rng.uniform(0, 1 / positions, (3, positions))
        arrays = (
            pooling,
            (pooling @ near).ravel() + rng.normal(0, 1e-2, 3 * d),
            rng.normal(size=(q, 3 * d)),
            near + rng.normal(0, 1e-3, near.shape),
            rng.normal(0, 1e-2, (positions, d, q)),
            np.triu(rng.normal(0, 30, (positions, d, d))),
        )
        heads.append(LocalHead(*(array.astype(np.float32) for array in arrays)))
    return heads


@pytest.mark.parametrize("q", [0, 7])
def test_distances_are_those_of_openvino(backbone: Backbone, q: int) -> None:
    rng = np.random.default_rng(1)
    features = openvino.open_features(backbone, 2, local=True, dim=6)
    features.input[:] = _pictures(2, backbone)
    pooled = features.infer()
    assert features.local is not None
    heads, local = _heads(backbone, pooled, rng), _local_heads(features.local, rng, q)
    ours = open_scorer(backbone, heads, local=local)
    theirs = openvino.open_scorer(backbone, heads, local=local)
    ours.input[:] = theirs.input[:] = features.input
    np.testing.assert_allclose(ours.infer(), theirs.infer(), rtol=1e-2)
    assert ours.cells is not None
    assert theirs.cells is not None
    np.testing.assert_allclose(ours.cells, theirs.cells, rtol=1e-2)
    assert ours.local is not None
    assert ours.local.shape == features.local.shape


def test_what_is_not_finite_is_not_hidden(backbone: Backbone) -> None:
    mean = np.zeros(4, np.float32)
    mean[2] = np.nan
    head = Head(0, mean, np.eye(4, dtype=np.float32))
    engine = open_scorer(backbone, [[head]])
    assert np.isnan(engine.infer()).all()
    assert engine.cells is None


def test_a_closed_engine_says_so(backbone: Backbone) -> None:
    engine = open_features(backbone)
    engine.close()
    engine.close()
    with pytest.raises(DeviceError, match="closed"):
        engine.infer()


def test_positions_need_a_backbone_that_has_them(tmp_path: Path) -> None:
    bare = write_tiny_backbone(tmp_path, local=False)
    with pytest.raises(ConfigError, match="tiny has no features per position; export it again"):
        open_features(bare, local=True)


def _graph(directory: Path, nodes: list[onnx.NodeProto], constants: dict[str, NDArray]) -> Path:  # type: ignore[type-arg]
    graph = helper.make_graph(
        nodes,
        "made up",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2, 6, 6])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = directory / "made_up.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _node(kind: str, inputs: list[str], **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, ["out"], **attributes)


CASES = {
    "padded on one side": (
        [_node("Conv", ["image", "w"], pads=[0, 1, 2, 0], strides=[2, 1], group=2)],
        {"w": np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3)},
    ),
    "pool": ([_node("MaxPool", ["image"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])], {}),
    "average, last cell beyond": (
        [_node("AveragePool", ["image"], kernel_shape=[4, 4], strides=[4, 4], ceil_mode=1)],
        {},
    ),
    "mean by attribute": ([_node("ReduceMean", ["image"], axes=[2, 3], keepdims=0)], {}),
    "pad": (
        [_node("Pad", ["image", "p", "v"])],
        {"p": np.array([0, 0, 1, 2, 0, 0, 0, 3], np.int64), "v": np.array(7, np.float32)},
    ),
    "slice": (
        [_node("Slice", ["image", "s", "e", "a"])],
        {
            "s": np.array([1, -3], np.int64),
            "e": np.array([5, 1 << 40], np.int64),
            "a": np.array([2, 3], np.int64),
        },
    ),
    "enlarged": (
        [_node("Resize", ["image", "", "scales"], mode="linear")],
        {"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "enlarged to a size": (
        [_node("Resize", ["image", "", "", "sizes"], mode="linear")],
        {"sizes": np.array([1, 2, 9, 12], np.int64)},
    ),
    "planes in another order": (
        [_node("Gather", ["image", "order"], axis=1)],
        {"order": np.array([1, 0, 1], np.int64)},
    ),
    "one plane": ([_node("Gather", ["image", "one"], axis=1)], {"one": np.array(1, np.int64)}),
    "scaled plane by plane": (
        [
            helper.make_node("Sub", ["image", "mean"], ["centred"]),
            helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
            _node("Add", ["scaled", "mean"]),
        ],
        {"mean": np.full((1, 2, 1, 1), 3, np.float32), "scale": np.array(0.5, np.float32)},
    ),
    "clip from below": ([_node("Clip", ["image", "low"])], {"low": np.array(100, np.float32)}),
    "normalised": (
        [_node("InstanceNormalization", ["image", "s", "b"])],
        {"s": np.array([1, 2], np.float32), "b": np.array([0, 3], np.float32)},
    ),
    "batch normalised": (
        [_node("BatchNormalization", ["image", "s", "b", "m", "v"], epsilon=0.1)],
        {
            "s": np.array([1, 2], np.float32),
            "b": np.array([0, 3], np.float32),
            "m": np.array([5, -70], np.float32),
            "v": np.array([1, 4], np.float32),
        },
    ),
    "hard": ([_node("HardSigmoid", ["image"], alpha=0.01, beta=0.1)], {}),
    "reshaped by its own shape": (
        [
            helper.make_node("Shape", ["image"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["rows"], axis=0),
            helper.make_node("Concat", ["rows", "rest"], ["both"], axis=0),
            _node("Reshape", ["image", "both"]),
        ],
        {"first": np.array([0], np.int64), "rest": np.array([-1], np.int64)},
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operation_is_the_same_as_openvinos(tmp_path: Path, case: str) -> None:
    path = _graph(tmp_path, *CASES[case])
    image = np.random.default_rng(2).normal(0, 100, (1, 2, 6, 6)).astype(np.float32)
    found = TorchGraph(path, "cpu")(torch.from_numpy(image))["out"].numpy()
    compiled = openvino.ov.Core().compile_model(
        str(path), "CPU", {"INFERENCE_PRECISION_HINT": openvino.ov.Type.f32}
    )
    expected = compiled(image)[0]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operation_copies_nothing_between_devices(tmp_path: Path, case: str) -> None:
    mixed, on_the_device = mixing(_graph(tmp_path, *CASES[case]), (1, 2, 6, 6), torch.float32)
    assert mixed == {}
    assert on_the_device > 0


def test_a_frame_copies_nothing_between_devices(backbone: Backbone) -> None:
    shape = (3, backbone.height, backbone.width, 3)
    mixed, on_the_device = mixing(backbone.onnx_path, shape, torch.uint8)
    assert mixed == {}
    assert on_the_device >= 10


def test_a_constant_that_is_read_and_computed_with_lies_on_both(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Clip", ["image", "one"], ["clipped"]),
        _node("Add", ["clipped", "one"]),
    ]
    path = _graph(tmp_path, nodes, {"one": np.array(1, np.float32)})
    assert mixing(path, (1, 2, 6, 6), torch.float32)[0] == {}
    found = TorchGraph(path, "cpu")(torch.tensor([-3.0, 4.0]))["out"]
    assert found.tolist() == [2.0, 5.0]


def test_shapes_are_known_without_computing(backbone: Backbone) -> None:
    pictures = _pictures(2, backbone)
    outputs = TorchGraph(backbone.onnx_path, "cpu")(torch.from_numpy(pictures))
    expected = {name: tuple(found.shape) for name, found in outputs.items()}
    assert output_shapes(backbone.onnx_path, pictures.shape) == expected
    thousands = output_shapes(backbone.onnx_path, (1 << 20, *pictures.shape[1:]))  # terabytes of maps
    assert thousands["pooled"] == (1 << 20, backbone.dim)


def test_pictures_that_a_graph_does_not_take_are_refused(tmp_path: Path) -> None:
    path = _graph(tmp_path, *CASES["padded on one side"])
    with pytest.raises(ArtifactError, match=r"cannot run it on pictures of \[1, 8, 8, 3\]: .*export"):
        output_shapes(path, (1, 8, 8, 3))


@pytest.mark.parametrize(
    ("node", "match"),
    [
        (_node("Erf", ["image"]), "does not know the operation 'Erf'"),
        (_node("Cast", ["image"], to=TensorProto.FLOAT16), "computes in float32"),
        (_node("Resize", ["image", "", "scales"], mode="nearest"), "does not resize"),
        (_node("MaxPool", ["image"], kernel_shape=[2, 2], auto_pad="SAME_UPPER"), "explicit padding"),
    ],
    ids=["unknown", "half", "nearest", "auto_pad"],
)
def test_what_it_does_not_know_is_named(tmp_path: Path, node: onnx.NodeProto, match: str) -> None:
    path = _graph(tmp_path, [node], {"scales": np.array([1, 1, 2, 2], np.float32)})
    with pytest.raises(ArtifactError, match=match):
        TorchGraph(path, "cpu")(torch.zeros(1, 2, 6, 6))


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    backbone = write_tiny_backbone(tmp_path)
    backbone.onnx_path.write_bytes(backbone.onnx_path.read_bytes()[:500])
    with pytest.raises(ArtifactError, match=r"backbone.onnx: .*export it again"):
        open_features(backbone)


def test_a_graph_of_other_widths_is_refused(tmp_path: Path) -> None:
    backbone = write_tiny_backbone(tmp_path / "a")
    other = write_tiny_backbone(tmp_path / "b", widths=(8, 12, 16, 25))
    (backbone.directory / ONNX_NAME).write_bytes(other.onnx_path.read_bytes())
    spec = msgspec.structs.replace(backbone.spec, onnx_sha256=file_sha256(backbone.onnx_path))
    (backbone.directory / JSON_NAME).write_bytes(encode_spec(spec))
    with pytest.raises(ArtifactError, match=r"\[1,61\] for PyTorch, backbone.json says \[1,60\]"):
        open_features(load_backbone(backbone.directory))


def test_without_pytorch_the_message_says_what_to_install(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"needs torch.*edge_ad\[torch\]"):
        open_features(backbone)
