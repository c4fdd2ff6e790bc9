"""ONNX to a serialised plan, by the builder and parser that TensorRT 10, 11 and TensorRT-RTX share."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edge_ad.backbone.tensorrt.library import LAST_WEAK, Library
from edge_ad.backbone.tensorrt.log import Messages, make_log
from edge_ad.errors import ArtifactError, ConfigError, DeviceError

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Options:
    """How the builder looks for kernels. `workspace_mib` 0: as much as the card has."""

    optimization_level: int = 3
    workspace_mib: int = 0
    # Let the builder choose f16 layer by layer, as TensorRT 10.3 and before may need it.
    weak_fp16: bool = False
    # Let float32 convolutions round their inputs to 10 bits of mantissa: for the rest of int8 alone.
    tf32: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """What changes the engine, for its key. A workspace limit does: it rules out kernels."""
        typing = "weak-fp16" if self.weak_fp16 else "strongly-typed"
        limit = (f"workspace-{self.workspace_mib}",) if self.workspace_mib else ()
        return (typing, "tf32" if self.tf32 else "no-tf32", *limit)


@dataclass(frozen=True, slots=True)
class Built:
    """A plan, and what is known of its making. `timings` is b"" where the library keeps none."""

    plan: bytes
    layers: int
    seconds: float
    timings: bytes
    warnings: tuple[str, ...]


def build_plan(library: Library, onnx: bytes, options: Options, timings: bytes = b"") -> Built:
    """Build the engine of a graph whose shapes are all fixed; `timings` are those of earlier builds.

    Raises ArtifactError naming every part of the graph that the parser refuses, ConfigError for options
    that this version does not have, DeviceError when the builder fails.
    """
    check_options(library, options)
    trt = library.module
    log, messages = make_log(trt)
    started = time.monotonic()
    builder = _some(trt.Builder(log), "Builder", library, messages)
    bits = 0 if options.weak_fp16 else library.strongly_typed
    network = _some(builder.create_network(bits), "create_network", library, messages)
    _parse(library, network, onnx, log)
    config = _some(builder.create_builder_config(), "create_builder_config", library, messages)
    _configure(trt, config, options)
    _add_profile(library, builder, network, config, messages)
    if options.weak_fp16:
        allow_half(trt, network, config)
    if library.timing_cache:
        attach_timings(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise DeviceError(
            f"{library.name} {library.version} cannot build the engine: {messages.last_error()}; free "
            "memory on the card, give a smaller --batch, or another --precision"
        )
    kept = read_timings(config) if library.timing_cache else b""
    seconds = time.monotonic() - started
    return Built(bytes(plan), network.num_layers, seconds, kept, tuple(messages.warnings))


def check_options(library: Library, options: Options) -> None:
    """Raise ConfigError for what this version of the library does not have."""
    if options.weak_fp16 and not library.weak_fp16:
        raise ConfigError(
            f"--weak-fp16 is for TensorRT {LAST_WEAK[0]}.{LAST_WEAK[1]} and before, {library.name} "
            f"{library.version} is installed; leave it out"
        )


def allow_half(trt: Any, network: Any, config: Any) -> None:
    """For 10.3 and before, on a float32 graph: f16 where the builder finds it faster, but float32 for
    the reductions, the normalisation ahead of the first convolution, and the outputs, obeyed or refused.
    """
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    ahead = True
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        ahead = ahead and layer.type != trt.LayerType.CONVOLUTION
        if layer.type == trt.LayerType.REDUCE or (ahead and layer.type == trt.LayerType.ELEMENTWISE):
            layer.precision = trt.DataType.FLOAT
            layer.set_output_type(0, trt.DataType.FLOAT)
    for i in range(network.num_outputs):
        network.get_output(i).dtype = trt.DataType.FLOAT


def attach_timings(config: Any, timings: bytes) -> bool:
    """Let the builder use the timings of earlier builds; those of another card or version do not count,
    and it starts with none. Returns whether they were taken."""
    cache = config.create_timing_cache(timings)
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
        return bool(timings)
    config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return False


def read_timings(config: Any) -> bytes:
    """The timings of this build and of those before."""
    cache = config.get_timing_cache()
    return b"" if cache is None else bytes(cache.serialize())


def _parse(library: Library, network: Any, onnx: bytes, log: Any) -> None:
    parser = library.module.OnnxParser(network, log)
    if parser.parse(onnx) and not parser.num_errors:
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    raise ArtifactError(
        f"{library.name} {library.version} does not take the backbone's graph: {_each(errors)}; export "
        "it again with this edge_ad, or install a newer TensorRT"
    )


def _each(errors: Iterable[Any]) -> str:
    told = []
    for i, error in enumerate(errors, 1):
        node = f" at {error.node_operator()} {error.node_name()!r}" if error.node_name() else ""
        text = " ".join(str(error.desc()).split())
        told.append(f"({i}) {error.code().name}{node}: {text}")
    return "; ".join(told) or "it names no error"


def _configure(trt: Any, config: Any, options: Options) -> None:
    config.builder_optimization_level = options.optimization_level
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if options.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # set by default: float32 would not be what it says


def _add_profile(library: Library, builder: Any, network: Any, config: Any, messages: Messages) -> None:
    """One profile in which smallest, usual and largest shapes are the same one."""
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shape = tuple(tensor.shape)
        if min(shape) < 1:
            raise ArtifactError(
                f"input {tensor.name!r} of the graph has shape {shape}; engines are of one size, "
                "prepare the graph with a fixed batch"
            )
        profile.set_shape(tensor.name, shape, shape, shape)
    if config.add_optimization_profile(profile) < 0:
        raise DeviceError(
            f"{library.name} {library.version} refuses the profile of fixed shapes: "
            f"{messages.last_error()}; install the version that edge_ad was tested with"
        )


def _some(made: Any, what: str, library: Library, messages: Messages) -> Any:
    if made is None:
        raise DeviceError(
            f"{library.name} {library.version}: {what} fails: {messages.last_error()}; look at the "
            "driver and the free memory of the card"
        )
    return made
