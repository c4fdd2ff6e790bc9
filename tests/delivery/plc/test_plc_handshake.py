from __future__ import annotations

from dataclasses import replace

import pytest
from plc_rig import MS, TIMING, Rig

from edge_ad.delivery.plc import codes
from edge_ad.delivery.plc.codes import Error, Result, State
from edge_ad.delivery.plc.handshake import Announce, AskProduct, Closed, Raised


def test_four_phases_bring_one_part_from_trigger_to_acknowledgement() -> None:
    rig = Rig()
    assert rig.out.ready and rig.out.state is State.READY and not rig.out.error
    out = rig.say(part="A1", count=7, trigger=True)
    assert out.busy and not out.ready and out.trigger_echo == 7 and not out.result_valid
    assert out.state is State.SINGLE_EXECUTION
    assert Announce("A1", "", 7) in rig.actions
    assert rig.say(trigger=False).busy
    rig.handshake.replied("A1", True, "", rig.now)
    assert rig.judge("A1")
    out = rig.say()
    assert out.result_valid and not out.busy and not out.ready
    assert (out.part, out.verdict, out.reason, out.results) == ("A1", Result.PASS, 0, 1)
    for _ in range(5):
        assert rig.say().result_valid  # held until Ack
    out = rig.say(ack=True)
    assert not out.result_valid and not out.ready and out.verdict is Result.NONE
    assert rig.say(ack=False).ready
    assert Closed("A1", 7, Result.PASS, 0, True) in rig.actions


def test_a_reject_and_a_fault_say_why() -> None:
    rig = Rig()
    for key, word, reason in (("A", "REJECT", "score"), ("B", "FAULT", "no_frame")):
        rig.trigger(key)
        rig.judge(key, word, reason=reason)
        rig.say()
        assert rig.take(key) == (int(Result[word]), codes.reason_code(reason))


@pytest.mark.parametrize(
    "word, reason", [("PASS", "score"), ("MAYBE", ""), ("", ""), ("FAULT", "new_one")]
)
def test_what_is_not_understood_is_a_fault(word: str, reason: str) -> None:
    rig = Rig()
    rig.trigger("A")
    rig.judge("A", word, reason=reason)
    rig.say()
    assert rig.out.verdict is Result.FAULT and rig.out.reason != 0


def test_a_verdict_waits_until_the_daemon_has_accepted_its_part() -> None:
    rig = Rig()
    rig.trigger("A", answered=False)
    assert rig.judge("A")
    assert not rig.say().result_valid
    rig.handshake.replied("A", True, "", rig.now)
    rig.say()
    assert rig.take("A") == (Result.PASS, 0)


def test_a_verdict_on_an_earlier_part_with_the_same_key_passes_nothing() -> None:
    rig = Rig()  # of a bridge that restarted while the daemon had the first one under way
    rig.trigger("A", answered=False)
    rig.judge("A")
    rig.handshake.replied("A", False, "key_reused", rig.now)
    rig.say()
    assert rig.take("A") == (Result.FAULT, codes.reason_code("key_reused"))
    rig.trigger("B", answered=False)
    rig.judge("B")
    rig.say(ms=600)  # no answer to the trigger
    assert rig.take("B") == (Result.FAULT, codes.LATE)


def test_a_verdict_of_another_life_of_the_daemon_passes_nothing() -> None:
    rig = Rig()
    rig.trigger("A")
    assert not rig.judge("A", epoch="e2")
    rig.handshake.link_up("e2", "plate", rig.now)
    rig.say()
    assert rig.take("A") == (Result.FAULT, codes.LINK)


def test_a_verdict_that_is_not_there_by_the_deadline_is_a_fault() -> None:
    rig = Rig()
    rig.trigger("A")
    rig.say(ms=600)
    assert rig.out.result_valid
    assert not rig.judge("A")  # too late: it is about nobody
    assert rig.take("A") == (Result.FAULT, codes.LATE)
    assert rig.out.ready and not rig.out.error  # a late part is no error


def test_a_pass_that_comes_after_the_deadline_between_two_steps_is_a_fault() -> None:
    rig = Rig()
    rig.trigger("A")
    rig.now += 600 * MS
    assert rig.judge("A")
    rig.say()
    assert rig.take("A") == (Result.FAULT, codes.LATE)


def test_a_pass_that_could_not_be_shown_in_time_is_a_fault() -> None:
    rig = Rig(replace(TIMING, depth=2))
    rig.trigger("A")
    rig.judge("A")
    rig.say()
    rig.trigger("B")
    rig.judge("B")
    rig.say(ms=700)  # the PLC takes its time with A
    assert rig.take("A") == (Result.PASS, 0)
    assert rig.take("B") == (Result.FAULT, codes.LATE)


def test_another_part_a_replayed_and_an_advisory_verdict_never_pass_a_part() -> None:
    rig = Rig()
    rig.trigger("A")
    assert not rig.judge("B") and not rig.judge("a") and not rig.judge("A", live=False)
    assert not rig.say().result_valid
    assert rig.judge("A", advisory=True)
    rig.say()
    assert rig.take("A") == (Result.FAULT, codes.ADVISORY)


def test_a_verdict_about_another_product_is_a_fault() -> None:
    rig = Rig()
    rig.say(product="plate")
    rig.trigger("A")
    assert rig.actions[-1] == Announce("A", "plate", 1)
    rig.judge("A", product="bolt")
    rig.say()
    assert rig.take("A") == (Result.FAULT, codes.OTHER_PRODUCT)
    rig.say(product="")  # whatever the daemon makes
    rig.trigger("B")
    rig.judge("B", product="bolt")
    rig.say()
    assert rig.take("B") == (Result.PASS, 0)


def test_trigger_while_not_ready_is_an_error_and_a_fault_for_every_part_at_hand() -> None:
    rig = Rig()
    rig.trigger("A")
    out = rig.trigger("B")  # A is under way
    assert out.error and out.error_code is Error.TRIGGER_NOT_READY and out.state is State.ERROR
    assert out.verdict is Result.FAULT and not out.ready
    assert Raised(Error.TRIGGER_NOT_READY, "B") in rig.actions
    assert not rig.judge("B") and not rig.judge("A")
    assert rig.take("A") == (Result.FAULT, codes.HANDSHAKE)
    assert not rig.out.ready  # until Reset
    rig.say(reset=True)
    assert rig.say(reset=False).ready
    assert not any(isinstance(a, Announce) and a.part == "B" for a in rig.actions)


def test_a_pass_that_waits_for_ack_turns_into_a_fault_with_an_error_and_stays_one() -> None:
    rig = Rig()
    rig.trigger("A")
    rig.judge("A")
    assert rig.say().verdict is Result.PASS
    rig.handshake.link_down(rig.now)
    assert rig.say().verdict is Result.FAULT
    rig.handshake.link_up("e1", "plate", rig.now)
    out = rig.say()
    assert not out.error and rig.take("A") == (Result.FAULT, codes.HANDSHAKE)


def test_a_plc_that_never_acknowledges_stops_the_line_and_overwrites_nothing() -> None:
    rig = Rig(replace(TIMING, depth=3))
    for key in "ABC":
        rig.trigger(key)
        rig.judge(key)
    assert rig.say().part == "A" and not rig.out.ready  # full
    for _ in range(21):
        rig.say(ms=100)
    assert rig.out.error_code is Error.NO_ACK and not rig.out.ready
    assert (rig.out.part, rig.out.verdict) == ("A", Result.FAULT)
    for key in "ABC":
        assert rig.take(key) == (Result.FAULT, codes.HANDSHAKE)
    rig.say(reset=True)
    assert rig.say(reset=False).ready


def test_reset_withdraws_what_waits_and_each_part_still_ends_once() -> None:
    rig = Rig(replace(TIMING, depth=3))
    for key in "ABC":
        rig.trigger(key)
    rig.judge("A")
    rig.say()
    out = rig.say(reset=True)
    assert not out.result_valid and not out.busy and not out.ready
    closed = [a for a in rig.actions if isinstance(a, Closed)]
    assert [(c.part, c.verdict, c.acknowledged) for c in closed] == [
        (key, Result.FAULT, False) for key in "ABC"
    ]
    assert rig.say(reset=False).ready


def test_several_parts_are_under_way_where_the_depth_allows() -> None:
    rig = Rig(replace(TIMING, depth=2))
    out = rig.trigger("A")
    assert out.ready and out.busy and out.state is State.CONTINUOUS_EXECUTION
    out = rig.trigger("B")
    assert not out.ready and out.trigger_echo == 2
    rig.judge("B")
    rig.judge("A", "REJECT", reason="score")
    rig.say()
    assert rig.take("B") == (Result.PASS, 0)  # each with its key, as they come
    assert rig.take("A") == (Result.REJECT, 1)


def test_the_plcs_heartbeat_is_watched() -> None:
    rig = Rig()
    rig.trigger("A")
    rig.judge("A")
    rig.say()
    rig.beating = False
    assert not rig.say(ms=900).error
    out = rig.say(ms=300)
    assert out.error_code is Error.PLC_HEARTBEAT and not out.ready and out.verdict is Result.FAULT
    assert rig.handshake.step(None, rig.now + MS).error  # or nothing is heard at all
    rig.beating = True
    assert rig.say().error  # until Reset
    rig.say(reset=True)
    assert rig.say(reset=False).ready


def test_ready_waits_for_a_plc_that_is_alive_and_enables() -> None:
    rig = Rig(up=False)
    out = rig.say()
    assert not out.ready and out.error_code is Error.DAEMON_LINK
    rig.handshake.link_up("e1", "plate", rig.now)
    assert rig.say(enable=False).state is State.HALTED
    assert rig.trigger("A").error_code is Error.TRIGGER_NOT_READY
    rig.say(enable=True, reset=True)
    assert rig.say(reset=False).ready
    still = Rig(up=False)
    still.beating = False
    still.handshake.link_up("e1", "plate", still.now)
    still.say()
    assert still.say().state is State.PREOPERATIONAL and not still.out.ready


def test_our_own_heartbeat_advances() -> None:
    rig = Rig()
    seen = {rig.say(ms=100).heartbeat for _ in range(5)}
    assert len(seen) == 5


def test_link_lost_fails_the_parts_under_way_and_comes_back_by_itself() -> None:
    rig = Rig()
    rig.trigger("A")
    rig.handshake.link_down(rig.now)
    out = rig.say()
    assert out.error_code is Error.DAEMON_LINK and not out.ready and out.product == ""
    assert rig.take("A") == (Result.FAULT, codes.LINK)
    rig.handshake.link_up("e2", "plate", rig.now)
    assert rig.say().ready and not rig.judge("A")


def test_another_life_of_the_daemon_answers_for_no_part_of_the_last() -> None:
    rig = Rig()
    rig.trigger("A")
    rig.handshake.link_up("e2", "plate", rig.now)
    assert not rig.judge("A")
    rig.say()
    assert rig.take("A") == (Result.FAULT, codes.LINK)


def test_a_trigger_that_the_daemon_refuses_is_a_fault_with_its_reason() -> None:
    rig = Rig()
    for key, reason, code in (
        ("A", "overflow", 20), ("B", "not_ready", codes.NOT_ANNOUNCED), ("C", "", codes.NOT_ANNOUNCED),
    ):  # fmt: skip
        rig.trigger(key)
        rig.handshake.replied(key, False, reason, rig.now)
        rig.say()
        assert rig.take(key) == (Result.FAULT, code)
    rig.trigger("D")
    rig.handshake.replied("D", True, "", rig.now)
    assert not rig.say().result_valid


@pytest.mark.parametrize("key", ["", "with blank", "nul\0byte", "über", "\x07", "k" * 33])
def test_an_empty_or_garbled_key_is_refused(key: str) -> None:
    rig = Rig()
    out = rig.trigger(key)
    assert out.error_code is Error.BAD_KEY and out.verdict is Result.FAULT and not out.result_valid
    assert not any(isinstance(a, Announce) for a in rig.actions)


def test_a_key_that_a_part_had_before_is_refused() -> None:
    rig = Rig()
    rig.trigger("A")
    rig.judge("A")
    rig.say()
    rig.take("A")
    assert rig.trigger("A").error_code is Error.KEY_REUSED
    assert not rig.judge("A")


def test_a_trigger_that_was_missed_or_doubled_is_noticed_by_its_number() -> None:
    rig = Rig()
    rig.trigger("A", count=0xFFFF)
    rig.judge("A")
    rig.say()
    rig.take("A")
    rig.trigger("B", count=0)  # it wraps
    rig.judge("B")
    rig.say()
    assert rig.take("B") == (Result.PASS, 0)
    assert rig.trigger("C", count=2).error_code is Error.COUNT_MISMATCH
    rig.say(reset=True)
    rig.say(reset=False)
    assert rig.trigger("D", count=40).error_code is Error.NONE and rig.out.trigger_echo == 40


def test_a_plc_program_for_another_register_map_never_sees_ready() -> None:
    rig = Rig()
    out = rig.say(map_version=2)
    assert out.error_code is Error.MAP_MISMATCH and not out.ready and out.map_version == 1
    assert rig.say(map_version=1).ready  # by itself, once the right program runs


def test_ready_waits_until_the_daemon_makes_what_was_asked_for() -> None:
    rig = Rig()
    out = rig.say(product="bolt")
    assert not out.ready and out.product == "plate" and out.state is State.INITIALIZED
    assert rig.actions[-1] == AskProduct("bolt")
    rig.say()
    assert rig.actions.count(AskProduct("bolt")) == 1
    rig.handshake.product_is("bolt")
    out = rig.say()
    assert out.ready and out.product == "bolt"
    rig.say(product="none")
    rig.handshake.product_refused("none", rig.now)
    assert rig.say().error_code is Error.PRODUCT and not rig.out.ready
    rig.handshake.product_is("bolt")  # as before
    assert rig.say().error_code is Error.PRODUCT
    assert rig.say(product="bolt").ready


def test_what_cannot_be_recorded_does_not_pass() -> None:
    rig = Rig()
    rig.trigger("A")
    rig.judge("A")
    rig.handshake.recording(False, rig.now)
    out = rig.say()
    assert out.verdict is Result.FAULT and out.error_code is Error.RECORD
    rig.take("A")
    rig.handshake.recording(True, rig.now)
    assert rig.say().ready


def test_signals_that_are_up_when_the_bridge_starts_are_no_edges() -> None:
    rig = Rig(up=False)
    rig.handshake.link_up("e1", "plate", rig.now)
    out = rig.say(part="A", trigger=True, ack=True)
    out = rig.say()
    assert not out.busy and not out.ready and not out.error
    rig.say(trigger=False, ack=False)
    assert rig.out.ready
