"""Engines built by TensorRT-RTX, which needs no card; the same calls against other releases' classes."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from networks import NETWORKS, GetBackbone, GetConverted
from onnx import TensorProto, helper
from published import Published

from edge_ad.backbone.tensorrt.build import (
    MIB,
    Options,
    allow_half,
    attach_timings,
    build_plan,
    read_timings,
)
from edge_ad.backbone.tensorrt.graph import prepare
from edge_ad.backbone.tensorrt.library import Library
from edge_ad.backbone.tensorrt.log import make_log
from edge_ad.errors import ArtifactError, ConfigError, DeviceError


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_builds_in_every_precision(
    get_converted: GetConverted, rtx: Library, name: str
) -> None:
    full, half, eight = (
        build_plan(rtx, get_converted(name, precision).onnx, Options(tf32=precision == "int8"))
        for precision in ("f32", "f16", "int8")
    )
    assert len(half.plan) < 0.7 * len(full.plan)  # the weights are most of it
    assert full.layers < half.layers < eight.layers  # casts, and pairs of quantising
    assert (full.warnings, half.warnings) == ((), ())


def test_a_batch_of_tiles_builds(get_backbone: GetBackbone, rtx: Library) -> None:
    model = prepare(get_backbone("embedded"), 24, 48)
    assert build_plan(rtx, model.SerializeToString(), Options(workspace_mib=256)).plan


def _graph(*nodes: Any, shape: tuple[int | str, ...] = (1, 8)) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_every_node_that_the_parser_refuses_is_named(rtx: Library) -> None:
    first = helper.make_node("Frob", ["x"], ["z"], name="one", domain="own")
    second = helper.make_node("Nicate", ["z"], ["y"], name="two", domain="own")
    with pytest.raises(
        ArtifactError, match=r"does not take the backbone's graph: .*Frob 'one'"
    ) as caught:
        build_plan(rtx, _graph(first, second), Options())
    assert "Nicate 'two'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert f"tensorrt-rtx {rtx.version}" in str(caught.value)


def test_a_picture_that_is_transposed_before_it_is_cast_is_why_graphs_are_prepared(
    get_backbone: GetBackbone, rtx: Library
) -> None:
    exported = get_backbone("mobilenetv2_100").onnx_path.read_bytes()
    with pytest.raises(ArtifactError, match=r"at Transpose .*UInt8"):
        build_plan(rtx, exported, Options())


def test_bytes_that_are_no_graph_are_refused(rtx: Library) -> None:
    with pytest.raises(ArtifactError, match=r"MODEL_DESERIALIZE_FAILED"):
        build_plan(rtx, b"no graph", Options())


def test_an_open_batch_is_refused(rtx: Library) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"], name="relu")
    with pytest.raises(ArtifactError, match=r"input 'x' of the graph has shape \(-1, 8\)"):
        build_plan(rtx, _graph(relu, shape=("batch", 8)), Options())


def test_weak_typing_is_refused_where_it_is_not(rtx: Library) -> None:
    with pytest.raises(ConfigError, match=r"--weak-fp16 is for TensorRT 10.3 and before, tensorrt-rtx"):
        build_plan(rtx, _graph(), Options(weak_fp16=True))


def test_timings_go_through_the_builders_own_calls(rtx: Library) -> None:
    """They do nothing in TensorRT-RTX, which says so, but they are the same calls."""
    log, _ = make_log(rtx.module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        config = rtx.module.Builder(log).create_builder_config()
        assert attach_timings(config, b"") is False
        kept = read_timings(config)
        assert kept
        assert attach_timings(config, kept) is True


def test_what_the_library_says_is_kept_once(rtx: Library) -> None:
    log, messages = make_log(rtx.module)
    severity = rtx.module.ILogger.Severity
    for _ in range(3):
        log.log(severity.WARNING, "slow\n  kernel")
    log.log(severity.ERROR, "no memory")
    log.log(severity.VERBOSE, "chatter")
    assert (messages.warnings, messages.errors) == (["slow kernel"], ["no memory"])
    assert messages.last_error() == "no memory"


class Builder:
    """Stands for a release whose libraries are not here: its objects have the members that the release
    published, and take the arguments that it published, and no others."""

    def __init__(self, published: Published, layers: tuple[str, ...] = (), plan: Any = b"plan") -> None:
        self.published, self.done = published, []
        make = published.object
        kinds = published.enum("LayerType")
        self.layers = [
            make(
                "ILayer",
                type=getattr(kinds, kind),
                set_output_type=lambda i, t, n=n: self.done.append((n, i, t.name)),
            )
            for n, kind in enumerate(layers)
        ]
        self.output = make("ITensor")
        picture = make("ITensor", name="image", shape=(2, 8, 8, 3))
        self.network = make(
            "INetworkDefinition",
            num_layers=len(layers),
            get_layer=lambda i: self.layers[i],
            num_inputs=1,
            get_input=lambda i: picture,
            num_outputs=1,
            get_output=lambda i: self.output,
        )
        self.timings = make("ITimingCache", serialize=lambda: b"new timings")
        self.config = make(
            "IBuilderConfig",
            set_flag=lambda flag: self.done.append(("set", flag.name)),
            clear_flag=lambda flag: self.done.append(("clear", flag.name)),
            set_memory_pool_limit=lambda pool, size: self.done.append((pool.name, size)),
            add_optimization_profile=lambda profile: 0,
            create_timing_cache=lambda data: self.done.append(("timings", data)) or self.timings,
            set_timing_cache=lambda cache, ignore_mismatch: not ignore_mismatch,
            get_timing_cache=lambda: self.timings,
        )
        profile = make(
            "IOptimizationProfile", set_shape=lambda *shapes: self.done.append(("profile", *shapes))
        )
        self.builder = make(
            "Builder",
            create_network=lambda flags: self.done.append(("network", flags)) or self.network,
            create_builder_config=lambda: self.config,
            create_optimization_profile=lambda: profile,
            build_serialized_network=lambda network, config: plan,
        )
        parser = make("OnnxParser", parse=lambda model: True, num_errors=0)
        names = (
            "BuilderFlag",
            "DataType",
            "LayerType",
            "MemoryPoolType",
            "NetworkDefinitionCreationFlag",
        )
        self.module = SimpleNamespace(
            ILogger=type("ILogger", (), {}),
            Builder=lambda log: self.builder,
            OnnxParser=lambda network, log: parser,
            **{name: published.enum(name) for name in names},
        )

    @property
    def library(self) -> Library:
        return Library("tensorrt", self.module, self.published.version)


def test_strongly_typed_calls_are_those_of_every_release(release: Published) -> None:
    fake = Builder(release)
    built = build_plan(fake.library, b"onnx", Options(4, 64), b"old timings")
    assert (built.plan, built.timings) == (b"plan", b"new timings")
    strong = 1 << release.values["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"]
    shape = (2, 8, 8, 3)
    assert fake.done == [
        ("network", strong),
        ("WORKSPACE", 64 * MIB),
        ("clear", "TF32"),
        ("profile", "image", shape, shape, shape),
        ("timings", b"old timings"),
    ]
    assert fake.config.builder_optimization_level == 4


def test_weakly_typed_calls_are_those_of_the_releases_that_have_them(release: Published) -> None:
    """The branch of 10.3, which nothing here can run: each call of it is one that 10.3 published."""
    layers = ("CAST", "SHUFFLE", "ELEMENTWISE", "CONVOLUTION", "ELEMENTWISE", "REDUCE", "CONCATENATION")
    if not Builder(release).library.weak_fp16:
        fake = Builder(release)
        with pytest.raises(ConfigError, match=rf"tensorrt {release.version} is installed"):
            build_plan(fake.library, b"onnx", Options(weak_fp16=True))
        return
    fake = Builder(release, layers)
    build_plan(fake.library, b"onnx", Options(weak_fp16=True))
    assert ("network", 0) in fake.done
    assert [one for one in fake.done if one[0] == "set"] == [
        ("set", "FP16"),
        ("set", "OBEY_PRECISION_CONSTRAINTS"),
    ]
    # The normalisation ahead of the first convolution, and the reduction.
    assert [one for one in fake.done if isinstance(one[0], int)] == [(2, 0, "FLOAT"), (5, 0, "FLOAT")]
    assert [fake.layers[n].precision.name for n in (2, 5)] == ["FLOAT", "FLOAT"]
    assert fake.output.dtype.name == "FLOAT"


@pytest.mark.parametrize("name", NETWORKS)
def test_pooling_comes_as_the_layers_that_the_weak_branch_keeps(
    get_converted: GetConverted, rtx: Library, name: str
) -> None:
    """Of the network that a parser really makes."""
    trt = rtx.module
    log, _ = make_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(rtx.strongly_typed)
    data = get_converted(name, "f32").onnx
    parser = trt.OnnxParser(network, log)
    assert parser.parse(data)
    kinds = [network.get_layer(i).type for i in range(network.num_layers)]
    nodes = [node.op_type for node in onnx.load_from_string(data).graph.node]
    pooled = sum(kind in ("ReduceMean", "GlobalAveragePool") for kind in nodes)
    assert kinds.count(trt.LayerType.REDUCE) == pooled > 0
    assert kinds.index(trt.LayerType.ELEMENTWISE) < kinds.index(trt.LayerType.CONVOLUTION)
    kept: list[str] = []
    real = [network.get_layer(i) for i in range(network.num_layers)]
    recording = [
        SimpleNamespace(type=one.type, set_output_type=lambda i, t, n=one.name: kept.append(n))
        for one in real
    ]
    flags = SimpleNamespace(FP16=0, OBEY_PRECISION_CONSTRAINTS=1)
    allow_half(
        SimpleNamespace(BuilderFlag=flags, LayerType=trt.LayerType, DataType=trt.DataType),
        SimpleNamespace(num_layers=len(recording), get_layer=recording.__getitem__, num_outputs=0),
        SimpleNamespace(set_flag=lambda flag: None),
    )
    assert pooled < len(kept) <= pooled + 3  # the difference and the product of the normalisation


def test_a_builder_that_fails_says_why(release: Published) -> None:
    fake = Builder(release, plan=None)
    with pytest.raises(
        DeviceError, match=rf"tensorrt {release.version} cannot build the engine: .*--batch"
    ):
        build_plan(fake.library, b"onnx", Options())
    fake = Builder(release)
    fake.module.Builder = lambda log: None
    with pytest.raises(DeviceError, match=r"Builder fails: .*free memory"):
        build_plan(fake.library, b"onnx", Options())
