"""What makes two engines the same one: everything that a plan depends on, and its hash."""

from __future__ import annotations

import hashlib

import msgspec

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.config import Precision
from edge_ad.cuda.facts import DeviceFacts


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a station knows before any graph is converted, and so what an engine is looked up by.

    `local_dim` are features per position, 0: the engine has no output `local`.
    """

    library: str
    library_version: str
    backbone_sha256: str
    precision: Precision
    batch: int
    local_dim: int
    device: DeviceFacts


class EngineKey(Wanted, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`Wanted`, and what only the build knows: the sha256 of the converted graph (with int8 it holds the
    ranges) and what the builder was told."""

    onnx_sha256: str
    flags: tuple[str, ...]
    optimization_level: int

    @property
    def id(self) -> str:
        """The sha256 over all of it, in hex: the name of the engine's directory."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    @property
    def wanted(self) -> Wanted:
        """What it is looked up by."""
        return Wanted(**{name: getattr(self, name) for name in Wanted.__struct_fields__})


def identity(wanted: Wanted, plan_sha256: str = "", driver: str = "") -> EngineIdentity:
    """As bundles name the engine that their statistics and threshold belong to: with another plan, or
    under another driver, a bundle's reference frames are scored again."""
    return EngineIdentity(
        kind=wanted.library,
        runtime=wanted.library_version,
        device=wanted.device.name,
        precision=wanted.precision,
        backbone_sha256=wanted.backbone_sha256,
        build=plan_sha256,
        driver=driver,
    )
