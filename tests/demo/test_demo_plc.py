"""The simulated PLC program, scan by scan, and what the demo makes of its counts."""

from __future__ import annotations

from edge_ad.delivery.plc.codes import Result
from edge_ad.delivery.plc.handshake import Announce, Handshake
from edge_ad.delivery.plc.registers import OUTPUT_SIZE, decode_inputs, encode_outputs
from edge_ad.delivery.wire import VERSION, Header, ScoreBody
from edge_ad.demo.plc import plc_problems
from edge_ad.demo.plc_program import Counts, PlcProgram, Settings

NS_PER_MS = 1_000_000


def play(program: PlcProgram, verdicts: dict[str, str], delay_ms: int = 30, most: int = 20_000) -> None:
    """Scans of 10 ms against a handshake whose daemon answers after `delay_ms`."""
    handshake = Handshake()
    handshake.link_up("e1", "plate", 0)
    read = [0] * OUTPUT_SIZE
    due: dict[str, int] = {}
    for now in range(0, most, 10):
        image = program.scan(read, now)
        for key in [key for key, at in due.items() if at <= now]:
            del due[key]
            word = verdicts.get(key, "PASS")
            if word:
                header = Header(VERSION, "s", "e1", 1, key, 0, 0, "plate", "sha", "message")
                body = ScoreBody(word, "" if word == "PASS" else "score")
                handshake.delivered(header, body, True, now * NS_PER_MS)
        inputs = decode_inputs(image.registers(), "high_first")
        read = encode_outputs(handshake.step(inputs, now * NS_PER_MS), "high_first")
        for action in handshake.take():
            if isinstance(action, Announce):
                due[action.part] = now + delay_ms
                handshake.replied(action.part, True, "", now * NS_PER_MS)
        if program.done:
            return
    raise AssertionError("the program did not end")


def test_each_part_has_one_result_and_one_gate_action_in_scans() -> None:
    program = PlcProgram(Settings(20, "S", gate_ms=300.0))
    play(program, {"S00000003": "REJECT", "S00000005": "FAULT"})
    counts = program.counts
    assert counts.triggers == 20 and counts.results == {"NONE": 0, "PASS": 18, "REJECT": 1, "FAULT": 1}
    assert counts.gate == {"passed": 18, "rejected": 2} and not counts.errors.keys() - {"daemon_link"}
    passed = {f"S{n:08d}" for n in range(1, 21)} - {"S00000003", "S00000005"}
    assert set(counts.passed_keys) == passed
    assert plc_problems(counts, dict.fromkeys(passed, "PASS"), 20) == []
    assert 30 <= min(counts.round_trips_ms) <= max(counts.round_trips_ms) <= 100


def test_a_part_whose_result_comes_after_the_gate_is_rejected() -> None:
    program = PlcProgram(Settings(3, "S", gate_ms=100.0))
    play(program, {}, delay_ms=300)
    assert program.counts.results["PASS"] == 3
    assert program.counts.gate == {"passed": 0, "rejected": 3}


def test_a_verdict_that_never_comes_is_a_fault_and_the_line_goes_on() -> None:
    program = PlcProgram(Settings(3, "S", gate_ms=2000.0))
    play(program, {"S00000002": ""})
    assert program.counts.results == {"NONE": 0, "PASS": 2, "REJECT": 0, "FAULT": 1}
    assert program.counts.gate == {"passed": 2, "rejected": 1}


def test_what_is_wrong_is_told() -> None:
    counts = Counts(triggers=2, passed_keys=["a", "b"], gate={"passed": 2, "rejected": 0})
    counts.results["PASS"] = 2
    assert plc_problems(counts, {"a": "PASS", "b": "PASS"}, 2) == []
    [wrong] = plc_problems(counts, {"a": "PASS", "b": "REJECT"}, 2)
    assert "without a PASS, as b" in wrong
    [few] = plc_problems(counts, {"a": "PASS", "b": "PASS"}, 3)
    assert "2 triggers of 3" in few
    counts.gate["rejected"] = 1
    assert len(plc_problems(counts, {"a": "PASS", "b": "PASS"}, 2)) == 1
    assert Result.NONE.name in counts.results


def test_a_bridge_that_goes_away_with_trigger_up_is_given_up_and_the_part_rejected() -> None:
    program = PlcProgram(Settings(1, "S", gate_ms=500.0, patience_ms=300.0))
    handshake = Handshake()
    handshake.link_up("e1", "plate", 0)
    read = [0] * OUTPUT_SIZE
    for now in range(0, 5_000, 10):
        image = program.scan(read, now)
        inputs = decode_inputs(image.registers(), "high_first")
        if inputs.trigger:
            handshake = Handshake()  # another life of it, which knows nothing of the part
            handshake.link_up("e1", "plate", now * NS_PER_MS)
        read = encode_outputs(handshake.step(inputs, now * NS_PER_MS), "high_first")
        if program.done:
            break
    counts = program.counts
    assert program.done and counts.unanswered == 1 and counts.gate == {"passed": 0, "rejected": 1}
