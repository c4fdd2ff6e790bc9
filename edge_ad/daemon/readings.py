"""What the daemon's threads count and what they run, as metrics."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import ProcessCollector

from edge_ad import __version__
from edge_ad.daemon.active import Active
from edge_ad.daemon.cameras import CameraFeed
from edge_ad.daemon.publishing import Publisher
from edge_ad.daemon.triggered import TriggeredParts
from edge_ad.delivery.trigger import BAD_REQUEST
from edge_ad.evidence.score_keeper import ScoreKeeper
from edge_ad.evidence.writer import EvidenceWriter
from edge_ad.metrics import STATES, Metrics

if TYPE_CHECKING:
    from edge_ad.daemon.service import Daemon


def describe(metrics: Metrics, active: Active) -> None:
    """Say which program and which bundle is at work, and what the bundle promises."""
    metrics.describe_build(__version__, platform.python_version())
    if active.inspector is None:
        metrics.describe_bundle(None, 0.0, {})
        metrics.describe_detection({})
        return
    bundle, key = active.inspector.bundle, active.inspector.identity.key
    manifest, section = bundle.manifest, bundle.section(key)
    labels = (manifest.product, manifest.id, bundle.sha256, manifest.backbone.name, key)
    promise = {"expected": section.promise.expected, "confident": section.promise.confident}
    metrics.describe_bundle(labels, section.threshold, promise)
    measured = bundle.detection.engines.get(key)
    kinds = {} if measured is None else {"": measured.overall, **measured.kinds}
    metrics.describe_detection({kind: (d.rate, d.confident, d.parts) for kind, d in kinds.items()})


def watch(
    metrics: Metrics,
    feeds: Sequence[CameraFeed],
    publisher: Publisher,
    evidence: EvidenceWriter,
    state: Callable[[], str],
) -> None:
    """Export what the threads count in plain attributes, read at each scrape."""

    def camera(kind: str, name: str, text: str, read: Callable[[CameraFeed], float]) -> None:
        metrics.watch(kind, f"edge_ad_{name}", text, "camera", lambda: {f.name: read(f) for f in feeds})

    camera("counter", "frames", "Frames that the camera delivered.", lambda f: f.frames)
    camera("counter", "frames_skipped", "Frames dropped for newer ones.", lambda f: f.skipped)
    camera(
        "counter", "frames_unmatched", "Frames that came too late for their part.", lambda f: f.unmatched
    )
    camera("counter", "frames_empty", "Frames that showed no part.", lambda f: f.empty)
    camera(
        "counter", "frames_lost", "Frames that the camera counted and did not deliver.", lambda f: f.lost
    )
    camera(
        "gauge",
        "trigger_time_uncertainty_seconds",
        "How far the time of a trigger may be off; NaN where the camera has no clock that tells it.",
        lambda f: float("nan") if f.timing is None else f.timing.uncertainty_s,
    )
    camera("counter", "camera_reconnects", "Times a lost camera came back.", lambda f: f.reconnects)
    camera("gauge", "camera_up", "1 while the camera delivers.", lambda f: f.state == "up")
    camera("gauge", "camera_frame_age_seconds", "Time since the last frame.", lambda f: f.age_s())
    camera(
        "gauge",
        "camera_last_frame_timestamp_seconds",
        "When the last frame came.",
        lambda f: f.last_frame_wall_ns / 1e9,
    )
    metrics.watch(
        "counter",
        "edge_ad_publish_dropped",
        "Verdicts dropped from a full backlog, or that could not be sent.",
        "",
        lambda: {"": publisher.dropped},
    )
    metrics.watch(
        "gauge",
        "edge_ad_state",
        "1 for the state the daemon is in.",
        "state",
        lambda: dict.fromkeys(STATES, 0) | {state(): 1},
    )
    metrics.watch(
        "gauge", "edge_ad_disk_free_bytes", "Left on the disk of state_dir.", "",
        lambda: {"": _disk(evidence.archive.state)[1]},
    )  # fmt: skip
    metrics.watch(
        "gauge", "edge_ad_disk_size_bytes", "What the disk of state_dir holds.", "",
        lambda: {"": _disk(evidence.archive.state)[0]},
    )  # fmt: skip
    # One descriptor too many, and ZeroMQ ends the process: an alarm needs to know before.
    ProcessCollector(registry=metrics.registry)
    _watch_evidence(metrics, evidence)


def _disk(state: Path) -> tuple[float, float]:
    """All of it and what is free, bytes; NaN where the disk does not say."""
    try:
        usage = shutil.disk_usage(state)
    except OSError:
        return float("nan"), float("nan")
    return usage.total, usage.free


def watch_triggers(metrics: Metrics, daemon: Daemon) -> None:
    """Export what became of triggers, and whether the inspection goes on."""
    loop, parts, server = daemon.loop, daemon.parts, daemon.channels.trigger

    def number(kind: str, name: str, text: str, read: Callable[[], float]) -> None:
        metrics.watch(kind, f"edge_ad_{name}", text, "", lambda: {"": read()})

    number("counter", "deadline_missed", "Verdicts later than the deadline.", lambda: loop.missed)
    number(
        "gauge",
        "progress_age_seconds",
        "Time since the inspection thread came by; it does ten times a second, or after each part.",
        loop.progress_age_s,
    )
    number("gauge", "line_stop_request", "1 after too many FAULT in a row.", lambda: loop.line_stop)
    if daemon.triggers is None or not isinstance(parts, TriggeredParts):
        return
    counts = daemon.triggers.counts
    metrics.watch(
        "counter",
        "edge_ad_triggers",
        "Triggers, by what became of them.",
        "result",
        lambda: counts | {BAD_REQUEST: 0 if server is None else server.refused},
    )
    number(
        "counter",
        "frames_ambiguous",
        "Frames that could be of several parts, or were one too many for theirs.",
        lambda: parts.ambiguous,
    )


def watch_scores(metrics: Metrics, keeper: ScoreKeeper) -> None:
    """Export what the score log took, shed, gave up and holds."""

    def number(kind: str, name: str, text: str, read: Callable[[], float]) -> None:
        metrics.watch(kind, f"edge_ad_score_log_{name}", text, "", lambda: {"": read()})

    number("counter", "parts", "Parts whose scores were kept on disk.", lambda: keeper.kept)
    metrics.watch(
        "counter",
        "edge_ad_score_log_dropped",
        "Parts whose scores were not kept: backlog full, disk refused, no space within the limits.",
        "reason",
        lambda: dict(keeper.dropped),
    )
    number("counter", "evicted", "Oldest days that were removed.", lambda: keeper.log.evicted)
    number("counter", "damaged", "Days that were damaged and set aside.", lambda: keeper.log.damaged)
    number("gauge", "files", "Files of scores on disk, one a day.", lambda: keeper.log.days)
    number("gauge", "bytes", "Size of the scores on disk.", lambda: keeper.log.size)


def _watch_evidence(metrics: Metrics, evidence: EvidenceWriter) -> None:
    """What the archive took, shed, gave up and holds."""
    metrics.watch(
        "counter",
        "edge_ad_evidence_parts",
        "Parts whose pictures were kept as evidence.",
        "kind",
        lambda: dict(evidence.kept),
    )
    metrics.watch(
        "counter",
        "edge_ad_evidence_dropped",
        "Parts whose pictures were not kept: queue full, disk refused, no space within the limits, or "
        "passed ones that gave way.",
        "reason",
        lambda: evidence.dropped,
    )
    metrics.watch(
        "counter",
        "edge_ad_evidence_evicted",
        "Oldest entries that were removed to make room.",
        "kind",
        lambda: dict(evidence.archive.evicted),
    )
    metrics.watch(
        "gauge",
        "edge_ad_evidence_bytes",
        "Size of the evidence on disk.",
        "kind",
        lambda: dict(evidence.archive.sizes),
    )
