from __future__ import annotations

import pytest
from made_up_verdicts import MS, Belt

from edge_ad.config.gate import parse_gate
from edge_ad.delivery.station.events import Alarm, LineStop, Pass, Promise, Resync, Revoke, Shut, Why
from edge_ad.delivery.station.rules import rules_of


def test_a_part_with_its_own_live_pass_passes_around_the_gate_and_no_longer() -> None:
    belt = Belt()
    belt.present(100, "A")
    belt.verdict(150, "A", 1)
    belt.tick(389)
    assert belt.ends == []
    belt.tick(390)
    assert belt.of(Pass) == [
        Pass(1, "A", 390 * MS, 420 * MS, (("main", "0001-a", 1),), 100 * MS, 150 * MS)
    ]


@pytest.mark.parametrize(
    ("part", "changes", "why"),
    [
        ("A", {"verdict": "REJECT", "reason": "score"}, "not_pass score"),
        ("A", {"verdict": "FAULT", "reason": "late"}, "not_pass late"),
        ("A", {"verdict": "pass"}, "not_pass pass"),
        ("A", {"live": False}, "replayed"),
        ("A", {"advisory": True}, "advisory main"),
        ("A", {"station": "line2"}, "station main"),
        ("A", {"product": "cube"}, "product main"),
        ("A", {"v": "2.0"}, "version main"),
        ("A", {"epoch": "0000-z"}, "unsynced main"),
        ("B", {}, "no_verdict main"),
    ],
)
def test_what_is_no_live_pass_of_the_part_itself_rejects(
    part: str, changes: dict[str, str], why: str
) -> None:
    belt = Belt(product="disc")
    belt.present(100, "A")
    belt.verdict(150, part, 1, **changes)  # type: ignore[arg-type]
    belt.tick(390)
    belt.tick(1000)
    assert belt.ends == [f"A {why}"]
    belt.verdict(391, "A", 2)
    belt.tick(2000)
    assert belt.ends == [f"A {why}"]


def test_a_verdict_after_the_deadline_is_late_and_one_after_the_gate_changes_nothing() -> None:
    belt = Belt()
    belt.present(100, "A")
    belt.verdict(301, "A", 1)
    belt.present(200, "B")
    belt.tick(490)
    belt.verdict(491, "B", 2)
    assert belt.ends == ["A late", "B no_verdict main"]
    assert belt.tracker.unmatched["late"] == 1


def test_order_of_arrival_proves_nothing() -> None:
    belt = Belt()
    belt.present(100, "A")
    belt.present(200, "B")
    belt.verdict(210, "B", 2)
    belt.verdict(211, "C", 3)
    belt.tick(390)
    belt.tick(490)
    assert belt.ends == ["A no_verdict main", "B pass"]


def test_a_verdict_that_comes_before_its_part_is_held_for_a_while() -> None:
    belt = Belt(hold_ns=50 * MS)
    belt.verdict(90, "A", 1)
    belt.present(100, "A")
    belt.verdict(110, "B", 2)
    belt.tick(161)
    belt.present(162, "B")
    belt.tick(390)
    belt.tick(452)
    assert belt.ends == ["A pass", "B no_verdict main"]
    assert belt.tracker.unmatched["expired"] == 1


def test_verdicts_without_parts_do_not_fill_memory() -> None:
    belt = Belt(max_held=8)
    for number in range(100):
        belt.verdict(10, f"X{number}", number + 1)
    assert belt.tracker.unmatched["no_room"] == 92
    belt.present(11, "X99")
    belt.tick(301)
    assert belt.ends == ["X99 pass"]


@pytest.mark.parametrize("apart", [1, 100, 5000])
def test_a_key_that_is_seen_again_rejects_both_or_the_later_if_one_has_gone(apart: float) -> None:
    belt = Belt()
    belt.present(100, "A")
    belt.verdict(105, "A", 1)
    for at in (390,) if apart > 290 else ():
        belt.tick(at)
    belt.present(100 + apart, "A")
    belt.verdict(106 + apart, "A", 2)
    belt.tick(390)
    belt.tick(390 + apart)
    first = "A pass" if apart > 290 else "A key_reused"
    assert belt.ends == [first, "A key_reused"]


@pytest.mark.parametrize("first", ["sensor", "camera"])
def test_of_two_parts_with_one_key_neither_passes_where_each_side_saw_another_one(first: str) -> None:
    gate = parse_gate({
        "schema": 1, "station": "line1", "source": [{"name": "main", "endpoint": "ipc://v.sock"}],
        "belt": {"travel_ms": 1000.0, "deadline_ms": 1000.0}, "present": {"uri": "ipc://p.sock"},
        "output": {"uri": "ipc://g.sock"},
    })  # fmt: skip
    belt = Belt(**{f: getattr(rules_of(gate), f) for f in ("travel", "deadline_ns", "match_ns")})
    seen, triggered = (1000, 1300) if first == "sensor" else (1300, 1000)
    belt.present(1000, "A") if first == "sensor" else None
    belt.verdict(1020 if first == "camera" else 1320, "A", 1, t_trigger_ns=triggered * MS)
    belt.present(1300, "A") if first == "camera" else None
    belt.tick(seen + 1000)
    assert belt.ends[0].startswith("A ambiguous")


def test_two_verdicts_with_one_key_reject_it_but_the_same_one_twice_does_not() -> None:
    belt = Belt()
    belt.present(100, "A")
    belt.verdict(105, "A", 1)
    belt.verdict(106, "A", 2)
    belt.present(200, "B")
    belt.verdict(205, "B", 3)
    belt.verdict(206, "B", 3)
    belt.verdict(300, "C", 4)
    belt.verdict(301, "C", 5)
    belt.present(310, "C")
    for ms in (390, 490, 600):
        belt.tick(ms)
    assert belt.ends == ["A key_reused two verdicts", "B pass", "C key_reused two verdicts"]


def test_every_required_source_must_pass_and_others_have_no_say() -> None:
    belt = Belt(sources=("left", "right", "extra"), required=frozenset({"left", "right"}))
    for number, key in enumerate("ABC"):
        belt.present(100 + 100 * number, key)
    for key in "ABC":
        belt.verdict(301, key, ord(key), source="left") if key != "A" else None
        belt.verdict(301, key, ord(key), "REJECT", "score", source="extra")
    belt.verdict(302, "B", 2, source="right")
    belt.verdict(302, "C", 3, "REJECT", "score", source="right")
    for ms in (390, 490, 590):
        belt.tick(ms)
    assert belt.ends == ["A no_verdict left", "B pass", "C not_pass score"]


def test_parts_from_before_a_link_are_never_passed() -> None:
    belt = Belt(up=False)
    belt.present(100, "A")
    belt.up(120)
    belt.verdict(130, "A", 1)
    belt.present(200, "B")
    belt.verdict(210, "B", 2)
    belt.up(220, epoch="0002-b")
    belt.present(300, "C")
    belt.verdict(310, "C", 3, epoch="0001-a")
    belt.present(400, "D")
    belt.verdict(410, "D", 1, epoch="0002-b")
    for ms in (390, 490, 590, 690):
        belt.tick(ms)
    assert [end.split()[:2] for end in belt.ends] == [
        ["A", "link_down"], ["B", "unsynced"], ["C", "unsynced"], ["D", "pass"],
    ]  # fmt: skip
    assert [r.source for r in belt.of(Resync)] == ["main", "main"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_lost_link_rejects_what_is_on_the_belt(keep: bool) -> None:
    belt = Belt(keep_proven=keep)
    belt.present(100, "A")
    belt.verdict(110, "A", 1)
    belt.present(200, "B")
    belt.actions += belt.tracker.link_down("main", "no heartbeat", 250 * MS)
    belt.verdict(251, "B", 2)
    belt.present(300, "C")
    for ms in (390, 490, 590):
        belt.tick(ms)
    first = "A pass" if keep else "A link_down no heartbeat"
    assert belt.ends == [first, "B link_down no heartbeat", "C link_down main"]
    assert [a.kind for a in belt.of(Alarm)] == ["link"]


def test_a_part_that_is_announced_after_the_link_but_was_there_before_is_not_passed() -> None:
    belt = Belt(up=False)
    belt.up(120)
    belt.actions += belt.tracker.present("A", 119 * MS, 125 * MS)
    belt.verdict(130, "A", 1)
    belt.tick(409)
    assert belt.ends == ["A unsynced main"]


def test_a_daemon_of_another_station_is_told_and_rejected() -> None:
    belt = Belt(up=False)
    belt.up(10, station="line2")
    belt.present(100, "A")
    belt.verdict(110, "A", 1)
    belt.tick(390)
    assert belt.ends == ["A station main"]
    assert [a.kind for a in belt.of(Alarm)] == ["station"] and "line2" in belt.of(Alarm)[0].text


def test_a_part_without_a_key_or_seen_too_late_rejects() -> None:
    belt = Belt()
    belt.present(100, None)
    belt.present(200, "B", stale=True)
    belt.verdict(210, "B", 1)
    belt.tick(390)
    belt.tick(490)
    assert [end.strip() for end in belt.ends] == ["no_key", "B unsynced seen too late to know when"]


def test_a_station_that_comes_too_late_to_the_gate_does_not_pass_the_next_part() -> None:
    belt = Belt()
    belt.present(100, "A")
    belt.verdict(110, "A", 1)
    belt.tick(421)
    assert belt.ends == ["A missed"]


def test_parts_that_the_gate_cannot_part_reject_both_even_when_one_is_passing() -> None:
    belt = Belt()
    belt.present(100, "A")
    belt.present(130, "B")
    belt.verdict(140, "A", 1)
    belt.verdict(140, "B", 2)
    belt.tick(390)
    belt.tick(420)
    assert belt.ends == ["A too_close", "B too_close"]
    belt.present(500, "C")
    belt.verdict(510, "C", 3)
    belt.tick(790)
    now = 791 * MS  # told late of a part that was close behind
    belt.actions += belt.tracker.present("D", 520 * MS, now)
    assert belt.ends[-1] == "C pass" and belt.of(Shut)
    belt.tick(811)
    assert belt.ends[-1] == "D too_close"


def test_parts_that_are_announced_out_of_order_are_told_apart_by_where_they_are() -> None:
    belt = Belt()
    for ms, key in ((100, "A"), (300, "C")):
        belt.present(ms, key)
    belt.actions += belt.tracker.present("B", 110 * MS, 310 * MS)
    for number, key in enumerate("ABC", 1):
        belt.verdict(320, key, number, t_trigger_ns=0) if key == "C" else None
    belt.tick(390)
    belt.tick(400)
    belt.tick(590)
    assert [e.split()[1] for e in belt.ends] == ["too_close", "too_close", "pass"]


def test_what_may_pass_is_promised_ahead_of_time_and_taken_back_when_it_does_not_hold() -> None:
    belt = Belt(promises=True)
    belt.present(100, "A")
    assert belt.of(Promise) == []
    belt.verdict(110, "A", 1)
    assert belt.of(Promise) == [Promise(1, "A", 390 * MS, 420 * MS)]
    belt.present(200, "B")
    belt.verdict(210, "B", 2)
    belt.verdict(220, "B", 3)  # a second part of this key
    assert belt.of(Revoke) == [Revoke(2, "B", Why.KEY_REUSED)]
    belt.tick(450)  # the station was away while A went by, as it was promised
    belt.tick(490)
    assert belt.ends == ["A pass", "B key_reused two verdicts"]
    assert len(belt.of(Promise)) == 2 and len(belt.of(Revoke)) == 1


def test_more_parts_than_there_is_room_for_reject_at_once() -> None:
    belt = Belt(max_parts=2)
    for number, key in enumerate("ABC"):
        belt.present(100 + 50 * number, key)
        belt.verdict(101 + 50 * number, key, number + 1)
    assert belt.ends == ["C overflow"]
    belt.tick(390)
    belt.tick(440)
    assert belt.ends == ["C overflow", "A pass", "B pass"]


def test_by_encoder_the_belt_may_stop_and_the_pulse_ends_behind_the_gate() -> None:
    belt = Belt(travel=100, before=2, after=5, by_counts=True, pulse_ns=1000 * MS)
    belt.present(100, "A", 1000)
    belt.verdict(110, "A", 1)
    belt.actions += belt.tracker.encoder(1097, 50_000 * MS)
    assert belt.ends == []
    belt.actions += belt.tracker.encoder(1098, 50_001 * MS)
    assert belt.of(Pass)[0].until_ns == 51_001 * MS
    belt.actions += belt.tracker.encoder(1105, 50_002 * MS)
    assert belt.of(Shut) == []
    belt.actions += belt.tracker.encoder(1106, 50_003 * MS)
    assert len(belt.of(Shut)) == 1
    belt.present(60_000, "B", 1200)
    belt.verdict(60_001, "B", 2)
    belt.actions += belt.tracker.encoder(1306, 60_050 * MS)
    assert belt.ends == ["A pass", "B missed"]


def test_an_encoder_that_says_nothing_or_goes_back_proves_nothing() -> None:
    belt = Belt(travel=100, before=2, after=5, by_counts=True, pulse_ns=1000 * MS)
    belt.present(100, "A")
    assert belt.ends == ["A no_encoder"]
    belt.present(200, "B", 500)
    belt.verdict(210, "B", 1)
    belt.actions += belt.tracker.encoder(3, 220 * MS)
    assert belt.ends[-1].startswith("B unsynced encoder went from 500 to 3")
    belt.present(300, "C", 10)
    belt.verdict(301, "C", 2)
    belt.actions += belt.tracker.encoder(110, 400 * MS)
    assert belt.ends[-1] == "C pass"


def test_a_reject_that_is_not_confirmed_stops_the_line_until_a_person_resets_it() -> None:
    belt = Belt(confirm_ns=100 * MS)
    belt.present(100, "A")
    belt.verdict(110, "A", 1)
    belt.present(200, "B")
    belt.verdict(210, "B", 2, "REJECT", "score")
    belt.tick(390)
    belt.tick(490)
    belt.actions += belt.tracker.confirmed(550 * MS)
    belt.present(500, "C")
    belt.verdict(510, "C", 3, "REJECT", "score")
    belt.tick(790)
    assert belt.ends == ["A pass", "B not_pass score", "C not_pass score"]
    due = belt.tracker.next_due()
    assert due is not None and 920 * MS <= due <= 921 * MS
    belt.tick(921)
    assert [a.kind for a in belt.of(Alarm)] == ["unconfirmed"] and belt.of(LineStop) == [LineStop(True)]
    assert "'C'" in belt.of(Alarm)[0].text
    belt.present(930, "F")
    belt.verdict(931, "F", 9)
    belt.tick(1220)
    belt.actions += belt.tracker.reset(1300 * MS)
    belt.present(1400, "G")
    belt.verdict(1401, "G", 10)
    belt.tick(1700)
    assert belt.ends[-2:] == ["F line_stop", "G pass"]
    assert belt.of(LineStop) == [LineStop(True), LineStop(False)]


def test_a_part_in_the_bin_that_was_not_rejected_is_an_alarm_once_parts_have_come() -> None:
    belt = Belt(confirm_ns=100 * MS)
    belt.actions += belt.tracker.confirmed(50 * MS)  # from before this start
    assert belt.of(Alarm) == []
    belt.present(100, "A")
    belt.verdict(110, "A", 1)
    belt.tick(390)
    belt.actions += belt.tracker.confirmed(450 * MS)
    assert [a.kind for a in belt.of(Alarm)] == ["unexpected"]


def test_a_line_stop_is_still_there_after_a_restart() -> None:
    belt = Belt(line_stop=True, confirm_ns=100 * MS)
    belt.present(100, "A")
    belt.verdict(110, "A", 1)
    belt.tick(390)
    assert belt.ends == ["A line_stop"]


def test_what_the_station_lost_rejects_the_belt_and_is_counted() -> None:
    belt = Belt()
    belt.present(100, "A")
    belt.verdict(110, "A", 1)
    belt.actions += belt.tracker.desync("edges were lost", 120 * MS)
    belt.present(200, "B")
    belt.verdict(210, "B", 2)
    belt.tick(390)
    belt.tick(490)
    assert belt.ends == ["A unsynced edges were lost", "B pass"]
    assert belt.of(Resync)[-1] == Resync("main", "edges were lost")
