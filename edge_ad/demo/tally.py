"""What came out of the line, against what went in and what was promised."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from edge_ad.bundle.qualification import Detected
from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.gaussian.threshold import Promise

# The interval for false rejects holds all but this share of honest lines.
SURPRISE = 0.01

Record = tuple[Header, ScoreBody]


class Agreement(msgspec.Struct, frozen=True):
    """Daemon against consumer. `difference` says where the first one is, "" for none."""

    daemon: int  # verdicts in the daemon's journal since the handshake
    consumer: int  # verdicts that the consumer received since the handshake
    difference: str


class PlcResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the parts that a simulated PLC announced, as it counted itself."""

    triggers: int
    results: dict[str, int]  # by verdict
    gate: dict[str, int]  # passed, rejected: one action for each trigger
    round_trip_ms: dict[str, float]  # trigger to result at the PLC, in scans of 10 ms: p50, p99, max
    bridge_ms: dict[str, float]  # mean of the same in the bridge


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The demo's outcome, as `--json` writes it. Counts are of the parts that the bundle judged."""

    ok: bool
    problems: tuple[str, ...]
    parts: int
    verdicts: dict[str, int]
    missed_defects: int
    detection: Detected  # of known-bad parts, by the qualification
    false_rejects: int
    late: int  # verdicts after the deadline, which makes them FAULT
    good_parts: int
    defective_parts: int
    confusion: dict[str, dict[str, int]]  # what was rendered ("good" or a defect) -> verdict -> parts
    promised_false_rejects: tuple[int, int]
    promise: Promise
    threshold: float
    agreement: Agreement
    latency_ms: dict[str, float]  # trigger to verdict: p50, p99, max
    metrics_url: str
    metrics_parts: int  # parts that one scrape counted, shortly before the end
    backbone: str
    engine: str  # the line's
    judged_by: dict[str, int]  # engine -> verdicts that it gave, by the journal
    calibration_parts: int
    seconds: float
    plc: PlcResult | None = None  # with --plc


@dataclass
class Tally:
    """Counts what the consumer receives. `truth` maps a part key to its defect, "" for good."""

    truth: Callable[[str], str]
    records: list[Record] = field(default_factory=list)
    confusion: dict[str, Counter[str]] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    bad_collected: int = 0
    late: int = 0

    def add(self, header: Header, body: ScoreBody) -> bool:
        """Count one part; True when a bundle judged it."""
        self.records.append((header, body))
        defect = self.truth(header.part)
        if body.reason == "calibrating" and defect:
            self.bad_collected += 1
        if not header.bundle or body.reason in ("calibrating", "stopped"):
            return False
        self.confusion.setdefault(defect or "good", Counter())[body.verdict] += 1
        self.latencies_ms.append(body.latency_ms)
        self.late += body.reason == "late"
        return True

    @property
    def judged(self) -> int:
        """Parts that a bundle judged."""
        return sum(sum(row.values()) for row in self.confusion.values())

    def of(self, kind: str, verdict: str) -> int:
        """Parts of a kind ("good" or a defect) with a verdict."""
        return self.confusion.get(kind, Counter())[verdict]

    def total(self, kind: str) -> int:
        """Parts of a kind."""
        return sum(self.confusion.get(kind, Counter()).values())

    def verdicts(self) -> dict[str, int]:
        """Parts by verdict."""
        return {v: sum(row[v] for row in self.confusion.values()) for v in ("PASS", "REJECT", "FAULT")}

    def latency(self) -> dict[str, float]:
        """Percentiles of trigger to verdict, milliseconds."""
        if not self.latencies_ms:
            return {}
        p50, p99 = np.percentile(self.latencies_ms, [50, 99])
        return {"p50": float(p50), "p99": float(p99), "max": max(self.latencies_ms)}


def judged_by(journal: Sequence[Record]) -> dict[str, int]:
    """How many verdicts each engine gave, by its key, the busiest first. Late ones were given too."""
    counts = Counter(body.engine for _, body in journal if _judged(body))
    return dict(counts.most_common())


def wrong_engine(journal: Sequence[Record], engine: str) -> str:
    """What is wrong with who judged the parts of a line whose engine is `engine`: in words, "" for
    nothing. While a stand-in had its place, parts that nobody judged are counted too."""
    others = Counter(
        body.engine for _, body in journal if body.degraded or (_judged(body) and body.engine != engine)
    )
    if others:
        named = ", ".join(f"{count} to {key}" for key, count in others.most_common())
        return f"{sum(others.values())} parts did not go to {engine} but {named}"
    if not any(_judged(body) for _, body in journal):
        return f"{engine} judged no part"
    return ""


def _judged(body: ScoreBody) -> bool:
    return body.verdict in ("PASS", "REJECT") or body.reason == "late"


def agree(consumer: Sequence[Record], journal: Sequence[Record], synced_at: int) -> Agreement:
    """Compare part by part, from the first part after the handshake (whose number was at most
    `synced_at` + 1) to the last."""
    first = synced_at + 1
    heard = [record for record in consumer if record[0].seq >= first]
    said = [record for record in journal if record[0].seq >= first]
    return Agreement(len(said), len(heard), _difference(heard, said, first))


def _difference(heard: Sequence[Record], said: Sequence[Record], first: int) -> str:
    if not said:
        return "the daemon's journal is empty"
    for place, (header, body) in enumerate(said):
        if header.seq != first + place:
            return f"the journal has part {header.seq} where {first + place} belongs"
        if place >= len(heard):
            return f"the consumer never received part {header.seq} ({header.part})"
        if heard[place] != (header, body):
            other = heard[place][0]
            return f"the consumer has part {other.seq} ({other.part}) where the journal has {header.seq}"
    if len(heard) > len(said):
        return f"the consumer received {len(heard) - len(said)} parts that the journal does not have"
    return ""


def promised_interval(promise: Promise, good: int, surprise: float = SURPRISE) -> tuple[int, int]:
    """How many of `good` new good parts may be rejected: the central interval of the beta-binomial law.

    The rate of a conformal threshold at the k-th of n scores follows Beta(n + 1 - k, k).
    """
    a, b = promise.parts + 1 - promise.index, promise.index
    x = np.arange(good + 1)
    log_gamma = np.vectorize(math.lgamma, otypes=[float])
    log_mass = (
        math.lgamma(good + 1) - log_gamma(x + 1) - log_gamma(good - x + 1)
        + log_gamma(x + a) + log_gamma(good - x + b) - math.lgamma(good + a + b)
        + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    )  # fmt: skip
    below = np.cumsum(np.exp(log_mass))
    low = int(np.searchsorted(below, surprise / 2, side="right"))
    high = int(np.searchsorted(below, 1 - surprise / 2, side="left"))
    return min(low, good), min(high, good)
