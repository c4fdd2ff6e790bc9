"""A part that was announced by a trigger, while it waits for its pictures and for its verdict."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.part import Part
from edge_ad.frame import Frame
from edge_ad.verdict import Reason

_NEVER = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Call:
    """One trigger. `product`: that it named, else empty; `fault`: why its part cannot pass."""

    key: str
    t_ns: int
    t_wall_ns: int
    product: str = ""
    encoder: int | None = None
    fault: Reason = Reason.NONE
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a trigger. `judged`: its part will have a verdict; `reason`: why that will be a
    FAULT, or why there will be none; empty where the part is inspected."""

    judged: bool
    reason: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A picture that a camera is to take now, for the part of this number."""

    number: int
    key: str


class TriggeredLane(Lane):
    """One camera's place in announced parts, guarded by the lock of `TriggeredParts`. `asked`: it takes
    a picture when it is asked to; else its frames are matched by time."""

    def __init__(self, name: str, shots: int, asked: bool, limit: int) -> None:
        super().__init__(limit, False, shots)
        self.name = name
        self.asked = asked
        self.place = self.first = 0  # among the lanes; of its pictures in a part
        self.requests: deque[Asked] = deque(maxlen=limit)
        self.early: deque[Frame] = deque()  # frames whose trigger may still come
        self.missed_parts = 0  # parts in a row that it had no picture of

    @property
    def silent_for_now(self) -> bool:
        """Whether no frame is to be expected."""
        return self.down or self.ended


class Announced:
    """Guarded by the lock of `TriggeredParts`."""

    __slots__ = (
        "call", "detail", "fault", "frames", "last_ns", "number", "seen", "settled", "t_queued_ns",
        "taken", "with_pictures",
    )  # fmt: skip

    def __init__(
        self, call: Call, number: int, lanes: int, pictures: int, fault: Reason, detail: str, now: int
    ) -> None:
        self.call = call
        self.number = number
        self.fault = fault
        self.detail = detail
        self.with_pictures = fault is Reason.NONE  # it has a place in the queue
        self.frames: list[Frame | None] = [None] * pictures
        self.seen = [0] * lanes  # frames of each camera, held or not
        self.last_ns = [_NEVER] * lanes  # when the last of them was taken
        self.t_queued_ns = now
        self.taken = False  # by the inspection
        self.settled = False  # its verdict is out

    def spoil(self, reason: Reason, detail: str) -> None:
        """Make it FAULT, unless it is one or its verdict is out."""
        if self.fault is Reason.NONE and not self.settled:
            self.fault, self.detail = reason, detail

    def part(self, kind: str) -> Part:
        """For the inspection, which takes the pictures along."""
        call, frames = self.call, tuple(self.frames)
        self.frames = []
        return Part(
            frames, call.key, call.t_ns, call.t_wall_ns, self.t_queued_ns, kind, self.number,
            call.encoder, False, call.product, self.fault, self.detail, self.number,
        )  # fmt: skip
