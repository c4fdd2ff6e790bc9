"""Which engine runs a backbone here: one choice, and the engine of it. Runtimes are imported when they
are opened.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_ad.backbone.engine import FeatureEngine, Head, LocalHead, ScoreEngine
from edge_ad.backbone.spec import Backbone
from edge_ad.config import EngineKind, Precision, Station
from edge_ad.errors import ConfigError


class EngineChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs the network: `[engine]` of a station file without the network. threads 0: one per
    physical core; device: of kind "torch" alone, "cpu" or "cuda"."""

    kind: EngineKind = "openvino"
    precision: Precision = "f32"
    threads: int = 0
    device: str = ""

    @property
    def key(self) -> str:
        """The name of the bundle's section: see `EngineIdentity.key`."""
        return f"{self.kind}-{self.precision}"


REFERENCE = EngineChoice()
"""The engine that every other one is measured against, and that takes over where one fails."""


def chosen_engine(station: Station, threads: int = 0) -> EngineChoice:
    """The station's engine; threads: other than its own, where they are given."""
    engine = station.engine
    return EngineChoice(engine.kind, engine.precision, threads or engine.threads, engine.device)


def reference_engine(station: Station, threads: int = 0) -> EngineChoice | None:
    """What the station's engine is measured against, and replaced by where it fails; None where it is
    that one itself."""
    if chosen_engine(station).key == REFERENCE.key:
        return None
    return EngineChoice(threads=threads or station.engine.threads)


def open_features(
    choice: EngineChoice, backbone: Backbone, batch: int = 1, local: bool = False, dim: int = 0
) -> FeatureEngine:
    """The bare backbone: uint8 [batch, H, W, 3] to float32 pooled features [batch, D].

    With `local` also the features per position, `dim` of them where that is fewer than the backbone has
    (0: all). Raises ConfigError for what the choice cannot do, ArtifactError for a graph that is
    refused, DeviceError where the runtime or its device is missing.
    """
    if choice.kind == "torch":
        from edge_ad.backbone import torch as torch_engine

        _check_device(choice)
        return torch_engine.open_features(backbone, batch, choice.threads, local, dim)
    from edge_ad.backbone import openvino

    return openvino.open_features(backbone, batch, choice.threads, choice.precision, local, dim)


def open_scorer(
    choice: EngineChoice,
    backbone: Backbone,
    heads: Sequence[Sequence[Head]],
    local: Sequence[LocalHead] | None = None,
) -> ScoreEngine:
    """The backbone with its Gaussians: uint8 [B, H, W, 3] to float32 distances [B, L].

    `heads[b][l]` is level l of the tile in batch row b; `local[b]` are that row's Gaussians per
    position. Raises as `open_features` does.
    """
    if choice.kind == "torch":
        from edge_ad.backbone import torch as torch_engine

        _check_device(choice)
        return torch_engine.open_scorer(backbone, heads, choice.threads, local)
    from edge_ad.backbone import openvino

    return openvino.open_scorer(backbone, heads, choice.threads, choice.precision, local)


def _check_device(choice: EngineChoice) -> None:
    if choice.device not in ("", "cpu"):
        raise ConfigError(f"engine.device: {choice.device!r} is unknown; have 'cpu'")
