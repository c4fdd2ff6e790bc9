"""The network in PyTorch on a GPU, as one stage of a frame: float32, TF32 off.

What PyTorch allocates in the first frame it keeps, in a pool of its own, so that a frame can be captured
as a CUDA graph by whoever owns the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from edge_ad.backbone.grid import narrowing
from edge_ad.backbone.spec import Backbone, check_outputs
from edge_ad.backbone.torch import torch_identity
from edge_ad.backbone.torch_graph import TorchGraph, libraries
from edge_ad.errors import DeviceError

DEVICE = "cuda"


class TorchNetwork:
    """A `GpuBackbone` (see `edge_ad.engines.gpu_frame`): reads and writes memory that others own."""

    def __init__(self, backbone: Backbone, batch: int, local: bool, dim: int) -> None:
        """`local` and `dim` as `openvino.open_features` takes them. Raises DeviceError where PyTorch
        sees no GPU, ConfigError without PyTorch."""
        self._torch = torch = libraries()[0]
        if not torch.cuda.is_available():
            raise DeviceError(
                f"engine.device = 'cuda': PyTorch {torch.__version__} sees no GPU; install NVIDIA's "
                "driver and a PyTorch for CUDA, or set engine.device = 'cpu'"
            )
        # A convolution in TF32 has 10 bits; what cuDNN tries out would differ from run to run.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        self.identity = torch_identity(backbone, DEVICE)
        matrix = narrowing(backbone, dim) if local else None
        self._narrow = None if matrix is None else torch.from_numpy(matrix).to(DEVICE)
        self._graph: TorchGraph | None = TorchGraph(backbone.onnx_path, DEVICE)
        self._pool: Any = torch.cuda.MemPool() if hasattr(torch.cuda, "MemPool") else None
        self._bound: dict[str, Any] = {}
        self.shapes: Mapping[str, tuple[int, ...]] = {
            "image": (batch, backbone.height, backbone.width, 3),
            "pooled": (batch, backbone.dim),
        }
        if local and backbone.local is not None:
            width = backbone.local.dim if matrix is None else matrix.shape[1]
            self.shapes = {**self.shapes, "local": (batch, backbone.local.positions, width)}
        image = torch.zeros(self.shapes["image"], dtype=torch.uint8, device=DEVICE)
        with torch.inference_mode():
            shapes = {name: tuple(found.shape) for name, found in self._graph(image).items()}
        check_outputs(backbone, shapes, batch, "PyTorch")

    def bind(self, pointers: Mapping[str, int]) -> None:
        """Addresses on the GPU for all of `shapes`."""
        for name, shape in self.shapes.items():
            memory = _Memory(pointers[name], shape, "|u1" if name == "image" else "<f4")
            self._bound[name] = self._torch.as_tensor(memory, device=DEVICE)

    def enqueue(self, stream: int) -> None:
        """Put one inference on a CUstream. Raises DeviceError when PyTorch does."""
        torch = self._torch
        if self._graph is None:
            raise DeviceError("the engine is closed; open another one")
        pool = nullcontext() if self._pool is None else torch.cuda.use_mem_pool(self._pool)
        try:
            with torch.cuda.stream(torch.cuda.ExternalStream(stream)), torch.inference_mode(), pool:
                found = self._graph(self._bound["image"])
                self._bound["pooled"].copy_(found["pooled"])
                if "local" in self._bound:
                    local = found["local"]
                    self._bound["local"].copy_(local if self._narrow is None else local @ self._narrow)
        except RuntimeError as error:
            raise DeviceError(f"PyTorch inference failed: {str(error).splitlines()[0]}") from error

    def close(self) -> None:
        """Release the graph and its memory; calling it again does nothing."""
        self._graph = self._narrow = self._pool = None
        self._bound = {}


class _Memory:
    """What PyTorch asks of memory that is somebody else's."""

    def __init__(self, pointer: int, shape: tuple[int, ...], kind: str) -> None:
        self.__cuda_array_interface__ = {
            "data": (pointer, False), "shape": shape, "typestr": kind, "strides": None, "version": 3,
        }  # fmt: skip
