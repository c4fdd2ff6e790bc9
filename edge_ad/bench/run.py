"""The runs: once quiet, once with a subscriber and a scraper, each interleaved with the bare engine."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Backbone
from edge_ad.bench.load import Load, Taken
from edge_ad.bench.timing import Stopwatch, TimedLoop, TriggeredCamera
from edge_ad.bench.trial import Trial, make_trial
from edge_ad.capture.source import Source, open_source
from edge_ad.config import Camera, Profile
from edge_ad.cores import usable_cores
from edge_ad.daemon import Daemon
from edge_ad.errors import DeviceError
from edge_ad.preprocess.tiles import WHOLE, Tiles

MAX_WARM_UP = 200  # parts that are inspected first and not counted


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure. `own_process`: this process may be tuned as the daemon tunes its own; `beside`:
    the backbone whose bare engine the path is compared with, its own where none is given; `tiles`: rows
    and columns, which the bare engine gets as one batch too."""

    backbone: Backbone
    frames: int = 2000
    width: int = 1920
    height: int = 1200
    reject_rate: float = 0.05
    threads: int = 0
    profile: Profile = "default"
    own_process: bool = True
    beside: Backbone | None = None
    tiles: Tiles = WHOLE


class Run(msgspec.Struct, frozen=True):
    """One run. Times in ms; the stages are medians and add up to about `path_p50_ms`."""

    engine_p50_ms: float
    engine_p99_ms: float
    path_p50_ms: float
    path_p99_ms: float
    path_p999_ms: float
    path_max_ms: float
    ratio_p50: float
    preprocess_p50_ms: float
    scoring_p50_ms: float  # the engine with the Gaussians
    verdict_p50_ms: float
    hand_over_p50_ms: float  # from the queue to the inspector, and from it to the publisher
    dropped: int  # frames skipped, verdicts not published, verdicts not received
    reject_share: float
    scrapes: int = 0
    scrape_ms: float = 0.0


class Result(msgspec.Struct, frozen=True):
    """Both runs. The figures of the loaded one stand at the top level."""

    engine_p50_ms: float
    path_p50_ms: float
    path_p99_ms: float
    path_p999_ms: float
    ratio_p50: float
    dropped: int
    frames: int
    width: int
    height: int
    threads: int
    profile: Profile
    backbone: str
    backbone_sha256: str
    input: str
    tiles: Tiles
    engine: str  # the bare engine's network and input
    runtime: str
    device: str
    loaded: Run
    quiet: Run


def run_bench(options: Options, say: Callable[[str], None] = lambda _: None) -> Result:
    """Measure this machine. Raises DeviceError when the daemon ends early."""
    warm_up = min(MAX_WARM_UP, max(1, options.frames // 10))
    size = (options.width, options.height)
    with tempfile.TemporaryDirectory(prefix="edge_ad-bench-") as temporary:
        say("rendering parts, fitting the Gaussians on them")
        trial = make_trial(
            Path(temporary), options.backbone, size, warm_up + options.frames, options.reject_rate,
            options.threads, options.profile, options.beside, options.tiles,
        )  # fmt: skip
        runs = {}
        for name, load in (("quiet", None), ("loaded", Load())):
            say(f"{name}: {options.frames} parts of {options.width} x {options.height} pixels")
            runs[name] = _measure(trial, options, warm_up, load)
        trial.engine.close()
    loaded, identity, backbone = runs["loaded"], trial.engine.identity, options.backbone
    bare = options.beside or backbone
    return Result(
        **{key: getattr(loaded, key) for key in Result.__struct_fields__[:6]},
        frames=options.frames,
        width=options.width,
        height=options.height,
        threads=options.threads or usable_cores(),
        profile=options.profile,
        backbone=backbone.name,
        backbone_sha256=backbone.sha256,
        input=f"{backbone.width} x {backbone.height}",
        tiles=options.tiles,
        engine=f"{bare.name} at {bare.width} x {bare.height}",
        runtime=identity.runtime,
        device=identity.device,
        loaded=loaded,
        quiet=runs["quiet"],
    )


def _measure(trial: Trial, options: Options, warm_up: int, load: Load | None) -> Run:
    total = warm_up + options.frames
    stopwatch, trigger = Stopwatch(total), threading.Semaphore(0)

    def source(camera: Camera, base: Path) -> Source:
        return TriggeredCamera(open_source(camera, base), trigger)

    daemon = Daemon(
        trial.station,
        make_source=source,
        make_loop=lambda *arguments: TimedLoop(stopwatch, trial.engine, trigger.release, *arguments),
        own_process=options.own_process,
    )
    daemon.start()
    taken = Taken(parts=total)
    try:
        if load is not None:
            load.connect(
                daemon.channels.scores.endpoint, trial.station.control_endpoint, daemon.http.url
            )
    finally:
        trigger.release()
        code = daemon.run()
    if load is not None:
        taken = load.finish()
    if code or stopwatch.count != total:
        raise DeviceError(
            f"the daemon judged {stopwatch.count} of {total} parts and ended with exit code {code}; "
            "its log says why"
        )
    dropped = daemon.feeds[0].skipped + daemon.channels.publisher.dropped + max(0, total - taken.parts)
    return _summary(stopwatch, warm_up, dropped, daemon.loop.rejects / total, taken)


def _summary(stopwatch: Stopwatch, warm_up: int, dropped: int, reject_share: float, taken: Taken) -> Run:
    engine, path = stopwatch.engine[warm_up:], stopwatch.path[warm_up:]
    stages = stopwatch.stages[warm_up:]
    rest = path - stages.sum(1)
    return Run(
        engine_p50_ms=_ms(engine, 50),
        engine_p99_ms=_ms(engine, 99),
        path_p50_ms=_ms(path, 50),
        path_p99_ms=_ms(path, 99),
        path_p999_ms=_ms(path, 99.9),
        path_max_ms=_ms(path, 100),
        ratio_p50=round(float(np.median(path) / np.median(engine)), 4),
        preprocess_p50_ms=_ms(stages[:, 0], 50),
        scoring_p50_ms=_ms(stages[:, 1], 50),
        verdict_p50_ms=_ms(stages[:, 2], 50),
        hand_over_p50_ms=_ms(rest, 50),
        dropped=dropped,
        reject_share=round(reject_share, 4),
        scrapes=taken.scrapes,
        scrape_ms=round(taken.scrape_ms, 1),
    )


def _ms(nanoseconds: NDArray[np.int64], percentile: float) -> float:
    return round(float(np.percentile(nanoseconds, percentile)) / 1e6, 4)
