"""Networks for the GPU engines' tests: what TensorRT or PyTorch would be."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone
from edge_ad.cuda.device import Device
from edge_ad.cuda.failure import check
from edge_ad.cuda.memory import Mirror

Shapes = dict[str, tuple[int, ...]]


class HostBackbone:
    """OpenVINO on what lies behind the pointers, as a host function on the stream, so in the graph.

    Only where the GPU's addresses are the process's own: on the stand-in for the driver. `spoil` is done
    to the features afterwards, `meanwhile` while they are enqueued.
    """

    capturable = True

    def __init__(self, device: Device, backbone: Backbone, batch: int, dim: int | None = None) -> None:
        self._bindings = device.bindings
        self._engine = open_features(backbone, batch, 1, local=dim is not None, dim=dim or 0)
        self.identity: EngineIdentity = self._engine.identity
        self.shapes: Shapes = {"image": self._engine.input.shape, "pooled": (batch, backbone.dim)}
        if self._engine.local is not None:
            self.shapes["local"] = self._engine.local.shape
        self.spoil: Callable[[dict[str, NDArray[Any]]], None] = lambda arrays: None
        self.meanwhile: Callable[[], object] = lambda: None
        self.closed = 0
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._run)
        self._arrays: dict[str, NDArray[Any]] = {}

    def bind(self, pointers: Mapping[str, int]) -> None:
        for name, shape in self.shapes.items():
            kind = ctypes.c_uint8 if name == "image" else ctypes.c_float
            array = (kind * int(np.prod(shape))).from_address(pointers[name])
            self._arrays[name] = np.frombuffer(array, kind).reshape(shape)

    def _run(self, _: object) -> None:
        self._engine.input[:] = self._arrays["image"]
        self._arrays["pooled"][:] = self._engine.infer()
        if self._engine.local is not None:
            self._arrays["local"][:] = self._engine.local
        self.spoil(self._arrays)

    def enqueue(self, stream: int) -> None:
        self.meanwhile()
        address = ctypes.cast(self._function, ctypes.c_void_p).value
        function = self._bindings.CUhostFn(address)
        check(self._bindings.cuLaunchHostFunc(stream, function, 0), "OpenVINO on the stream")

    def close(self) -> None:
        self.closed += 1


class GivenFeatures:
    """Features that the test writes, copied to where they are wanted; on any GPU."""

    capturable = True

    def __init__(self, device: Device, shapes: Shapes) -> None:
        self.identity = EngineIdentity("given", "1", device.facts.name, "f32", "0" * 64)
        self.shapes = shapes
        self._bindings = device.bindings
        self._sources = {
            name: Mirror(device, shape, np.float32, f"given {name}", copied=True)
            for name, shape in shapes.items()
            if name != "image"
        }
        self._pointers: dict[str, int] = {}

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._sources[name].host

    def bind(self, pointers: Mapping[str, int]) -> None:
        self._pointers = dict(pointers)

    def enqueue(self, stream: int) -> None:
        for name, source in self._sources.items():
            found = self._bindings.cuMemcpyHtoDAsync(
                self._pointers[name], source.host.ctypes.data, source.host.nbytes, stream
            )
            check(found, f"copying given {name}")

    def close(self) -> None:
        for source in self._sources.values():
            source.close()
