"""What a GPU needs for a part: the network alone, the kernels alone, the whole frame with and without a
graph."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Backbone
from edge_ad.bench.trial import CAMERA, make_trial, pool_images
from edge_ad.bundle import current_path, open_bundle
from edge_ad.bundle.frames import gpu_frames
from edge_ad.config import Precision, Profile, Station
from edge_ad.cuda.bandwidth import copy_bandwidth, floor_us
from edge_ad.cuda.device import Device
from edge_ad.engines.choice import REFERENCE, EngineChoice, engine_cache
from edge_ad.engines.gpu import make_scorer, open_network
from edge_ad.engines.gpu_engine import GpuFeatures, GpuScorer
from edge_ad.errors import ConfigError
from edge_ad.frame import Image
from edge_ad.preprocess import PartInput
from edge_ad.preprocess.tiles import WHOLE, Tiles
from edge_ad.preprocess.views import count_tiles

WARM_UP = 200  # frames at most before any counts: clocks go up
ROUNDS = 10  # of network, graph and stream in turn, so that a slow minute is shared
PARTS = 16  # different ones, shown in turn
REPEATS = 20  # of a stage alone, in one graph
LAUNCHES = 200  # of that graph at most


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """What to measure: `kind` "tensorrt", or "torch" on the GPU; frames of (width, height), Mono8."""

    backbone: Backbone
    kind: str = "tensorrt"
    precision: Precision = "f16"
    frames: int = 2000
    width: int = 1920
    height: int = 1200
    profile: Profile = "default"
    tiles: Tiles = WHOLE


class Spread(msgspec.Struct, frozen=True):
    """Microseconds."""

    p50: float
    p95: float
    p99: float
    p999: float
    max: float


class Alone(msgspec.Struct, frozen=True):
    """Kernels alone: microseconds of the GPU per frame, median; the bytes that they read at least, the
    microseconds that these take at the bandwidth of a copy, and the first over the last."""

    us: float
    bytes: int
    floor_us: float
    over_floor: float


class GpuResult(msgspec.Struct, frozen=True):
    """`network`, `graph` and `stream` by the host's clock, in turn; `stages` between events on the GPU,
    which also count what a launch of the next stage is waited for.

    network: a picture in page-locked memory to features in page-locked memory, as one graph; graph,
    stream: a camera's frame in memory to distances, positions with them where the profile has them.
    `captured`: false where the network cannot be in a graph (PyTorch's); then all three are launched.
    """

    network: Spread
    graph: Spread
    stream: Spread
    captured: bool
    graph_p99_over_p50: float
    stream_over_graph: float
    stages: dict[str, Spread]
    kernels: dict[str, Alone]
    copy_gbs: float
    frames: int
    width: int
    height: int
    profile: Profile
    tiles: Tiles
    backbone: str
    backbone_sha256: str
    input: str
    engine: str
    runtime: str
    device: str


def run_gpu_bench(options: GpuOptions, say: Callable[[str], None] = lambda _: None) -> GpuResult:
    """Measure this machine's first GPU. An engine of TensorRT is built first.

    Raises DeviceError without a driver, kernels, TensorRT or PyTorch; ConfigError for a precision that
    the engine does not have.
    """
    if options.kind == "torch" and options.precision != "f32":
        raise ConfigError(f"--engine torch: has no precision {options.precision}; give --precision f32")
    with tempfile.TemporaryDirectory(prefix="edge_ad-bench-") as temporary, ExitStack() as made:
        # What is missing is said before anything is rendered.
        made.enter_context(Device()).close()
        say("rendering parts, fitting the Gaussians on them")
        size = (options.width, options.height)
        trial = make_trial(
            Path(temporary), options.backbone, size, PARTS, 0.05, 0, options.profile, None, options.tiles
        )
        trial.engine.close()
        images, _ = pool_images(trial.station, PARTS)
        choice = EngineChoice(
            "torch" if options.kind == "torch" else "tensorrt",
            options.precision,
            device="cuda" if options.kind == "torch" else "",
            cache=str(engine_cache(trial.station)),
        )
        if choice.kind == "tensorrt":
            _build(trial.station, options, images, say)
        device = made.enter_context(Device())
        return _measure(device, choice, trial.station, options, images, say)


def _build(
    station: Station, options: GpuOptions, images: Sequence[Image], say: Callable[[str], None]
) -> None:
    from edge_ad.backbone.tensorrt.make import Request
    from edge_ad.calibrate.plan import choose_local
    from edge_ad.engines.build import build_engine

    backbone = options.backbone
    local = choose_local(station, backbone)
    tiles = count_tiles(station.views)
    pictures = []
    if options.precision == "int8":
        part = PartInput(station.views, [CAMERA], backbone.height, backbone.width)
        for image in images:
            pictures.append(np.zeros((tiles, backbone.height, backbone.width, 3), np.uint8))
            part.fill([image], pictures[-1])
    dim = 0 if local is None else local.dim
    request = Request(backbone, options.precision, tiles, dim, pictures)
    build_engine(request, engine_cache(station), say=say)


def _measure(
    device: Device,
    choice: EngineChoice,
    station: Station,
    options: GpuOptions,
    images: Sequence[Image],
    say: Callable[[str], None],
) -> GpuResult:
    path = current_path(station.state_path, station.product)
    assert path is not None
    bundle, backbone = open_bundle(path), options.backbone
    heads, local = bundle.heads(REFERENCE.key), bundle.local_heads(REFERENCE.key)
    plan = gpu_frames(bundle)
    assert plan is not None  # one camera of a set size, which locates nothing
    dim = local[0].mean.shape[1] if local else 0
    with ExitStack() as opened:
        network = GpuFeatures(
            device, open_network(choice, device, backbone, len(heads), local is not None, dim)
        )
        opened.callback(network.close)
        scorers = {}
        for name, graph in (("graph", True), ("stream", False)):
            scorers[name] = make_scorer(GpuScorer, choice, device, backbone, heads, local, plan, graph)
            opened.callback(scorers[name].close)
        say(
            f"{options.frames} parts of {options.width} x {options.height} pixels on {device.facts.name}"
        )
        times = _in_turn(network, scorers, images, options.frames)
        stages = scorers["stream"].time_stages(options.frames)
        copy_gbs = copy_bandwidth(device)
        kernels = {
            name: _alone(scorers["stream"], name, size, copy_gbs, min(LAUNCHES, options.frames))
            for name, size in scorers["stream"].bytes_per_frame.items()
        }
        spreads = {name: spread(each) for name, each in times.items()}
        return GpuResult(
            **spreads,
            captured=scorers["graph"].captured,
            graph_p99_over_p50=round(spreads["graph"].p99 / spreads["graph"].p50, 3),
            stream_over_graph=round(spreads["stream"].p50 / spreads["graph"].p50, 3),
            stages={name: spread(1e3 * each) for name, each in stages.items()},
            kernels=kernels,
            copy_gbs=round(copy_gbs, 1),
            frames=options.frames,
            width=options.width,
            height=options.height,
            profile=options.profile,
            tiles=options.tiles,
            backbone=backbone.name,
            backbone_sha256=backbone.sha256,
            input=f"{backbone.width} x {backbone.height}",
            engine=network.identity.key,
            runtime=network.identity.runtime,
            device=network.identity.device,
        )


def _in_turn(
    network: GpuFeatures, scorers: dict[str, GpuScorer], images: Sequence[Image], frames: int
) -> dict[str, NDArray[np.float64]]:
    """Microseconds [frames] of each by the host's clock."""
    each = max(1, frames // ROUNDS)
    runs: dict[str, Callable[[int], object]] = {"network": lambda _: network.infer()}
    runs |= {name: _whole(scorer, images) for name, scorer in scorers.items()}
    for run in runs.values():
        host_times(run, min(WARM_UP, frames))
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            found[name].append(host_times(run, each))
    return {name: np.concatenate(some) for name, some in found.items()}


def _whole(scorer: GpuScorer, images: Sequence[Image]) -> Callable[[int], object]:
    """One part after the other, from frame to distances."""

    def run(i: int) -> object:
        scorer.take((images[i % len(images)],), (None,))
        return scorer.infer()

    return run


def host_times(run: Callable[[int], object], frames: int) -> NDArray[np.float64]:
    """Microseconds [frames] of `run(i)` by the host's clock."""
    clock = time.perf_counter_ns
    times = np.zeros(frames)
    for i in range(frames):
        start = clock()
        run(i)
        times[i] = clock() - start
    return times / 1e3


def spread(microseconds: NDArray[np.float64]) -> Spread:
    """Its percentiles."""
    return Spread(*(round(float(np.percentile(microseconds, q)), 2) for q in (50, 95, 99, 99.9, 100)))


def _alone(scorer: GpuScorer, stage: str, size: int, copy_gbs: float, launches: int) -> Alone:
    took = 1e3 * float(np.median(scorer.time_alone(stage, REPEATS, launches)))
    least = floor_us(size, copy_gbs)
    return Alone(round(took, 2), size, round(least, 2), round(took / least, 2))
