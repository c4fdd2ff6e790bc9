"""The verdict channel of a daemon: opened where the station names consumers, exported, asked about."""

from __future__ import annotations

from collections.abc import Callable

from edge_ad.config import Station
from edge_ad.delivery.endpoint import Access
from edge_ad.delivery.sessions import Counts
from edge_ad.delivery.verdicts import VerdictServer, open_outbox
from edge_ad.errors import EdgeAdError
from edge_ad.metrics import Metrics

OUTBOX = "outbox.db"  # in the state directory


def open_verdicts(
    station: Station,
    epoch: str,
    product: Callable[[], str],
    metrics: Metrics,
    clock: Callable[[], int],
    wall: Callable[[], int],
    tell: Callable[[str, str], None],
    fatal: Callable[[str], None],
    access: Access,
) -> VerdictServer | None:
    """Open outbox and socket; None where nobody consumes. Raises DeliveryError, ConfigError."""
    rules = station.verdicts
    if not rules.consumers:
        return None
    outbox = open_outbox(
        station.state_path / OUTBOX, epoch, rules.consumers, clock, wall, rules.retention_hours,
        rules.max_megabytes, station.deadline_ms, tell,
    )  # fmt: skip
    try:
        server = VerdictServer(
            station.verdicts_endpoint, outbox, station.station, epoch, product, metrics, clock, tell,
            fatal, rules.heartbeat_ms, rules.lost_ms, access,
        )  # fmt: skip
    except EdgeAdError:
        outbox.close()
        raise
    _watch(metrics, server)
    return server


def _watch(metrics: Metrics, server: VerdictServer) -> None:
    """Export what the verdict thread counts, read at each scrape."""
    outbox, sessions = server.outbox, server.sessions
    names = tuple(outbox.consumers)

    def consumer(kind: str, name: str, text: str, read: Callable[[str], float]) -> None:
        metrics.watch(kind, f"edge_ad_{name}", text, "consumer", lambda: {n: read(n) for n in names})

    def count(name: str, text: str, read: Callable[[Counts], int]) -> None:
        consumer("counter", f"verdict_{name}", text, lambda n: read(sessions.counts[n]))

    consumer("gauge", "outbox_depth", "Verdicts that it has not acknowledged.", outbox.depth)
    consumer(
        "gauge", "outbox_oldest_seconds", "Age of the oldest of them.", lambda n: server.oldest_s[n]
    )
    consumer("gauge", "verdict_consumer_up", "1 while the consumer is heard.", sessions.is_up)
    count("sent", "Verdicts sent to the consumer.", lambda c: c.sent)
    count("replayed", "Of them, such as were not given just then.", lambda c: c.replayed)
    count("acked", "Verdicts sent that the consumer acknowledged.", lambda c: c.acked)
    count("consumer_replaced", "Times another one took its name.", lambda c: c.replaced)
    metrics.number(
        "gauge",
        "edge_ad_outbox_waiting",
        "Verdicts that wait for the disk.",
        lambda: server.waiting,
    )
    metrics.watch(
        "counter", "edge_ad_verdict_refused", "Messages of consumers that were refused.", "reason",
        lambda: dict(sessions.refused),
    )  # fmt: skip
    for name, text, read in (
        ("verdict_dropped", "Verdicts that were not kept: disk too slow or full, or not encodable.",
         lambda: server.dropped),
        ("outbox_evicted", "Oldest verdicts that went for room.", lambda: outbox.evicted),
        ("outbox_evicted_unacknowledged", "Of them, such as a consumer had not acknowledged.",
         lambda: outbox.evicted_unfetched),
        ("outbox_damaged", "Verdicts that the disk had changed, told as lost.",
         lambda: sessions.damaged),
        ("outbox_quarantined", "Damaged outboxes that were set aside at this start.",
         lambda: int(bool(outbox.quarantined))),
    ):  # fmt: skip
        metrics.number("counter", f"edge_ad_{name}", text, read)
