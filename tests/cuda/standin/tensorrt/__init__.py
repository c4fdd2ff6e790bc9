"""A stand-in for TensorRT on the stand-in for NVIDIA's driver: its plan is the ONNX that it was given,
and OpenVINO computes it on the memory behind the addresses, as a host function on the stream.

Where the environment has EDGE_AD_SPOIL, what it computes is off: "factor 1.5" multiplies all features,
"noise 0.1" each by its own factor of that deviation, other ones for every picture.

What is called of the real classes, and how, the tests of `edge_ad.backbone.tensorrt` look up in NVIDIA's
own packages. This one lets the whole product run.
"""

from __future__ import annotations

import ctypes
import enum
import os
import sys
import zlib
from typing import Any

import numpy as np
import openvino as ov

__version__ = "10.13.3.9"
MAGIC = b"stand-in plan\n"


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    FP16 = 0
    TF32 = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class DataType(enum.Enum):
    FLOAT = 0
    UINT8 = 1


class TensorIOMode(enum.Enum):
    INPUT = 0
    OUTPUT = 1


class ILogger:
    pass


class _Tensor:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape


class _Network:
    def __init__(self, flags: int) -> None:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        self.onnx = b""
        self.num_layers = self.num_inputs = 0

    def get_input(self, index: int) -> _Tensor:
        port = _read(self.onnx).inputs[index]
        return _Tensor(_name(port), tuple(port.shape))


class OnnxParser:
    def __init__(self, network: _Network, log: ILogger) -> None:
        self._network = network
        self.num_errors = 0

    def parse(self, onnx: bytes) -> bool:
        model = _read(onnx)
        self._network.onnx = onnx
        self._network.num_layers, self._network.num_inputs = len(model.get_ops()), len(model.inputs)
        return True


class _TimingCache:
    def serialize(self) -> bytes:
        return b"timings"


class _Config:
    builder_optimization_level = 3

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None: ...
    def set_flag(self, flag: BuilderFlag) -> None: ...
    def clear_flag(self, flag: BuilderFlag) -> None: ...

    def create_timing_cache(self, data: bytes) -> _TimingCache:
        return _TimingCache()

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        return True

    def get_timing_cache(self) -> _TimingCache:
        return _TimingCache()

    def add_optimization_profile(self, profile: _Profile) -> int:
        return 0


class _Profile:
    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        assert len(set(shapes)) == 1


class Builder:
    def __init__(self, log: ILogger) -> None: ...

    def create_network(self, flags: int) -> _Network:
        return _Network(flags)

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes:
        return MAGIC + bytes([config.builder_optimization_level]) + network.onnx


class Runtime:
    def __init__(self, log: ILogger) -> None: ...

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        return _Engine(plan[len(MAGIC) + 1 :]) if plan.startswith(MAGIC) else None


class _Engine:
    device_memory_size_v2 = 0

    def __init__(self, onnx: bytes) -> None:
        hints = {"INFERENCE_PRECISION_HINT": ov.Type.f32, "INFERENCE_NUM_THREADS": 1}
        self.compiled = ov.Core().compile_model(_read(onnx), "CPU", hints)
        self._ports = {_name(p): p for p in (*self.compiled.inputs, *self.compiled.outputs)}
        self._inputs = {_name(port) for port in self.compiled.inputs}

    @property
    def num_io_tensors(self) -> int:
        return len(self._ports)

    def get_tensor_name(self, index: int) -> str:
        return list(self._ports)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._ports[name].shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.UINT8 if self._ports[name].element_type == ov.Type.u8 else DataType.FLOAT

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def create_execution_context(self) -> _Context | None:
        # Where a test says so, a command of edge-ad finds no memory left.
        if sys.argv[1:2] == [os.environ.get("STANDIN_NO_MEMORY_FOR")]:
            return None
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._request = engine.compiled.create_infer_request()
        self._arrays: dict[str, Any] = {}
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._run)
        self._driver = ctypes.CDLL("libcuda.so.1")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return shape == self._engine.get_tensor_shape(name)

    def set_tensor_address(self, name: str, address: int) -> bool:
        shape = self._engine.get_tensor_shape(name)
        kind = (
            ctypes.c_uint8 if self._engine.get_tensor_dtype(name) is DataType.UINT8 else ctypes.c_float
        )
        array = (kind * int(np.prod(shape))).from_address(address)
        self._arrays[name] = np.frombuffer(array, kind).reshape(shape)
        return True

    def _run(self, _: object) -> None:
        results = self._request.infer({"image": self._arrays["image"]})
        kind, _, size = os.environ.get("EDGE_AD_SPOIL", "").partition(" ")
        rng = np.random.default_rng(zlib.crc32(self._arrays["image"].tobytes()))
        for port, found in results.items():
            factor: Any = float(size) if kind == "factor" else 1.0
            if kind == "noise":
                factor = 1.0 + float(size) * rng.standard_normal(found.shape)
            self._arrays[_name(port)][:] = found * factor

    def execute_async_v3(self, stream: int) -> bool:
        function = ctypes.cast(self._function, ctypes.c_void_p)
        return bool(self._driver.cuLaunchHostFunc(ctypes.c_void_p(stream), function, None) == 0)


def _read(onnx: bytes) -> Any:
    return ov.Core().read_model(onnx, b"")


def _name(port: Any) -> str:
    """As the graph calls it: OpenVINO has names of its own beside."""
    (found,) = {"image", "pooled", "local"} & port.get_names()
    return str(found)
