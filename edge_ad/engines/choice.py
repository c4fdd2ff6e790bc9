"""Which engine runs a backbone: what a station file says of it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_ad.config import EngineKind, Precision, Station

ENGINES = "engines"  # in the state directory: what `edge-ad backbone build` keeps


class EngineChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs the network: `[engine]` of a station file without the network.

    threads: of a CPU, 0: one per physical core; device: of kind "torch" alone, "cpu" or "cuda", empty is
    "cpu"; cache: where engines lie that were built; build: the command that builds one; plan: the sha256
    of the one that is preferred where several serve.
    """

    kind: EngineKind = "openvino"
    precision: Precision = "f32"
    threads: int = 0
    device: str = ""
    cache: str = ""
    build: str = "edge-ad backbone build"
    plan: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.kind == "tensorrt" or self.device == "cuda"

    @property
    def key(self) -> str:
        """The name of the bundle's section: see `EngineIdentity.key`."""
        return f"{self.kind}-{self.precision}"


REFERENCE = EngineChoice()
"""The engine that every other one is measured against, and that takes over where one fails."""


def chosen_engine(station: Station, threads: int = 0) -> EngineChoice:
    """The station's engine; threads: other than its own, where they are given."""
    engine = station.engine
    frames = " --frames GOOD_PARTS" if engine.precision == "int8" else ""
    return EngineChoice(
        engine.kind,
        engine.precision,
        threads or engine.threads,
        engine.device,
        str(engine_cache(station)),
        f"edge-ad backbone build -c {station.path or 'LINE.toml'} "
        f"--precision {engine.precision}{frames}",
    )


def reference_engine(station: Station, threads: int = 0) -> EngineChoice | None:
    """What the station's engine is measured against, and replaced by where it fails; None where it is
    that one itself."""
    if chosen_engine(station).key == REFERENCE.key:
        return None
    return EngineChoice(threads=threads or station.engine.threads)


def engine_cache(station: Station) -> Path:
    """The directory of the station's built engines."""
    return station.state_path / ENGINES
