"""The bench of delivery: a trial, the quiet part, the loaded part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge_ad.backbone.spec import Backbone
from edge_ad.bench.delivery.alone import InspectorAlone
from edge_ad.bench.delivery.line import CONSUMER, BenchLine
from edge_ad.bench.delivery.loaded import measure_loaded
from edge_ad.bench.delivery.quiet import BLOCK, Commits, QuietRun, Wire
from edge_ad.bench.delivery.result import DeliveryResult, Quiet
from edge_ad.bench.trial import Trial, make_trial, pool_size
from edge_ad.config import Profile
from edge_ad.cores import usable_cores
from edge_ad.daemon import process

WARM_UP = 3  # blocks that are not counted
DEADLINE_MS = 10_000.0  # what is late is to be seen, not to become a FAULT


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """What to measure; `frames` in either part. `own_process`: this process may be tuned as the daemon
    tunes its own."""

    backbone: Backbone
    frames: int = 2000
    width: int = 1920
    height: int = 1200
    reject_rate: float = 0.05
    threads: int = 0
    profile: Profile = "default"
    own_process: bool = True


def run_delivery_bench(
    options: DeliveryOptions, say: Callable[[str], None] = lambda _: None
) -> DeliveryResult:
    """Measure this machine. Raises DeviceError where daemon or station ends early."""
    size = (options.width, options.height)
    pool = pool_size(*size)
    with ExitStack() as stack:
        # A short path: sockets lie in it.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge_ad-")))
        say("rendering parts, fitting the Gaussians on them")
        trial = make_trial(
            directory, options.backbone, size, pool, options.reject_rate, options.threads,
            options.profile,
        )  # fmt: skip
        stack.callback(trial.engine.close)
        if options.own_process:
            cv2.setNumThreads(1)
            process.settle()
        line = BenchLine(directory, trial)
        say(f"quiet: {options.frames} parts of {options.width} x {options.height} pixels")
        quiet, rejected = _quiet(line, trial, pool, options.frames)
        path_ms = quiet.wire_pass.p50
        say(f"loaded: {options.frames} parts to the gate")
        daemon = line.daemon(evidence=True, deadline_ms=DEADLINE_MS)
        stack.callback(daemon.close)
        loaded = measure_loaded(line, daemon, pool, rejected, options.frames, path_ms)
        identity, backbone = trial.engine.identity, options.backbone
        return DeliveryResult(
            frames=options.frames,
            width=options.width,
            height=options.height,
            threads=options.threads or usable_cores(),
            backbone=backbone.name,
            backbone_sha256=backbone.sha256,
            input=f"{backbone.width} x {backbone.height}",
            runtime=identity.runtime,
            device=identity.device,
            quiet=quiet,
            loaded=loaded,
        )


def _quiet(line: BenchLine, trial: Trial, pool: int, frames: int) -> tuple[Quiet, list[int]]:
    """The figures, and which pictures of the pool are rejected."""
    with ExitStack() as stack:
        daemon = line.daemon(evidence=False, deadline_ms=DEADLINE_MS)
        stack.callback(daemon.close)
        wire = Wire(line.trigger, line.verdicts, CONSUMER)
        stack.callback(wire.close)
        alone = InspectorAlone(trial.station, pool)
        stack.callback(alone.close)
        commits = Commits(line.state / "commits")
        stack.callback(commits.close)
        run = QuietRun(
            wire, commits, pool, alone.rejected, alone.inspect, trial.engine.infer
        )  # fmt: skip
        wire.connect()
        for _ in range(WARM_UP):
            run.block()
        run.forget()
        for _ in range(max(1, frames // BLOCK)):
            run.block()
        return run.result(), alone.rejected
