"""`[monitor]`: what the daemon watches in its own inspection. It raises alarms, and changes nothing."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Monitor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[monitor]`."""

    # So many parts in a row that do not pass raise an alarm (another product, a camera that moved);
    # 0: never.
    rejects_in_row: Annotated[int, Meta(ge=0, le=10_000)] = 5
    # A larger share of the last `reject_window` parts that did not pass raises an alarm; 0: never.
    reject_rate: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    reject_window: Annotated[int, Meta(ge=10, le=10_000)] = 100
    # Drift of scores, distances at each level, light, focus and position against the good parts of the
    # calibration: as many good parts to one false alarm at least, on average, of all statistics
    # together. 0: not watched.
    drift_parts: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 1_000_000
    # Light, focus and position are measured on one part in this time at most. Milliseconds.
    sample_ms: Annotated[float, Meta(ge=10, le=600_000)] = 200.0
