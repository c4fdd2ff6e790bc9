"""`edge-ad backbone build`: one engine, from the backbone's directory into the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.tensorrt.build import Built, Options, build_plan, check_options
from edge_ad.backbone.tensorrt.cache import (
    Entry,
    Record,
    check_writable,
    read_entries,
    read_plan,
    read_timings,
    store,
    write_timings,
)
from edge_ad.backbone.tensorrt.compare import feature_errors, made_up_frames
from edge_ad.backbone.tensorrt.graph import prepare
from edge_ad.backbone.tensorrt.half import to_half
from edge_ad.backbone.tensorrt.key import EngineKey
from edge_ad.backbone.tensorrt.library import Library
from edge_ad.backbone.tensorrt.quantize import to_int8
from edge_ad.config import Precision
from edge_ad.cuda.facts import NO_DEVICE, DeviceFacts
from edge_ad.errors import ArtifactError, ConfigError

Say = Callable[[str], None]
Frames = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Request:
    """What to build. `frames` are network inputs [batch, H, W, 3] of the line; int8 needs them, and the
    conversion is compared on the first of them."""

    backbone: Backbone
    precision: Precision = "f16"
    batch: int = 1
    local_dim: int = 0
    frames: Frames = ()
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Converted:
    """A graph in its precision: its bytes, and its errors against float32 per level."""

    onnx: bytes
    errors: dict[str, float]

    @property
    def sha256(self) -> str:
        """Of the bytes."""
        return hashlib.sha256(self.onnx).hexdigest()


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a request. `entry` is None where nothing was kept, `built` where it was there."""

    key: EngineKey
    converted: Converted
    entry: Entry | None
    built: Built | None


def convert(request: Request) -> Converted:
    """The backbone's graph in the asked precision, compared with float32 on the CPU.

    Raises ArtifactError when a feature is NaN or Inf in it, and what `prepare` and `to_int8` raise.
    """
    if request.precision == "int8" and not request.frames:
        raise ConfigError(
            "--precision int8: its ranges come from pictures of good parts; give their directory with "
            "--frames"
        )
    backbone = request.backbone
    model = prepare(backbone, request.batch, request.local_dim)
    if request.precision == "f32" or request.options.weak_fp16:
        return Converted(_bytes(model), {})
    changed = to_half(model) if request.precision == "f16" else to_int8(model, request.frames)
    shape = (request.batch, backbone.height, backbone.width, 3)
    errors = feature_errors(model, changed, backbone, request.frames[:2] or made_up_frames(shape))
    for what, error in errors.items():
        if not np.isfinite(error):
            raise ArtifactError(
                f"{backbone.onnx_path}: {what} is not finite in {request.precision}, though float32 is: "
                "its activations are too large; give --precision f32"
            )
    return Converted(_bytes(changed), errors)


def make_engine(
    request: Request,
    library: Library,
    device: DeviceFacts,
    driver: str,
    cache: Path | None,
    say: Say = lambda _: None,
) -> Made:
    """Convert, build and keep the engine; one that is in the cache and whole is not built again.

    `cache` None: nothing is kept, to see whether a network parses and builds.
    """
    check_options(library, request.options)
    if request.options.weak_fp16 and request.precision != "f16":
        raise ConfigError(
            f"--weak-fp16 with --precision {request.precision}: it is for f16; leave it out"
        )
    if cache is not None:
        check_writable(cache)
    say(f"converting {request.backbone.name} to {request.precision}")
    converted = convert(request)
    options = replace(request.options, tf32=request.precision == "int8")
    key = _key(request, library, device, options, converted.sha256)
    if cache is not None and (entry := _kept(cache, key, say)) is not None:
        return Made(key, converted, entry, None)
    place = device.text if device != NO_DEVICE else "no card"
    say(f"building with {library.name} {library.version} for {place}")
    timings = read_timings(cache, library, device) if cache is not None else b""
    built = build_plan(library, converted.onnx, options, timings)
    if cache is None:
        return Made(key, converted, None, built)
    entry = store(cache, _record(key, built, driver, converted.errors), built.plan)
    if built.timings:
        write_timings(cache, library, device, built.timings)
    return Made(key, converted, entry, built)


def _key(
    request: Request, library: Library, device: DeviceFacts, options: Options, onnx_sha256: str
) -> EngineKey:
    return EngineKey(
        library=library.name,
        library_version=library.version,
        backbone_sha256=request.backbone.sha256,
        precision=request.precision,
        batch=request.batch,
        local_dim=request.local_dim,
        device=device,
        onnx_sha256=onnx_sha256,
        flags=options.flags,
        optimization_level=options.optimization_level,
    )


def _record(key: EngineKey, built: Built, driver: str, errors: dict[str, float]) -> Record:
    return Record(
        key=key,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        plan_bytes=len(built.plan),
        layers=built.layers,
        build_seconds=round(built.seconds, 3),
        created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        driver=driver,
        conversion_errors=errors,
    )


def _kept(cache: Path, key: EngineKey, say: Say) -> Entry | None:
    """The engine of this very key, where it is there, whole and not known to be off; another one is said
    and built anew."""
    for entry in read_entries(cache)[0]:
        if entry.record.key == key:
            if entry.off:
                say(f"{entry.plan_path}: its features were found to be off; it is built anew")
                return None
            try:
                read_plan(entry)
            except ArtifactError as error:
                say(f"{error}")
                return None
            return entry
    return None


def _bytes(model: Any) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))
