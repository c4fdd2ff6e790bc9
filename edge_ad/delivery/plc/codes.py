"""The numbers that a PLC program is written against. They never change; new ones are added."""

from __future__ import annotations

from enum import IntEnum

from edge_ad.verdict import Reason

MAP_VERSION = 1  # of the register map; a PLC program that was made for another is refused


class Result(IntEnum):
    """The verdict register."""

    NONE = 0
    PASS = 1
    REJECT = 2
    FAULT = 3


class State(IntEnum):
    """The state register: names of the VisionStateMachine (1 to 4) and of its
    AutomaticModeStateMachine (5 to 8) in OPC 40100-1, numbered in its order. What is OPERATIONAL there
    is always one of 5 to 8 here."""

    PREOPERATIONAL = 1  # the PLC has not been heard yet
    HALTED = 2  # Enable is off
    ERROR = 3
    OPERATIONAL = 4
    INITIALIZED = 5  # not ready: the product is not the one that was asked for, Trigger or Ack is up
    READY = 6
    SINGLE_EXECUTION = 7  # one part is under way or its result waits for Ack
    CONTINUOUS_EXECUTION = 8  # the same where several parts may be under way


class Error(IntEnum):
    """The error code register. Below 100: until Reset; the others: until their cause is gone."""

    NONE = 0
    TRIGGER_NOT_READY = 1  # Trigger rose while Ready was down
    NO_ACK = 2  # a result was not acknowledged in time
    PLC_HEARTBEAT = 3  # the PLC's heartbeat counter stood still
    BAD_KEY = 4  # the part key is empty or not printable ASCII
    KEY_REUSED = 5  # a part had this key before
    COUNT_MISMATCH = 6  # the trigger counter did not advance by one
    DAEMON_LINK = 100  # the daemon is not heard, or refuses this bridge
    MAP_MISMATCH = 101  # the PLC program was made for another register map
    PRODUCT = 102  # the daemon cannot make the product that was asked for
    RECORD = 103  # results cannot be recorded: disk full, or damaged

    @property
    def latched(self) -> bool:
        """Whether only Reset ends it."""
        return 0 < self < 100


# Why a part did not pass, by the daemon ...
REASONS: dict[Reason, int] = {
    Reason.NONE: 0,
    Reason.SCORE: 1,
    Reason.UNCALIBRATED: 2,
    Reason.UNKNOWN_PRODUCT: 3,
    Reason.CHANGEOVER: 4,
    Reason.CALIBRATING: 5,
    Reason.NOT_FINITE: 6,
    Reason.LATE: 7,
    Reason.FRAME_SIZE: 8,
    Reason.PIXEL_FORMAT: 9,
    Reason.UNREADABLE: 10,
    Reason.MISSING_VIEW: 11,
    Reason.NOT_FOUND: 12,
    Reason.OUT_OF_RANGE: 13,
    Reason.EMPTY: 14,
    Reason.TWO_PARTS: 15,
    Reason.ORIENTATION: 16,
    Reason.MIRRORED: 17,
    Reason.ENGINE: 18,
    Reason.NO_FRAME: 19,
    Reason.OVERFLOW: 20,
    Reason.KEY_REUSED: 21,
    Reason.STOPPED: 22,
    Reason.DARK: 23,
    Reason.SATURATED: 24,
    Reason.FROZEN: 25,
    Reason.CHALLENGE: 26,
    Reason.NOT_KEPT: 27,
}
# ... and by the bridge.
LATE = REASONS[Reason.LATE]
LINK = 100  # the daemon was not heard any more
HANDSHAKE = 101  # an Error stood
NOT_ANNOUNCED = 102  # the daemon refused the trigger, for none of the reasons above
OTHER_PRODUCT = 103  # the verdict is about another product than was asked for
ADVISORY = 104  # no trigger proves that the verdict is about this part
UNKNOWN = 255  # a reason that this version does not know

BRIDGE_REASONS: dict[int, str] = {
    LINK: "link",
    HANDSHAKE: "handshake",
    NOT_ANNOUNCED: "not_announced",
    OTHER_PRODUCT: "other_product",
    ADVISORY: "advisory",
    UNKNOWN: "unknown",
}


def reason_code(reason: str) -> int:
    """The number of a reason as it stands in a verdict; UNKNOWN for one of a newer daemon."""
    try:
        return REASONS[Reason(reason)]
    except (KeyError, ValueError):
        return UNKNOWN


def reason_name(code: int) -> str:
    """The word for a number, "none" for 0."""
    if code in BRIDGE_REASONS:
        return BRIDGE_REASONS[code]
    return next((r.value or "none" for r, number in REASONS.items() if number == code), "unknown")
