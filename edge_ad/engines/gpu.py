"""Engines on an NVIDIA GPU: TensorRT's or PyTorch's network and our kernels, one graph per part.

Each has a thread of its own, which opens the GPU, uses it and closes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edge_ad.backbone.engine import Head, LocalHead
from edge_ad.backbone.spec import Backbone
from edge_ad.cuda.binaries import check_architecture, kernel_image
from edge_ad.cuda.device import Device
from edge_ad.engines.choice import EngineChoice
from edge_ad.engines.gpu_frame import GpuBackbone
from edge_ad.engines.gpu_score import FrameRules, GpuFeatures, GpuScorer, Pictures
from edge_ad.engines.owner import OwnedFeatures, OwnedScorer
from edge_ad.gaussian.cuda.launch import FrameScorer
from edge_ad.gaussian.cuda.layout import Store
from edge_ad.preprocess.cuda.launch import FrameLoader
from edge_ad.preprocess.cuda.plan import plan_preprocess

THREAD = "gpu"


def open_features(
    choice: EngineChoice, backbone: Backbone, batch: int, local: bool, dim: int
) -> OwnedFeatures:
    """See `engines.open_features`."""

    def opened() -> GpuFeatures:
        with ExitStack() as made:
            device = made.enter_context(_device())
            network = _network(choice, device, backbone, batch, local, dim)
            engine = GpuFeatures(device, network, owns_device=True)
            made.pop_all()
        return engine

    return OwnedFeatures(opened, THREAD)
