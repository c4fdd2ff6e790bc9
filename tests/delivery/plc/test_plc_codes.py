from __future__ import annotations

from edge_ad.delivery.plc import codes
from edge_ad.delivery.plc.codes import MAP_VERSION, REASONS, Error, Result, State
from edge_ad.verdict import Reason

# What PLC programs out there are written against. A new word gets a new number; none is ever changed.
FROZEN = {
    "": 0, "score": 1, "uncalibrated": 2, "unknown_product": 3, "changeover": 4, "calibrating": 5,
    "not_finite": 6, "late": 7, "frame_size": 8, "pixel_format": 9, "unreadable": 10,
    "missing_view": 11, "not_found": 12, "out_of_range": 13, "empty": 14, "two_parts": 15,
    "orientation": 16, "mirrored": 17, "engine": 18, "no_frame": 19, "overflow": 20, "key_reused": 21,
    "stopped": 22, "dark": 23, "saturated": 24, "frozen": 25, "challenge": 26, "not_kept": 27,
}  # fmt: skip


def test_every_reason_has_its_number_and_none_has_changed() -> None:
    assert {reason.value: number for reason, number in REASONS.items()} == FROZEN
    assert set(REASONS) == set(Reason)
    assert len(set(REASONS.values()) | set(codes.BRIDGE_REASONS)) == len(REASONS) + len(
        codes.BRIDGE_REASONS
    )


def test_the_other_numbers_have_not_changed() -> None:
    assert MAP_VERSION == 1
    assert {r.name: int(r) for r in Result} == {"NONE": 0, "PASS": 1, "REJECT": 2, "FAULT": 3}
    assert [int(s) for s in State] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {e.name: int(e) for e in Error} == {
        "NONE": 0, "TRIGGER_NOT_READY": 1, "NO_ACK": 2, "PLC_HEARTBEAT": 3, "BAD_KEY": 4,
        "KEY_REUSED": 5, "COUNT_MISMATCH": 6, "DAEMON_LINK": 100, "MAP_MISMATCH": 101, "PRODUCT": 102,
        "RECORD": 103,
    }  # fmt: skip
    assert codes.BRIDGE_REASONS == {
        100: "link", 101: "handshake", 102: "not_announced", 103: "other_product", 104: "advisory",
        255: "unknown",
    }  # fmt: skip


def test_a_reason_of_a_newer_daemon_is_named_unknown() -> None:
    assert codes.reason_code("something_new") == codes.UNKNOWN
    assert codes.reason_name(codes.reason_code("late")) == "late"
    assert codes.reason_name(0) == "none" and codes.reason_name(77) == "unknown"
