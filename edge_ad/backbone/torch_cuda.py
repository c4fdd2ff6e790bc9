"""The network in PyTorch on a GPU, as one stage of a frame: float32, TF32 off, launched one by one.

Not part of a frame's CUDA graph: how PyTorch keeps what it allocates in a capture that is not its own
differs from version to version. This engine is the reference for faster ones, and the same from PyTorch
2.2 on. What it allocates in a first frame its allocator has ready for those that follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_ad.backbone import torch_context
from edge_ad.backbone.grid import narrowing
from edge_ad.backbone.spec import Backbone, check_outputs
from edge_ad.backbone.torch import torch_identity
from edge_ad.backbone.torch_context import SharedDevice, doing
from edge_ad.backbone.torch_graph import TorchGraph, libraries, output_shapes
from edge_ad.errors import DeviceError

DEVICE = "cuda"


class TorchNetwork:
    """A `GpuBackbone` (see `edge_ad.engines.gpu_frame`): reads and writes memory that others own."""

    capturable = False

    def __init__(
        self, device: SharedDevice, backbone: Backbone, batch: int, local: bool, dim: int
    ) -> None:
        """On an open `cuda.device.Device`; `local` and `dim` as `openvino.open_features` takes them.

        Raises DeviceError where PyTorch sees no GPU, fails on it, or has lost it earlier in this
        process; ArtifactError for a graph that is not the backbone's; ConfigError without PyTorch.
        """
        self._torch = torch = libraries()[0]
        self._device, self._name = device, backbone.name
        self._graph: TorchGraph | None = None
        self._narrow: Any = None
        self._bound: dict[str, Any] = {}
        self._closed = False
        torch_context.join(device)
        _check_available(torch)
        # A convolution in TF32 has 10 bits; what cuDNN tries out would differ from run to run.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        matrix = narrowing(backbone, dim) if local else None
        image = (batch, backbone.height, backbone.width, 3)
        check_outputs(backbone, output_shapes(backbone.onnx_path, image), batch, "PyTorch")
        self.shapes: Mapping[str, tuple[int, ...]] = {"image": image, "pooled": (batch, backbone.dim)}
        if local and backbone.local is not None:
            width = backbone.local.dim if matrix is None else matrix.shape[1]
            self.shapes = {**self.shapes, "local": (batch, backbone.local.positions, width)}
        try:
            with doing(torch, f"loading {backbone.name} onto the GPU"):
                self.identity = torch_identity(backbone, DEVICE)
                self._narrow = None if matrix is None else torch.from_numpy(matrix).to(DEVICE)
                self._graph = TorchGraph(backbone.onnx_path, DEVICE)
                # A frame's stream does not wait for the one that weights are uploaded on.
                torch.cuda.synchronize()
        except BaseException:
            self.close()
            raise

    def bind(self, pointers: Mapping[str, int]) -> None:
        """Addresses on the GPU for all of `shapes`. Raises DeviceError when PyTorch refuses one."""
        for name, shape in self.shapes.items():
            with doing(self._torch, f"{self._name}: binding {name!r} of {list(shape)}"):
                bound = _tensor_at(
                    self._torch, pointers[name], shape, "|u1" if name == "image" else "<f4"
                )
            if bound.data_ptr() != pointers[name]:
                raise DeviceError(
                    f"{self._name}: PyTorch {self._torch.__version__} copies {name!r} instead of using "
                    "it where it lies; install another version, or use engine.kind = 'tensorrt'"
                )
            self._bound[name] = bound

    def enqueue(self, stream: int) -> None:
        """Put one inference on a CUstream, which must not be in capture. Raises DeviceError when
        PyTorch does, and when it is closed."""
        torch = self._torch
        if self._graph is None:
            raise DeviceError("the engine is closed; open another one")
        torch_context.check_alive()
        with (
            doing(torch, f"{self._name}: running the network on the GPU"),
            torch.cuda.stream(torch.cuda.ExternalStream(stream)),
            torch.inference_mode(),
        ):
            found = self._graph(self._bound["image"])
            self._bound["pooled"].copy_(found["pooled"])
            if "local" in self._bound:
                local = found["local"]
                self._bound["local"].copy_(local if self._narrow is None else local @ self._narrow)

    def close(self) -> None:
        """Release the graph and its memory; calling it again does nothing.

        On a broken device nothing is released, and no other network is opened in this process.
        """
        if self._closed:
            return
        self._closed = True
        mine = (self._graph, self._narrow, self._bound)
        self._graph = self._narrow = None
        self._bound = {}
        if torch_context.broken(self._device):
            torch_context.keep(mine)
            return
        del mine
        try:
            self._torch.cuda.empty_cache()
        except RuntimeError as error:  # it broke just now
            torch_context.keep(error)


def _check_available(torch: Any) -> None:
    with doing(torch, "looking for PyTorch's GPU"):
        available = torch.cuda.is_available()
    if not available:
        raise DeviceError(
            f"engine.device = 'cuda': PyTorch {torch.__version__} sees no GPU; install NVIDIA's "
            "driver and a PyTorch for CUDA, or set engine.device = 'cpu'"
        )


def _tensor_at(torch: Any, pointer: int, shape: tuple[int, ...], kind: str) -> Any:
    """Memory that is somebody else's."""
    return torch.as_tensor(_Memory(pointer, shape, kind), device=DEVICE)


class _Memory:
    """What PyTorch asks of it."""

    def __init__(self, pointer: int, shape: tuple[int, ...], kind: str) -> None:
        self.__cuda_array_interface__ = {
            "data": (pointer, False), "shape": shape, "typestr": kind, "strides": None, "version": 3,
        }  # fmt: skip
