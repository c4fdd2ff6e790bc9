"""Every Prometheus metric of the station at the gate."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_client.registry import CollectorRegistry

from edge_ad.delivery.station.events import Pass, Reject, Why
from edge_ad.delivery.station.inputs import Input
from edge_ad.delivery.station.log import StationLog
from edge_ad.delivery.station.outputs import Output
from edge_ad.delivery.station.tracker import GateTracker
from edge_ad.metrics import Watching

_BUCKETS = (
    0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0,
)  # fmt: skip
UNMATCHED = ("replayed", "not_required", "stale", "late", "expired", "no_room")
ALARMS = ("link", "station", "lost", "refused", "unconfirmed", "unexpected", "input", "log", "sync")


class StationMetrics(Watching):
    """The metrics of one station in one registry. Its loop alone writes; scrapes only read."""

    def __init__(self, registry: CollectorRegistry, sources: Sequence[str]) -> None:
        self.registry = registry
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._actions = Counter(
            "edge_ad_station_actions", "Parts that came to the gate, by what was done and why.",
            ["action", "why"], registry=registry,
        )  # fmt: skip
        self._resyncs = Counter(
            "edge_ad_station_resync",
            "Times that what was on the belt could not be proven any more, or not yet.",
            ["source"], registry=registry,
        )  # fmt: skip
        self._alarms = Counter("edge_ad_station_alarms", "Alarms.", ["kind"], registry=registry)
        self._heard = Histogram(
            "edge_ad_station_verdict_seconds", "From the sensor to the last verdict of a part.",
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._acted = Histogram(
            "edge_ad_station_action_seconds", "From the sensor to the action at the gate.",
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        # A counter that first appears with its first increment is invisible to rate().
        self._passes = self._actions.labels("pass", "none")
        self._rejects = {why: self._actions.labels("reject", why.value) for why in Why}
        for source in sources:
            self._resyncs.labels(source)
        for kind in ALARMS:
            self._alarms.labels(kind)

    def action(self, action: Pass | Reject, now_ns: int) -> None:
        """Count what was done about a part."""
        (self._passes if isinstance(action, Pass) else self._rejects[action.why]).inc()
        self._acted.observe((now_ns - action.present_ns) / 1e9)
        if action.heard_ns:
            self._heard.observe(max(0, action.heard_ns - action.present_ns) / 1e9)

    def resync(self, source: str) -> None:
        """Count one."""
        self._resyncs.labels(source).inc()

    def alarm(self, kind: str) -> None:
        """Count one."""
        self._alarms.labels(kind).inc()


def watch(
    metrics: StationMetrics,
    tracker: GateTracker,
    log: StationLog,
    inputs: Sequence[Input],
    output: Output,
) -> None:
    """Have what the station's parts count read at each scrape."""
    metrics.watch(
        "gauge", "edge_ad_station_link_up", "Whether a daemon is heard.", "source",
        lambda: {name: float(link.up) for name, link in tracker.links.items()},
    )  # fmt: skip
    metrics.watch(
        "counter", "edge_ad_station_unmatched",
        "Verdicts that nothing was done by, as no part at hand was theirs.", "reason",
        lambda: {**dict.fromkeys(UNMATCHED, 0.0), **tracker.unmatched},
    )  # fmt: skip
    metrics.number(
        "gauge",
        "edge_ad_station_line_stop",
        "1 while the line-stop output is held.",
        lambda: float(tracker.confirmations.line_stop),
    )
    metrics.number(
        "gauge",
        "edge_ad_station_belt_parts",
        "Parts between the sensor and the gate.",
        lambda: float(tracker.on_belt),
    )
    metrics.watch(
        "counter", "edge_ad_station_input_messages",
        "Messages of the line that were not understood, or too old to be a part.", "what",
        lambda: {
            what: float(sum(getattr(line, what, 0) for line in inputs))
            for what in ("skipped", "old")
        },
    )  # fmt: skip
    metrics.number(
        "counter",
        "edge_ad_station_output_dropped",
        "Messages that no gate took; it rejects.",
        lambda: float(getattr(output, "dropped", 0)),
    )
    metrics.watch(
        "counter", "edge_ad_station_log", "Commits of the log, and what its disk refused.", "event",
        lambda: {
            "commit": log.commits, "failure": log.failures, "dropped": log.dropped,
            "damaged": log.quarantined, "pruned": log.pruned,
        },
    )  # fmt: skip
