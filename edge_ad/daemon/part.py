"""What inspection takes: the pictures of one part, and what is known of its trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_ad.frame import Frame
from edge_ad.verdict import Reason


@dataclass(frozen=True, slots=True)
class Part:
    """One frame per picture, None where it is missing, in the order of the station's pictures."""

    frames: tuple[Frame | None, ...]
    key: str | None
    t_trigger_ns: int
    t_wall_ns: int
    t_queued_ns: int  # when its last frame was queued
    trigger: str = "free"  # what made it a part
    count: int | None = None  # of its trigger
    encoder: int | None = None
    advisory: bool = False  # no trigger proves that this is a part
    product: str = ""  # that its trigger named; empty: what is being made
    fault: Reason = Reason.NONE  # why it cannot pass, whatever its pictures show
    detail: str = ""
    number: int = -1  # of an announced part: it is to be settled before its verdict is handed over


class Parts(Protocol):
    """Where the inspection thread takes parts from. Thread safe."""

    @property
    def finished(self) -> bool:
        """True when no part will ever come again."""
        ...

    def take(self, timeout_s: float) -> Part | None:
        """The next part; None when there is none in time."""
        ...

    def settle(self, part: Part) -> tuple[Reason, str]:
        """The part's verdict is handed over now: what became known since it was taken and makes it a
        FAULT, else `NONE`."""
        ...
