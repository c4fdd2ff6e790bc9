"""Pictures with Gaussians near their features, and GPU engines for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from gpu_backbones import HostBackbone
from made_up_gaussians import local_head, whitening
from numpy.typing import NDArray

from edge_ad.backbone.engine import Head, LocalHead
from edge_ad.backbone.openvino import open_features, open_scorer
from edge_ad.backbone.spec import Backbone
from edge_ad.cuda.device import Device
from edge_ad.engines.gpu_engine import GpuScorer
from edge_ad.gaussian.cuda.launch import FrameScorer

IMAGE = b"whatever nvcc made"
GRID, DIM, REGRESSORS = (4, 4), 6, 5
Store = Any


@dataclass
class Calibrated:
    """A batch of pictures, and Gaussians near their features."""

    backbone: Backbone
    pictures: NDArray[np.uint8]
    heads: list[list[Head]]
    local: list[LocalHead]

    @property
    def batch(self) -> int:
        return len(self.pictures)

    def network(self, device: Device, local: bool = True) -> HostBackbone:
        return HostBackbone(device, self.backbone, self.batch, DIM if local else None)

    @contextmanager
    def scorer(self, device: Device, graph: bool = True, store: Store = "f32") -> Iterator[GpuScorer]:
        """An engine, its pictures written."""
        kernels = FrameScorer(device, IMAGE, self.heads, self.backbone.dim, self.local, store)
        engine = GpuScorer(device, self.network(device), kernels, graph)
        engine.input[:] = self.pictures
        yield engine
        engine.close()

    def expected(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Distances, cells and local features by OpenVINO."""
        engine = open_scorer(self.backbone, self.heads, 1, local=self.local)
        engine.input[:] = self.pictures
        assert engine.cells is not None
        assert engine.local is not None
        return engine.infer().copy(), engine.cells.copy(), engine.local.copy()


def near(features: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A mean."""
    return (features + rng.normal(0, 0.1, features.shape)).astype(np.float32)


def calibrated(backbone: Backbone, batch: int, seed: int = 0) -> Calibrated:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (batch, backbone.height, backbone.width, 3), dtype=np.uint8)
    engine = open_features(backbone, batch, 1)
    engine.input[:] = pictures
    heads = [
        [
            Head(
                level.offset,
                near(row[level.offset : level.offset + level.dim], rng),
                whitening(rng, level.dim - i, level.dim),
            )
            for i, level in enumerate(backbone.levels)
        ]
        for row in engine.infer()
    ]
    local = [local_head(rng, GRID, DIM - t, DIM, REGRESSORS * (t != 1)) for t in range(batch)]
    return Calibrated(backbone, pictures, heads, local)
