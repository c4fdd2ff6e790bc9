"""The bridge's Prometheus metrics. For the bridge's thread; scrapes may come from any."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.registry import CollectorRegistry

from edge_ad.delivery.plc.codes import Error, Result, State, reason_name
from edge_ad.delivery.plc.signals import Outputs

_SECONDS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0)


class PlcMetrics:
    """All in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self.triggers = Counter(
            "edge_ad_plc_triggers", "Triggers of the PLC that were accepted.", registry=registry
        )
        self._results = Counter(
            "edge_ad_plc_results", "Results that the PLC was shown.", ["verdict", "reason"],
            registry=registry,
        )  # fmt: skip
        self.withdrawn = Counter(
            "edge_ad_plc_withdrawn", "Results that Reset withdrew before the PLC took them.",
            registry=registry,
        )  # fmt: skip
        self._errors = Counter("edge_ad_plc_errors", "Errors raised.", ["error"], registry=registry)
        self.refused = Counter(
            "edge_ad_plc_announcements_refused", "Triggers that the daemon did not accept.",
            registry=registry,
        )  # fmt: skip
        self.round_trip = Histogram(
            "edge_ad_plc_result_seconds", "From the PLC's trigger to its result.", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._verdicts = Counter(
            "edge_ad_plc_verdicts", "Verdicts of the daemon. use: result (it decided a part), late "
            "(nobody waited for it any more), replayed (for the record only).", ["use"],
            registry=registry,
        )  # fmt: skip
        self.lost = Counter(
            "edge_ad_plc_verdicts_lost", "Verdicts that the daemon no longer had.", registry=registry
        )
        self._signal = Gauge(
            "edge_ad_plc_signal", "1 while the PLC sees this bit.", ["signal"], registry=registry
        )
        self._state = Gauge("edge_ad_plc_state", "1 for the state.", ["state"], registry=registry)
        self.link_up = Gauge("edge_ad_plc_daemon_up", "1 while the daemon is heard.", registry=registry)
        self.plc_up = Gauge(
            "edge_ad_plc_plc_up", "1 while the PLC's heartbeat changes.", registry=registry
        )
        for error in Error:
            if error:
                self._errors.labels(error.name.lower())
        for use in ("result", "late", "replayed"):
            self._verdicts.labels(use)
        self._results.labels("pass", "none")
        self._seen: Outputs | None = None

    def result(self, verdict: Result, reason: int, took_s: float) -> None:
        """Count one that is shown."""
        self._results.labels(verdict.name.lower(), reason_name(reason)).inc()
        self.round_trip.observe(took_s)

    def error(self, error: Error) -> None:
        """Count one."""
        self._errors.labels(error.name.lower()).inc()

    def verdict(self, used: bool, live: bool) -> None:
        """Count one of the daemon."""
        self._verdicts.labels("result" if used else "late" if live else "replayed").inc()

    def outputs(self, outputs: Outputs, plc_up: bool) -> None:
        """What the PLC sees."""
        before, self._seen = self._seen, outputs
        self.plc_up.set(plc_up)
        for name in ("ready", "busy", "result_valid", "error"):
            value = getattr(outputs, name)
            if before is None or getattr(before, name) != value:
                self._signal.labels(name).set(value)
        if before is None or before.state is not outputs.state:
            for state in State:
                self._state.labels(state.name.lower()).set(state is outputs.state)
