"""`[challenge]`: known parts that prove, now and then, that the line still rejects what is bad."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Expected = Literal["PASS", "REJECT"]


class Challenge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[challenge]`."""

    # What a round's parts are, in the order in which they are put on the line. With a bad one between
    # good ones a line that rejects, or passes, everything fails.
    parts: Annotated[tuple[Expected, ...], Meta(min_length=1, max_length=100)] = (
        "PASS", "REJECT", "PASS",
    )  # fmt: skip
    # A round is due so long after the last one that passed; 0: never by time.
    every_hours: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    # And at every start of the daemon.
    at_start: bool = False
    # While a round is due, parts are FAULT `challenge`. Else it is counted, and an alarm.
    block: bool = False
