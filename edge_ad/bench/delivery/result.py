"""The figures of delivery. Times are in ms."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np


class Spread(msgspec.Struct, frozen=True):
    """How times are spread. `p10` is what other programs on the machine disturb least."""

    count: int
    p10: float
    p50: float
    p99: float
    p999: float
    longest: float


class Quiet(msgspec.Struct, frozen=True):
    """One part at a time, nothing else on.

    `wire`: from the request at the trigger channel until a consumer on ipc has the verdict, with
    `judged` the part of it up to the verdict. `added`: `wire` over `inspector` on the same pictures, by
    medians, and by the tenths that were quickest; for PASS it should be within `bound`, which is 0.1
    times the engine and the commit.
    """

    engine: Spread
    inspector_pass: Spread
    inspector_reject: Spread
    wire_pass: Spread
    wire_reject: Spread
    judged_pass: Spread
    judged_reject: Spread
    commit_pass: Spread
    commit_reject: Spread
    added_pass: float
    added_pass_p10: float
    added_reject: float
    bound: float
    bound_p10: float
    within: bool


class Loaded(msgspec.Struct, frozen=True):
    """Parts at a steady pace up to the gate, with all that a line does besides.

    `wire` as in `Quiet`; `promised`: from the trigger until the gate has the PASS of a part, for those
    that it got one for; `action`: from the trigger until the station acts at the gate; `lateness`: of
    that behind the moment that it was due.
    """

    period_ms: float
    travel_ms: float
    burst: int  # rejects in a row, of so many parts:
    burst_every: int
    wire_pass: Spread
    wire_reject: Spread
    promised: Spread
    action: Spread
    lateness: Spread
    good: int
    bad: int
    good_missed: int  # good parts that were not passed
    bad_passed: int
    without_action: int
    scrapes: int
    scrape_ms: float
    dropped: dict[str, int]  # all that the daemon and the station say they dropped


class DeliveryResult(msgspec.Struct, frozen=True):
    """Both parts of the bench, and what they are of."""

    frames: int
    width: int
    height: int
    threads: int
    backbone: str
    backbone_sha256: str
    input: str
    runtime: str
    device: str
    quiet: Quiet
    loaded: Loaded


def spread(nanoseconds: Sequence[int]) -> Spread:
    """In ms; of nothing all is 0."""
    if not nanoseconds:
        return Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    values = np.percentile(np.asarray(nanoseconds, np.float64) / 1e6, (10, 50, 99, 99.9, 100))
    return Spread(len(nanoseconds), *(round(float(value), 4) for value in values))
