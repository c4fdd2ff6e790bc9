"""The runtime against the published classes of releases: names, signatures, and every way it can fail.

Nothing here makes a real Runtime: without a driver that ends the process.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from published import RELEASES, GetRelease, Published, parameters
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.tensorrt.engine import Tensor, TensorRtBackbone, engine_tensors
from edge_ad.backbone.tensorrt.log import LEVELS, Messages
from edge_ad.errors import ArtifactError, DeviceError

ADDRESSES = {"image": 0x1000, "pooled": 0x2000, "local": 0x3000}
PLAN = b"plan"
IDENTITY = EngineIdentity("tensorrt", "10.13.3.9", "a card", "f16", "0" * 64)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return write_tiny_backbone(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=["lean", *RELEASES])
def published(request: pytest.FixtureRequest, lean: Published, get_release: GetRelease) -> Published:
    """The classes of the lean runtime, and those of the whole library in three releases."""
    return lean if request.param == "lean" else get_release(request.param)


class Runtime:
    """Stands for the library: its objects have the published members and signatures."""

    def __init__(self, published: Published, tensors: tuple[Tensor, ...]) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}
        types, modes = published.enum("DataType"), published.enum("TensorIOMode")
        named = {tensor.name: tensor for tensor in tensors}
        kinds = {"uint8": types.UINT8, "float32": types.FLOAT, "float16": types.HALF}
        self.context = published.object(
            "IExecutionContext",
            set_input_shape=lambda name, shape: self.call("set_input_shape", name, shape),
            set_tensor_address=lambda name, address: self.call("set_tensor_address", name, address),
            execute_async_v3=lambda stream: self.call("execute_async_v3", stream),
        )
        self.engine = published.object(
            "ICudaEngine",
            num_io_tensors=len(tensors),
            get_tensor_name=lambda i: tensors[i].name,
            get_tensor_shape=lambda name: named[name].shape,
            get_tensor_dtype=lambda name: kinds[named[name].dtype],
            get_tensor_mode=lambda name: modes.INPUT if named[name].is_input else modes.OUTPUT,
            device_memory_size_v2=4096,
            create_execution_context=lambda: self.answers.get("context", self.context),
        )
        self.runtime = published.object(
            "Runtime",
            deserialize_cuda_engine=lambda plan: self.answers.get("engine", self.engine),
        )
        self.module = SimpleNamespace(
            Runtime=lambda log: self.answers.get("runtime", self.runtime), TensorIOMode=modes
        )

    def call(self, name: str, *arguments: Any) -> bool:
        self.calls.append((name, *arguments))
        return bool(self.answers.get(name, True))

    def open(self, tensors: tuple[Tensor, ...]) -> TensorRtBackbone:
        messages = Messages()
        messages.add("ERROR", "out of memory")
        return TensorRtBackbone(self.module, None, messages, PLAN, tensors, "engine.plan", IDENTITY)


def test_tensors_are_those_of_backbone_json(tiny: Backbone) -> None:
    image, pooled, local = engine_tensors(tiny, 3, 4)
    assert image == Tensor("image", (3, 64, 64, 3), "uint8", True)
    assert pooled == Tensor("pooled", (3, 60), "float32", False)
    assert local == Tensor("local", (3, 16, 4), "float32", False)
    assert [t.nbytes for t in (image, pooled, local)] == [36864, 720, 768]
    assert [t.name for t in engine_tensors(tiny, 1, 0)] == ["image", "pooled"]


def test_a_pass_is_bound_once_and_queued(published: Published, tiny: Backbone) -> None:
    tensors = engine_tensors(tiny, 2, 10)
    fake = Runtime(published, tensors)
    engine = fake.open(tensors)
    assert engine.memory_bytes == 4096
    engine.bind(ADDRESSES)
    engine.enqueue(77)
    engine.enqueue(77)
    assert fake.calls == [
        ("set_input_shape", "image", (2, 64, 64, 3)),
        *(("set_tensor_address", name, address) for name, address in ADDRESSES.items()),
        ("execute_async_v3", 77),
        ("execute_async_v3", 77),
    ]


def test_a_closed_engine_says_so(published: Published, tiny: Backbone) -> None:
    tensors = engine_tensors(tiny, 2, 10)
    engine = Runtime(published, tensors).open(tensors)
    engine.bind(ADDRESSES)
    engine.close()
    engine.close()
    for use in (lambda: engine.enqueue(1), lambda: engine.bind(ADDRESSES), lambda: engine.memory_bytes):
        with pytest.raises(DeviceError, match=r"engine.plan: .* on a closed engine"):
            use()


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        ("runtime", DeviceError, "cannot make its Runtime: out of memory; see with nvidia-smi"),
        (
            "engine",
            ArtifactError,
            "refuses the engine: out of memory; remove it and give 'edge-ad backbone",
        ),
        ("context", DeviceError, "cannot make its create_execution_context: out of memory"),
    ],
)
def test_what_cannot_be_made_is_named_with_the_reason(
    lean: Published, tiny: Backbone, part: str, error: type[Exception], message: str
) -> None:
    tensors = engine_tensors(tiny, 1, 0)
    fake = Runtime(lean, tensors)
    fake.answers[part] = None
    with pytest.raises(error, match=rf"engine\.plan: TensorRT {message}"):
        fake.open(tensors)


def test_every_returned_false_is_an_error(lean: Published, tiny: Backbone) -> None:
    tensors = engine_tensors(tiny, 1, 10)
    fake = Runtime(lean, tensors)
    fake.answers["set_input_shape"] = False
    with pytest.raises(DeviceError, match=r"set_input_shape failed: out of memory"):
        fake.open(tensors)
    fake.answers = {"set_tensor_address": False}
    engine = fake.open(tensors)
    with pytest.raises(DeviceError, match=r"set_tensor_address of 'image' failed"):
        engine.bind(ADDRESSES)
    fake.answers = {"execute_async_v3": False}
    engine = fake.open(tensors)
    engine.bind(ADDRESSES)
    with pytest.raises(DeviceError, match=r"execute_async_v3 failed"):
        engine.enqueue(5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            Tensor("pooled", (1, 61), "float32", False),
            r"'pooled' .* output FLOAT \[1, 61\], .*\[1, 60\]",
        ),
        (Tensor("pooled", (1, 60), "float16", False), r"'pooled' .* output HALF .*says output FLOAT"),
        (Tensor("pooled", (1, 60), "float32", True), r"'pooled' .* input FLOAT"),
        (Tensor("extra", (1, 60), "float32", False), r"'extra' of the engine is output.*says none"),
    ],
)
def test_an_engine_with_other_tensors_is_refused(
    lean: Published, tiny: Backbone, change: Tensor, message: str
) -> None:
    image, pooled = engine_tensors(tiny, 1, 0)
    fake = Runtime(lean, (image, change))
    with pytest.raises(ArtifactError, match=rf"engine\.plan: tensor {message}"):
        fake.open((image, pooled))


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ({"image": 0x1000, "pooled": 0x2000}, r"bind got \['image', 'pooled'\], the engine has"),
        ({**ADDRESSES, "more": 0x4000}, r"give all of them and no other"),
        ({**ADDRESSES, "local": 0x3004}, r"address 0x3004 of 'local' is not a multiple of 256"),
        ({**ADDRESSES, "local": 0}, r"address 0x0 of 'local'"),
    ],
)
def test_addresses_that_cannot_be_are_refused(
    lean: Published, tiny: Backbone, addresses: dict[str, int], message: str
) -> None:
    tensors = engine_tensors(tiny, 1, 10)
    fake = Runtime(lean, tensors)
    engine = fake.open(tensors)
    with pytest.raises(DeviceError, match=message):
        engine.bind(addresses)
    with pytest.raises(DeviceError, match=r"enqueue before bind"):
        engine.enqueue(1)


def test_the_default_stream_is_refused(lean: Published, tiny: Backbone) -> None:
    tensors = engine_tensors(tiny, 1, 10)
    engine = Runtime(lean, tensors).open(tensors)
    engine.bind(ADDRESSES)
    with pytest.raises(DeviceError, match=r"enqueue on the default stream"):
        engine.enqueue(0)


def test_what_is_logged_comes_in_the_published_way(published: Published) -> None:
    """The library calls this one: its signature, and every severity that it may name."""
    assert parameters(published.classes["ILogger"]["log"]) == [[("severity", True), ("msg", True)]]
    severities = re.findall(r"^  ([A-Z_]+)\b", published.classes["ILogger"]["Severity"], re.MULTILINE)
    assert set(severities) == set(LEVELS)


def test_signatures_are_read_as_they_are_written() -> None:
    doc = "f(self: a.B, x: Tuple[int, int], y: str = None) -> bool\n\n\n    Text (self: no) -> no"
    assert parameters(doc) == [[("x", True), ("y", False)]]
    over = "g(*args, **kwargs)\n\n1. g(self: a.B) -> int\n\n2. g(self: a.B, z: int) -> int"
    assert parameters(over) == [[], [("z", True)]]


def test_objects_refuse_what_was_not_published(lean: Published) -> None:
    context = lean.object("IExecutionContext", execute_async_v3=lambda stream: True)
    assert context.execute_async_v3(1)
    with pytest.raises(AssertionError, match=r"published are"):
        context.execute_async_v3(1, 2)
    with pytest.raises(AttributeError, match=r"IExecutionContext has no execute_async"):
        context.execute_async(1)
    with pytest.raises(AttributeError, match=r"has no colour"):
        context.colour = 1
