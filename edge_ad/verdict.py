"""What is said about a part: the decision, the reason from a closed list, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from edge_ad.locate.pose import Pose

Maps = tuple[NDArray[np.float32], ...]


class Decision(str, Enum):
    """PASS only if the score is finite, at or below the threshold, and in time."""

    PASS = "PASS"
    REJECT = "REJECT"
    FAULT = "FAULT"

    def __str__(self) -> str:
        return self.value


class Reason(str, Enum):
    """Why a part did not pass. The list is closed: metrics and consumers may enumerate it."""

    NONE = ""  # the part passed
    SCORE = "score"  # REJECT: score above threshold
    UNCALIBRATED = "uncalibrated"  # no bundle is active
    UNKNOWN_PRODUCT = "unknown_product"  # the line was told to make what this station does not know
    CHANGEOVER = "changeover"  # the part was triggered before another product was announced
    CALIBRATING = "calibrating"  # the part was collected for a calibration
    NOT_FINITE = "not_finite"  # NaN or Inf anywhere in the distances
    LATE = "late"  # the verdict was not ready before the deadline
    FRAME_SIZE = "frame_size"  # the frame's size is not the bundle's
    PIXEL_FORMAT = "pixel_format"  # the frame's pixel layout is not the bundle's
    UNREADABLE = "unreadable"  # the frame or image file could not be decoded
    MISSING_VIEW = "missing_view"  # another camera of the part delivered nothing in time
    NOT_FOUND = "not_found"  # nothing in the frame is like the reference part
    OUT_OF_RANGE = "out_of_range"  # the part lies further off than allowed, or reaches out of the frame
    EMPTY = "empty"  # nothing lies there
    TWO_PARTS = "two_parts"  # more than one part in the frame
    ORIENTATION = "orientation"  # the part is turned by far more than allowed
    MIRRORED = "mirrored"  # the part's mirror image is there
    ENGINE = "engine"  # the engine failed
    NO_FRAME = "no_frame"  # the trigger was answered by no frame in time
    OVERFLOW = "overflow"  # the part found the queue of waiting parts full
    KEY_REUSED = "key_reused"  # another part had this key before
    STOPPED = "stopped"  # the daemon stopped before the part was inspected
    DARK = "dark"  # nearly all of the frame is black
    SATURATED = "saturated"  # nearly all of the frame is white
    FROZEN = "frozen"  # the frame is bit for bit the one before it
    CHALLENGE = "challenge"  # a round of known parts is due
    NOT_KEPT = "not_kept"  # the disk has no room for verdicts, so that nobody could be told

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that stands out. x, y: its middle in pixels from the upper left corner of the camera's
    frame; area in square pixels, in whole positions of 16 x 16 of the network's pixels; peak: times what
    may be seen there at most; zone: "" for the rest of the part; allowed: excused by its zone."""

    zone: str
    view: str
    x: float
    y: float
    area: float
    area_mm2: float | None
    peak: float
    px_per_mm: float = 0.0
    allowed: bool = False

    @property
    def mm(self) -> tuple[float, float] | None:
        """x, y in millimetres from the frame's upper left, where the scale is known."""
        return (self.x / self.px_per_mm, self.y / self.px_per_mm) if self.px_per_mm else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one part.

    `score` and `threshold` are in the same unit: the sum of Mahalanobis distances over levels, or, where
    the bundle localises, deviations of good parts (see `gaussian.view`; a score may then be negative).
    Both are NaN where a FAULT left nothing to compare. `box` is the region that decided, the worst tile
    of the worst view, in pixels of its camera's frame after the part was laid straight. `distances` is
    float32, tiles x levels, a copy that the caller may keep. `maps` has one float32 [rows, columns]
    anomaly map per view of a bundle that localises, evenly over the view's region, each position in
    deviations of its own.
    """

    decision: Decision
    reason: Reason
    score: float
    threshold: float
    view: str = ""  # the worst view's name
    distances: NDArray[np.float32] | None = None
    detail: str = ""
    box: tuple[int, int, int, int] | None = None  # x, y, width, height
    poses: tuple[Pose | None, ...] = ()  # per camera where the part lay, None where it is not looked for
    findings: tuple[Finding, ...] = ()  # of a part above the threshold that localises
    map_source: Callable[[], Maps] | None = field(default=None, repr=False)

    @property
    def maps(self) -> Maps | None:
        """Made when it is first asked for: what is not looked at costs nothing."""
        return None if self.map_source is None else self.map_source()

    @property
    def passed(self) -> bool:
        """True only for PASS."""
        return self.decision is Decision.PASS


def fault(reason: Reason, threshold: float = float("nan"), detail: str = "") -> Verdict:
    """A FAULT verdict: no score, never a PASS."""
    return Verdict(Decision.FAULT, reason, float("nan"), threshold, detail=detail)
