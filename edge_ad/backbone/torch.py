"""The PyTorch engine: the same graph in float32, the reference for every other engine.

On a CPU the distances are PyTorch's too; on a GPU they come from the CUDA kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import EngineIdentity, Head, LocalHead
from edge_ad.backbone.grid import narrowing
from edge_ad.backbone.spec import Backbone, check_outputs
from edge_ad.backbone.torch_graph import TorchGraph, libraries
from edge_ad.errors import DeviceError

CPU = "cpu"


class _TorchEngine:
    """The graph, its input and the arrays that results are written to. One thread at a time."""

    def __init__(self, backbone: Backbone, batch: int, threads: int, local: bool, dim: int) -> None:
        self._torch = torch = libraries()[0]
        if threads:
            torch.set_num_threads(threads)
        self._graph: TorchGraph | None = TorchGraph(backbone.onnx_path, CPU)
        matrix = narrowing(backbone, dim) if local else None
        self._narrow = None if matrix is None else torch.from_numpy(matrix)
        self._with_local = local
        self.identity = torch_identity(backbone, CPU)
        self.input: NDArray[np.uint8] = np.zeros((batch, backbone.height, backbone.width, 3), np.uint8)
        self._image = torch.from_numpy(self.input)
        with torch.inference_mode():
            shapes = {name: tuple(found.shape) for name, found in self._graph(self._image).items()}
        check_outputs(backbone, shapes, batch, "PyTorch")

    def _run(self) -> tuple[Any, Any]:
        """Tensors `pooled` [B, D] and `local` [B, P, d] or None."""
        if self._graph is None:
            raise DeviceError("the engine is closed; open another one")
        try:
            found = self._graph(self._image)
        except RuntimeError as error:
            raise DeviceError(f"PyTorch inference failed: {error}".splitlines()[0]) from error
        local = found["local"] if self._with_local else None
        return found["pooled"], local if self._narrow is None else local @ self._narrow

    def close(self) -> None:
        """Release the graph; calling it again does nothing."""
        self._graph = None


class TorchFeatures(_TorchEngine):
    """Pictures to pooled features [B, D], and to `local` features per position where opened with it."""

    local: NDArray[np.float32] | None = None

    def infer(self) -> NDArray[np.float32]:
        """Features [B, D] of what `input` holds."""
        with self._torch.inference_mode():
            pooled, local = self._run()
        self.local = None if local is None else local.numpy()
        found: NDArray[np.float32] = pooled.numpy()
        return found


class TorchScorer(_TorchEngine):
    """Pictures to distances [B, L], and to distances of `cells` where opened with local heads."""

    local: NDArray[np.float32] | None = None
    cells: NDArray[np.float32] | None = None

    def __init__(
        self,
        backbone: Backbone,
        heads: Sequence[Sequence[Head]],
        local: Sequence[LocalHead] | None,
        threads: int,
    ) -> None:
        dim = local[0].mean.shape[1] if local else 0
        super().__init__(backbone, len(heads), threads, local is not None, dim)
        tensor = self._torch.tensor  # copies: what bundles hand out is read-only
        self._heads = [[(h.offset, tensor(h.mean), tensor(h.whitening)) for h in row] for row in heads]
        self._local_heads = [
            {name: tensor(getattr(head, name)) for name in LocalHead.__slots__} for head in local or ()
        ]

    def infer(self) -> NDArray[np.float32]:
        """Distances d = sqrt(d2), [B, L]."""
        with self._torch.inference_mode():
            pooled, local = self._run()
            rows = [
                self._torch.stack([(w @ (x[at : at + len(m)] - m)).norm() for at, m, w in levels])
                for x, levels in zip(pooled, self._heads, strict=True)
            ]
            if local is not None:
                near = [self._cells(x, head) for x, head in zip(local, self._local_heads, strict=True)]
                self.cells, self.local = self._torch.stack(near).numpy(), local.numpy()
        found: NDArray[np.float32] = self._torch.stack(rows).numpy()
        return found

    def _cells(self, x: Any, head: dict[str, Any]) -> Any:
        """Distances [P] of features x [P, d]; see `LocalHead`."""
        rest = x - head["mean"]
        if len(head["context"]):
            t = head["context"] @ ((head["pooling"] @ x).reshape(-1) - head["context_mean"])
            rest = rest - head["coefficients"] @ t
        return (head["whitening"] @ rest[..., None])[..., 0].norm(dim=1)


def torch_identity(backbone: Backbone, device: str) -> EngineIdentity:
    """Of this machine's PyTorch on `device`, "cpu" or "cuda"."""
    torch = libraries()[0]
    if device == CPU:
        name = f"CPU {torch.backends.cpu.get_cpu_capability()}"
    else:
        name = torch.cuda.get_device_name()
    return EngineIdentity("torch", str(torch.__version__), name, "f32", backbone.sha256)


def open_features(
    backbone: Backbone, batch: int = 1, threads: int = 0, local: bool = False, dim: int = 0
) -> TorchFeatures:
    """The bare backbone; see `openvino.open_features`."""
    return TorchFeatures(backbone, batch, threads, local, dim)


def open_scorer(
    backbone: Backbone,
    heads: Sequence[Sequence[Head]],
    threads: int = 0,
    local: Sequence[LocalHead] | None = None,
) -> TorchScorer:
    """The backbone with its Gaussians; see `openvino.open_scorer`."""
    return TorchScorer(backbone, heads, local, threads)
