"""Which engine runs a backbone here: one choice, and the engine of it. Runtimes are imported when they
are opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_ad.backbone.engine import FeatureEngine, Head, LocalHead, ScoreEngine
from edge_ad.backbone.spec import Backbone
from edge_ad.engines.choice import (
    REFERENCE,
    EngineChoice,
    chosen_engine,
    engine_cache,
    reference_engine,
)

if TYPE_CHECKING:
    from edge_ad.preprocess.cuda.plan import PreprocessPlan

__all__ = [
    "REFERENCE",
    "EngineChoice",
    "chosen_engine",
    "engine_cache",
    "open_features",
    "open_scorer",
    "reference_engine",
]


def open_features(
    choice: EngineChoice, backbone: Backbone, batch: int = 1, local: bool = False, dim: int = 0
) -> FeatureEngine:
    """The bare backbone: uint8 [batch, H, W, 3] to float32 pooled features [batch, D].

    With `local` also the features per position, `dim` of them where that is fewer than the backbone has
    (0: all). Raises ConfigError for what the choice cannot do, ArtifactError for a graph that is
    refused, DeviceError where the runtime or its device is missing.
    """
    if choice.on_gpu:
        from edge_ad.engines import gpu

        return gpu.open_features(choice, backbone, batch, local, dim)
    if choice.kind == "torch":
        from edge_ad.backbone import torch as torch_engine

        return torch_engine.open_features(backbone, batch, choice.threads, local, dim)
    from edge_ad.backbone import openvino

    return openvino.open_features(backbone, batch, choice.threads, choice.precision, local, dim)


def open_scorer(
    choice: EngineChoice,
    backbone: Backbone,
    heads: Sequence[Sequence[Head]],
    local: Sequence[LocalHead] | None = None,
    frames: PreprocessPlan | None = None,
) -> ScoreEngine:
    """The backbone with its Gaussians: uint8 [B, H, W, 3] to float32 distances [B, L].

    `heads[b][l]` is level l of the tile in batch row b; `local[b]` are that row's Gaussians per
    position. With `frames` an engine on a GPU takes a part's frames instead of pictures (see
    `FrameEngine`). Raises as `open_features` does.
    """
    if choice.on_gpu:
        from edge_ad.engines import gpu

        return gpu.open_scorer(choice, backbone, heads, local, frames)
    if choice.kind == "torch":
        from edge_ad.backbone import torch as torch_engine

        return torch_engine.open_scorer(backbone, heads, choice.threads, local)
    from edge_ad.backbone import openvino

    return openvino.open_scorer(backbone, heads, choice.threads, choice.precision, local)
