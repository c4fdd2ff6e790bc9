"""Every Prometheus metric of the daemon, with its unit and labels.

Only the publishing and the verdict thread and, at a start or a reload, the one that builds write here.
What other threads count they keep in plain attributes, which are read at scrape time through `watch`, so
no scrape can hold them up.
"""

from __future__ import annotations

import math
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from edge_ad.errors import DeliveryError
from edge_ad.locate.pose import Pose
from edge_ad.verdict import Decision, Reason

STAGES = ("queue", "locate", "preprocess", "engine", "verdict", "publish")
STATES = ("STARTING", "LEARNING", "COLLECTING", "RUNNING", "DEGRADED", "FAILED", "STOPPING")
LATENCY_BUCKETS_MS = (1, 2, 4, 6, 8, 10, 12.5, 15, 20, 25, 30, 40, 50, 75, 100, 150, 250, 500, 1000)
RATIO_BUCKETS = (
    0.25, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 1.0,
    1.01, 1.02, 1.03, 1.04, 1.05, 1.075, 1.1, 1.15, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0, 10.0,
)  # fmt: skip

COMMIT_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1,
    0.25, 0.5, 1.0,
)  # fmt: skip
SHIFT_BUCKETS = (0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
ANGLE_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
QUALITY_BUCKETS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0)

MOST_CLIENTS = 8  # of a metrics endpoint at once

Reading = Callable[[], Mapping[Any, float]]  # by a label's value, or those of several


class Watching:
    """Metrics in a registry, of which some are read at each scrape."""

    registry: CollectorRegistry

    def watch(
        self, kind: str, name: str, text: str, label: str | tuple[str, ...], read: Reading
    ) -> None:
        """Export what `read` returns at each scrape: values by the label's value, or by the values of
        several labels."""
        labels = (label,) if isinstance(label, str) else label
        self.registry.register(_Watched(kind, name, text, labels, read))

    def number(self, kind: str, name: str, text: str, read: Callable[[], float]) -> None:
        """The same of a value without a label."""
        self.registry.register(_Watched(kind, name, text, (), lambda: {(): read()}))


class Metrics(Watching):
    """The metrics of one daemon in one registry. `deadline_ms` becomes an exact bucket."""

    def __init__(self, registry: CollectorRegistry, deadline_ms: float) -> None:
        self.registry = registry
        # Half of a scrape would be times of creation.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        buckets = latency_buckets(deadline_ms)
        self._parts = Counter("edge_ad_parts", "Parts judged.", ["verdict", "reason"], registry=registry)
        self._stage = Histogram(
            "edge_ad_stage_seconds", "Time of one part in one stage.", ["stage"], buckets=buckets,
            registry=registry,
        )  # fmt: skip
        self._part_seconds = Histogram(
            "edge_ad_part_seconds", "Trigger to verdict.", buckets=buckets, registry=registry
        )
        Gauge(
            "edge_ad_deadline_seconds", "From trigger to verdict at most; later is FAULT.",
            registry=registry,
        ).set(deadline_ms / 1000)  # fmt: skip
        self._ratio = Histogram(
            "edge_ad_score_ratio", "Score over threshold; above 1 is a reject.", buckets=RATIO_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._commit = Histogram(
            "edge_ad_verdict_commit_seconds",
            "Time of one commit of the outbox; full: a power cut takes nothing of it.",
            ["durability"], buckets=COMMIT_BUCKETS, registry=registry,
        )  # fmt: skip
        self._kept = Histogram(
            "edge_ad_verdict_wait_seconds", "From the verdict until the outbox has it.", ["verdict"],
            buckets=COMMIT_BUCKETS, registry=registry,
        )  # fmt: skip
        self._build = Gauge(
            "edge_ad_build_info", "Always 1; the labels say what runs.", ["version", "python"],
            registry=registry,
        )  # fmt: skip
        self._bundle = Gauge(
            "edge_ad_bundle_info", "Always 1 while a bundle is in use; the labels say which.",
            ["product", "bundle", "sha256", "backbone", "engine"], registry=registry,
        )  # fmt: skip
        self._threshold = Gauge("edge_ad_threshold", "Score threshold of the bundle.", registry=registry)
        self._promise = Gauge(
            "edge_ad_promised_false_reject_ratio",
            "Share of good parts that the bundle promises to reject at most: on average, and with 95 % "
            "confidence.", ["kind"], registry=registry,
        )  # fmt: skip
        self._shift = self._located(
            "edge_ad_located_shift_pixels",
            "How far off the part lay.",
            SHIFT_BUCKETS,
        )
        self._angle = self._located(
            "edge_ad_located_angle_degrees", "How far the part was turned, either way.", ANGLE_BUCKETS
        )
        self._quality = self._located(
            "edge_ad_located_quality_ratio", "Correlation with the reference part.", QUALITY_BUCKETS
        )
        self.reload_failures = Counter(
            "edge_ad_reload_failures", "Reloads that kept the old configuration and bundle.",
            registry=registry,
        )  # fmt: skip
        self.allowed = Counter(
            "edge_ad_allowed_parts", "Parts that passed because their zones excused every finding.",
            registry=registry,
        )  # fmt: skip
        self.degraded = Counter(
            "edge_ad_degraded_parts", "Parts of which the engine was asked that stands in for another.",
            registry=registry,
        )  # fmt: skip
        challenged = Counter(
            "edge_ad_challenge_parts", "Known parts of challenges; they are no parts of the line's.",
            ["verdict"], registry=registry,
        )  # fmt: skip
        self.challenged = {decision: challenged.labels(decision.value) for decision in Decision}
        self.journal_errors = Counter(
            "edge_ad_journal_errors", "Verdicts that the journal's disk refused.", registry=registry
        )
        self._detection = Gauge(
            "edge_ad_detection_ratio",
            "Share of known-bad parts that the bundle rejects: as measured, and at least with 95 % "
            "confidence. kind: of defect; empty for all of them together.",
            ["kind", "bound"], registry=registry,
        )  # fmt: skip
        self._detection_parts = Gauge(
            "edge_ad_detection_parts", "Known-bad parts that edge_ad_detection_ratio was measured on.",
            ["kind"], registry=registry,
        )  # fmt: skip
        # A counter that first appears with its first increment is invisible to rate().
        self._outcomes = {pair: self._parts.labels(*_labels(*pair)) for pair in _outcomes()}
        self._commits = {level: self._commit.labels(level) for level in ("normal", "full")}
        self._waits = {decision: self._kept.labels(decision.value) for decision in Decision}
        self._stages = [self._stage.labels(stage) for stage in STAGES]

    def part(
        self, verdict: Decision, reason: Reason, seconds: float, ratio: float, stages_s: Sequence[float]
    ) -> None:
        """Count one part. `ratio` is NaN where there is no score; `stages_s` in the order of STAGES."""
        self._outcomes[verdict, reason].inc()
        self._part_seconds.observe(seconds)
        if ratio == ratio:
            self._ratio.observe(ratio)
        for child, value in zip(self._stages, stages_s, strict=True):
            child.observe(value)

    def commit(self, durability: str, seconds: float) -> None:
        """Count one commit of the outbox, "normal" or "full". Verdict thread."""
        self._commits[durability].observe(seconds)

    def kept(self, verdict: Decision, seconds: float) -> None:
        """Count how long a verdict waited for the outbox. Verdict thread."""
        self._waits[verdict].observe(seconds)

    def located(self, camera: str, pose: Pose) -> None:
        """Count where a camera's part lay."""
        self._shift.labels(camera).observe(math.hypot(pose.dx, pose.dy))
        self._angle.labels(camera).observe(abs(pose.angle))
        self._quality.labels(camera).observe(pose.quality)

    def _located(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, ["camera"], buckets=buckets, registry=self.registry)

    def describe_build(self, version: str, python: str) -> None:
        """Say which program this is."""
        self._build.labels(version, python).set(1)

    def describe_bundle(
        self,
        labels: tuple[str, str, str, str, str] | None,
        threshold: float,
        promise: Mapping[str, float],
    ) -> None:
        """Say which bundle is in use: product, id, sha256, backbone, engine; None for no bundle."""
        self._bundle.clear()
        self._promise.clear()
        if labels is not None:
            self._bundle.labels(*labels).set(1)
        self._threshold.set(threshold)
        for kind, value in promise.items():
            self._promise.labels(kind).set(value)

    def describe_detection(self, kinds: Mapping[str, tuple[float, float, int]]) -> None:
        """Say what was measured on known-bad parts of each kind: rate, lower bound, how many. Where
        nothing was measured there is no series."""
        self._detection.clear()
        self._detection_parts.clear()
        for kind, (measured, confident, parts) in kinds.items():
            self._detection.labels(kind, "measured").set(measured)
            self._detection.labels(kind, "confident").set(confident)
            self._detection_parts.labels(kind).set(parts)


class _Watched(Collector):
    def __init__(self, kind: str, name: str, text: str, labels: tuple[str, ...], read: Reading) -> None:
        self._family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        self._name, self._text, self._labels, self._read = name, text, labels, read

    def collect(self) -> Iterable[Metric]:
        family = self._family(self._name, self._text, labels=self._labels)
        for value, number in self._read().items():
            family.add_metric((value,) if isinstance(value, str) else value, number)
        return [family]


def latency_buckets(deadline_ms: float) -> list[float]:
    """Upper bounds in seconds: the fixed ones and the deadline, so that the miss ratio is exact."""
    return sorted({ms / 1000 for ms in (*LATENCY_BUCKETS_MS, deadline_ms)})


def _outcomes() -> list[tuple[Decision, Reason]]:
    faults = [r for r in Reason if r not in (Reason.NONE, Reason.SCORE)]
    return [
        (Decision.PASS, Reason.NONE),
        (Decision.REJECT, Reason.SCORE),
        *((Decision.FAULT, reason) for reason in faults),
    ]


def _labels(verdict: Decision, reason: Reason) -> tuple[str, str]:
    return verdict.value, reason.value or "none"


class MetricsServer:
    """Serves a registry over HTTP in threads of its own. `url` has the port that was taken."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        server = _Server6 if ":" in host else _Server
        try:
            self._server = make_server(host, port, make_wsgi_app(registry), server, _Handler)
        except OSError as error:
            raise DeliveryError(
                f"metrics.port: {host}:{port} cannot be opened ({error.strerror or error}); stop the "
                "other program or set another metrics.port"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"
        self._thread = Thread(
            target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2.0)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each client, of which only so many may stay: who hangs makes room for who comes."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, *args: Any, **options: Any) -> None:
        self._open: deque[socket.socket] = deque()  # oldest first
        self._changing = Lock()
        super().__init__(*args, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread and a descriptor that each client kept would be all that there are, one day."""
        with self._changing:
            self._open.append(request)
            oldest = self._open.popleft() if len(self._open) > MOST_CLIENTS else None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its thread closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """At the end of each."""
        with self._changing, suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that says nothing, or goes away, is not an event."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        # HTTPServer would look its own name up in the DNS, which takes seconds where there is none.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds; a client that says nothing is dropped

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not events."""
