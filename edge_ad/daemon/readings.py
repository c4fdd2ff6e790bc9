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
from edge_ad.daemon.challenge import Challenges
from edge_ad.daemon.publishing import Publisher
from edge_ad.daemon.triggered import TriggeredParts
from edge_ad.delivery.trigger import BAD_REQUEST
from edge_ad.evidence.score_keeper import ScoreKeeper
from edge_ad.evidence.writer import EvidenceWriter
from edge_ad.metrics import STATES, Metrics
from edge_ad.monitor.watch import Watch
from edge_ad.shadow.beside import Shadow

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
    camera(
        "counter",
        "frames_faulty",
        "Frames without a picture: incomplete, damaged, of another pixel format.",
        lambda f: f.faulty,
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
    metrics.number(
        "counter",
        "edge_ad_publish_dropped",
        "Verdicts dropped from a full backlog, or that could not be sent.",
        lambda: publisher.dropped,
    )
    metrics.watch(
        "gauge",
        "edge_ad_state",
        "1 for the state the daemon is in.",
        "state",
        lambda: dict.fromkeys(STATES, 0) | {state(): 1},
    )
    metrics.number(
        "gauge",
        "edge_ad_disk_free_bytes",
        "Left on the disk of state_dir.",
        lambda: _disk(evidence.archive.state)[1],
    )
    metrics.number(
        "gauge",
        "edge_ad_disk_size_bytes",
        "What the disk of state_dir holds.",
        lambda: _disk(evidence.archive.state)[0],
    )
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
        metrics.number(kind, f"edge_ad_{name}", text, read)

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


def watch_monitor(metrics: Metrics, monitor: Watch) -> None:
    """Export what the monitor found."""
    of = ("camera", "statistic")
    metrics.watch(
        "gauge",
        "edge_ad_drift_ratio",
        "How far a statistic has drifted from the calibration's good parts; 1 is an alarm.",
        of,
        lambda: dict(monitor.drift),
    )
    metrics.watch(
        "counter", "edge_ad_drift_alarms", "Times that a statistic was found to have drifted.", of,
        lambda: dict(monitor.alarms),
    )  # fmt: skip
    metrics.watch(
        "gauge",
        "edge_ad_picture",
        "What the last picture that was measured looks like: grey value, sharpness, centroid of edges.",
        of,
        lambda: dict(monitor.pictures),
    )
    metrics.number(
        "counter",
        "edge_ad_monitor_errors",
        "Pictures that the monitor could not measure.",
        lambda: monitor.failed,
    )
    metrics.number(
        "gauge",
        "edge_ad_rejects_in_row",
        "Parts that did not pass, since the last one that did.",
        lambda: monitor.rejects.in_row,
    )
    metrics.watch(
        "gauge",
        "edge_ad_rejects_alarm",
        "1 after so many parts in a row, or so large a share, that did not pass.",
        "kind",
        lambda: {"row": monitor.rejects.row_alarm, "share": monitor.rejects.share_alarm},
    )


def watch_challenges(metrics: Metrics, challenges: Challenges) -> None:
    """Export whether a challenge is due, and how they ended."""
    metrics.watch(
        "counter", "edge_ad_challenges", "Challenges, by how they ended.", "result",
        lambda: dict(challenges.counts),
    )  # fmt: skip
    metrics.number(
        "gauge",
        "edge_ad_challenge_due",
        "1 while a round of known parts is due.",
        lambda: challenges.due,
    )
    metrics.number(
        "gauge",
        "edge_ad_challenge_override_seconds",
        "That parts may still pass although a challenge is due, by order of a person.",
        challenges.override_s,
    )
    metrics.number(
        "gauge",
        "edge_ad_challenge_age_seconds",
        "Since the last challenge that passed by the bundle in use; NaN without one.",
        challenges.age_s,
    )


def watch_shadow(metrics: Metrics, shadow: Shadow) -> None:
    """Export how far a candidate agrees with what is in use."""
    metrics.watch(
        "counter", "edge_ad_shadow_parts",
        "Parts that a candidate bundle judged too, by what it would have done.", "result",
        lambda: dict(shadow.counts),
    )  # fmt: skip
    metrics.number(
        "gauge",
        "edge_ad_shadow_up",
        "1 while a candidate bundle judges beside the one in use.",
        lambda: shadow.up,
    )


def watch_scores(metrics: Metrics, keeper: ScoreKeeper) -> None:
    """Export what the score log took, shed, gave up and holds."""

    def number(kind: str, name: str, text: str, read: Callable[[], float]) -> None:
        metrics.number(kind, f"edge_ad_score_log_{name}", text, read)

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
        "edge_ad_evidence_overlays_dropped",
        "Parts that were kept without their maps: the queue was filling, or drawing failed.",
        "reason",
        lambda: dict(evidence.undrawn),
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
