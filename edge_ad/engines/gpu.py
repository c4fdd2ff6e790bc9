"""Engines on an NVIDIA GPU: TensorRT's network and our kernels as one graph per part, or PyTorch's.

Each has a thread of its own, which opens the GPU, uses it and closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

from edge_ad.backbone.engine import Head, LocalHead
from edge_ad.backbone.spec import Backbone
from edge_ad.cuda.binaries import check_architecture, kernel_image
from edge_ad.cuda.device import Device
from edge_ad.cuda.primary import SETUP
from edge_ad.engines.choice import EngineChoice
from edge_ad.engines.gpu_engine import GpuFeatures, GpuScorer
from edge_ad.engines.gpu_frame import GpuBackbone, GpuEngine
from edge_ad.engines.owner import OwnedFeatures, OwnedScorer
from edge_ad.gaussian.cuda.launch import FrameScorer
from edge_ad.preprocess.cuda.launch import FrameLoader
from edge_ad.preprocess.cuda.plan import PreprocessPlan

THREAD = "gpu"

Engine = TypeVar("Engine", bound=GpuEngine)


class _Alone(GpuEngine):
    """An engine that has its device for itself."""

    def close(self) -> None:
        """Of the engine, and of the device."""
        try:
            super().close()
        finally:
            self._device.close()


class _Features(_Alone, GpuFeatures):
    pass


class _Scorer(_Alone, GpuScorer):
    pass


def open_features(
    choice: EngineChoice, backbone: Backbone, batch: int, local: bool, dim: int
) -> OwnedFeatures:
    """See `engines.open_features`."""

    def make(device: Device) -> GpuFeatures:
        return _Features(device, open_network(choice, device, backbone, batch, local, dim))

    return OwnedFeatures(lambda: _alone(make), THREAD)


def open_scorer(
    choice: EngineChoice,
    backbone: Backbone,
    heads: Sequence[Sequence[Head]],
    local: Sequence[LocalHead] | None,
    frames: PreprocessPlan | None,
) -> OwnedScorer:
    """See `engines.open_scorer`."""

    def make(device: Device) -> GpuScorer:
        return make_scorer(_Scorer, choice, device, backbone, heads, local, frames)

    return OwnedScorer(lambda: _alone(make), THREAD)


def _alone(make: Callable[[Device], Engine]) -> Engine:
    """An engine on a device that is opened for it, and closed where it does not come to be."""
    with ExitStack() as made:
        engine = make(made.enter_context(Device()))
        made.pop_all()
    return engine


def make_scorer(
    kind: Callable[..., GpuScorer],
    choice: EngineChoice,
    device: Device,
    backbone: Backbone,
    heads: Sequence[Sequence[Head]],
    local: Sequence[LocalHead] | None,
    frames: PreprocessPlan | None,
    graph: bool = True,
) -> GpuScorer:
    """A scorer on a device that somebody owns, in that device's thread; see `GpuScorer`."""
    driver, architecture = device.driver.version, device.facts.compute_capability
    check_architecture(10 * architecture[0] + architecture[1])
    # Halves where every factor allows them: less to read, and within 1e-4 of float64.
    store = "f32" if choice.precision == "f32" else "f16"
    dim = local[0].mean.shape[1] if local else 0
    with ExitStack() as made:
        scorer = FrameScorer(
            device,
            kernel_image("mahalanobis", driver),
            heads,
            backbone.dim,
            local,
            store,  # type: ignore[arg-type]
        )
        made.callback(scorer.close)
        loader = None
        if frames is not None:
            loader = FrameLoader(device, kernel_image("preprocess", driver), frames)
            made.callback(loader.close)
        network = open_network(choice, device, backbone, len(heads), local is not None, dim)
        made.pop_all()  # the engine takes them over, also where it does not come to be
    return kind(device, network, scorer, graph, loader)


def open_network(
    choice: EngineChoice, device: Device, backbone: Backbone, batch: int, local: bool, dim: int
) -> GpuBackbone:
    """The choice's network on an open device."""
    if choice.kind == "torch":
        from edge_ad.backbone.torch_cuda import TorchNetwork

        with SETUP:
            return TorchNetwork(device, backbone, batch, local, dim)
    from edge_ad.engines.tensorrt import open_tensorrt

    return open_tensorrt(choice, device, backbone, batch, local, dim)
