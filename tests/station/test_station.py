"""The running station: a real line, a real gate, a scripted daemon."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from gate_rig import Rig, gate_of
from made_up_verdicts import EPOCH

from edge_ad.delivery.consumer import Lost, Refused
from edge_ad.delivery.station.run import Station
from edge_ad.errors import DeliveryError, DeviceError


def test_a_good_part_passes_in_its_window_and_everything_else_is_rejected(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.up()
        before = time.monotonic_ns()
        rig.announcer.present("A")
        after = time.monotonic_ns()
        first = rig.verdict("A")
        rig.listen("pass", until=lambda m: m.key == "A")
        told = rig.said[-1]
        assert before + 900_000_000 <= told.from_ns <= after + 900_000_000
        assert told.until_ns == told.from_ns + 500_000_000 and not rig.gate.may_pass("A")
        rig.until(lambda: time.monotonic_ns() > told.from_ns)
        # On a machine that is too slow to look within the window there is nothing to see.
        assert rig.gate.may_pass("A") or time.monotonic_ns() > told.until_ns - 100_000_000
        rig.announcer.present("B")
        rig.verdict("B", "REJECT", "score")
        time.sleep(0.6)  # the gate tells parts apart that are further apart than its window
        rig.announcer.present("C")
        last = rig.verdict("unknown")
        assert rig.ends("A", "B", "C") == ["A pass", "B reject not_pass", "C reject no_verdict"]
        assert rig.links["main"].acked[-1] == (EPOCH, last) and first == 1
        assert rig.told("pass") == ["pass A"]
        status = rig.control.request("status")
        assert status["state"] == "RUNNING" and status["parts"] == 3
        assert status["sources"]["main"]["acked"] == [EPOCH, last]
        page = urllib.request.urlopen(status["metrics"], timeout=10).read().decode()
        for line in (
            'edge_ad_station_actions_total{action="pass",why="none"} 1.0',
            'edge_ad_station_actions_total{action="reject",why="not_pass"} 1.0',
            'edge_ad_station_link_up{source="main"} 1.0',
            'edge_ad_station_resync_total{source="main"} 1.0',
            'edge_ad_station_unmatched_total{reason="expired"} 1.0',
            "edge_ad_station_action_seconds_count 3.0",
            "edge_ad_station_line_stop 0.0",
        ):
            assert line in page, line


def test_replayed_verdicts_are_recorded_and_acknowledged_but_never_acted_on(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.up()
        rig.announcer.present("A")
        rig.until(lambda: rig.station.tracker.parts == 1)
        number = rig.verdict("A", live=False)
        assert rig.ends("A") == ["A reject replayed"]
        rig.until(lambda: rig.links["main"].acked[-1:] == [(EPOCH, number)])
        assert rig.told("pass") == []


def test_a_promise_is_taken_back_when_the_link_is_lost(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.up()
        rig.announcer.present("A")
        rig.verdict("A")
        rig.listen("pass", until=lambda m: m.key == "A")
        rig.down()
        rig.listen("revoke", until=lambda m: m.key == "A" and m.why == "link_down")
        rig.listen("beat", until=lambda m: not m.link and m.state == "LINK_DOWN")
        assert rig.ends("A") == ["A reject link_down"]


def test_the_heartbeat_goes_on_without_parts_and_ends_with_the_station(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        for _ in range(5):
            rig.listen("beat", until=lambda m: True)
    assert rig.station.log is not None and rig.links["main"].closed


def test_an_actuator_that_is_not_confirmed_stops_the_line_until_a_person_resets_it(
    tmp_path: Path,
) -> None:
    uri = f"ipc://{tmp_path}/present.sock"
    with Rig(tmp_path, confirm={"what": "reject", "uri": uri, "within_ms": 300.0}) as rig:
        rig.up()
        rig.announcer.present("A")
        rig.verdict("A", "REJECT", "score")
        rig.ends("A")
        rig.announcer.confirm()
        rig.until(lambda: rig.station.tracker.confirmations.next_due() is None)
        assert not rig.gate.line_stop
        rig.announcer.present("B")
        rig.verdict("B", "REJECT", "score")
        rig.listen("line_stop", until=lambda m: m.on)
        assert rig.control.request("status")["state"] == "LINE_STOP"
        assert rig.metric("line_stop") == 1 and rig.metric("alarms_total", kind="unconfirmed") == 1
        rig.announcer.present("C")
        rig.verdict("C")
        assert rig.ends("A", "B", "C")[2] == "C reject line_stop"
    with Rig(tmp_path, confirm={"what": "reject", "uri": uri, "within_ms": 300.0}) as rig:
        rig.up()
        assert rig.control.request("status")["line_stop"] is True  # a restart is no reset
        assert rig.control.request("reset")["state"] == "RUNNING"
        rig.listen("line_stop", until=lambda m: not m.on)
        rig.announcer.present("D")
        rig.verdict("D")
        assert rig.ends(*"ABCD")[3] == "D pass"


def test_a_restarted_station_goes_on_where_it_was_and_acts_on_nothing_twice(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.up()
        rig.announcer.present("A")
        number = rig.verdict("A")
        rig.ends("A")
        rig.until(lambda: rig.links["main"].acked[-1:] == [(EPOCH, number)])
        rig.announcer.present("B")  # on the belt when the station goes
        rig.until(lambda: rig.station.tracker.parts == 2)
    with Rig(tmp_path) as rig:
        assert rig.links["main"].position == (EPOCH, number)
        rig.up()
        rig._seq = number
        rig.verdict("A", live=False)
        rig.verdict("B", live=False)
        rig.announcer.present("C")
        rig.verdict("C")
        assert rig.ends("A", "C") == ["A pass", "C pass"]
        assert rig.told("pass") == ["pass C"]


def test_a_second_station_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with Rig(tmp_path), pytest.raises(DeliveryError, match="running station with pid"):
        Station(gate_of(tmp_path)).start()


def test_a_daemon_of_another_station_or_version_is_named_counted_and_rejected(tmp_path: Path) -> None:
    with Rig(tmp_path, product="disc") as rig:
        rig.up(station="line2")
        rig.until(lambda: rig.metric("alarms_total", kind="station") == 1)
        rig.up()
        rig.announcer.present("A")
        rig.verdict("A", product="cube")
        assert rig.ends("A") == ["A reject product"]
        rig.links["main"].tell(Refused("the daemon speaks version '2.0'"))
        rig.links["main"].tell(Lost(EPOCH, 3, 9))
        rig.until(lambda: rig.metric("alarms_total", kind="lost") == 1)
        assert rig.metric("alarms_total", kind="refused") == 1
        assert rig.metric("link_up", source="main") == 0


def test_by_encoder_the_gate_is_where_the_belt_is(tmp_path: Path) -> None:
    uri = f"ipc://{tmp_path}/present.sock"
    belt = {"travel_ms": 0.0, "travel_counts": 100, "before": 2.0, "after": 5.0, "pulse_ms": 60_000.0,
            "deadline_ms": 60_000.0}  # fmt: skip
    with Rig(tmp_path, belt=belt, encoder={"uri": uri}) as rig:
        rig.up()
        rig.announcer.present("A", 1000)
        rig.heard(rig.verdict("A"))
        rig.announcer.encoder(1097)
        rig.until(lambda: rig.station.tracker.parts == 1)
        assert rig.told("pass") == []  # a belt that stands still brings nothing to the gate
        rig.announcer.encoder(1098)
        rig.listen("pass", until=lambda m: m.key == "A")
        assert rig.gate.may_pass("A")
        rig.announcer.encoder(1106)
        rig.listen("revoke", until=lambda m: m.key == "A")
        assert not rig.gate.may_pass("A")
        rig.announcer.present("B", 1200)
        rig.heard(rig.verdict("B", "REJECT", "score"))
        rig.until(lambda: rig.station.tracker.parts == 2)
        rig.announcer.encoder(1300)
        assert rig.ends("A", "B") == ["A pass", "B reject not_pass"]


def test_without_keys_time_and_counts_prove_which_part_is_which(tmp_path: Path) -> None:
    belt = {"travel_ms": 2500.0}
    identity = {"key": "time", "match_ms": 200.0, "resync_parts": 3}
    with Rig(tmp_path, belt=belt, identity=identity) as rig:
        rig.up()
        for number in range(1, 5):
            rig.announcer.present("not looked at")
            seen = time.monotonic_ns()
            verdict = ("REJECT", "score") if number == 2 else ("PASS", "")
            rig.verdict(f"x{number}", *verdict, t_trigger_ns=seen, count=number + 70)
            time.sleep(0.6)
        assert rig.ends(*"1234") == ["#1 pass", "#2 reject not_pass", "#3 pass", "#4 pass"]
        assert rig.control.request("status")["state"] == "RUNNING"
        rig.announcer.present("")
        rig.verdict("x5", t_trigger_ns=time.monotonic_ns(), count=76)  # the camera counted one more
        assert rig.ends(*"12345")[4] == "#5 reject unsynced"
        assert rig.metric("resync_total", source="main") == 2
        assert rig.control.request("status")["state"] == "RESYNC"


def test_a_damaged_log_is_set_aside_and_the_gate_goes_on(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "station.db").write_bytes(b"no database at all" * 100)
    with Rig(tmp_path) as rig:
        rig.until(lambda: rig.metric("alarms_total", kind="log") == 1)
        assert rig.metric("log_total", event="damaged") == 1 and rig.links["main"].position is None
        rig.up()
        rig.announcer.present("A")
        rig.verdict("A")
        assert rig.ends("A") == ["A pass"]


def test_a_log_that_is_damaged_in_between_costs_what_is_on_the_belt(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.up()
        rig.announcer.present("A")
        rig.until(lambda: rig.station.tracker.parts == 1)
        database = sqlite3.connect(tmp_path / "gate" / "station.db")
        database.execute("DROP TABLE verdicts")
        database.close()
        rig.verdict("A")
        rig.until(lambda: rig.metric("log_total", event="damaged") == 1)
        assert rig.ends("A") == ["A reject unsynced"]
        rig.announcer.present("B")
        rig.verdict("B")
        assert rig.ends("A", "B")[1] == "B pass"


def test_a_log_that_cannot_go_on_ends_the_station_with_its_gate_shut(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.up()
        rig._seq = 2**63 - 1
        rig.verdict("A")  # no such number fits into the file
        rig._thread.join(20)
        assert not rig._thread.is_alive() and isinstance(rig.error, DeviceError)
        assert "station's log" in str(rig.error)
        rig.listen("shut", until=lambda m: True)


def test_where_the_log_that_knew_of_a_line_stop_is_damaged_the_line_stops(tmp_path: Path) -> None:
    uri = f"ipc://{tmp_path}/present.sock"
    confirm = {"what": "reject", "uri": uri, "within_ms": 300.0}
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "station.db").write_bytes(b"no database at all" * 100)
    with Rig(tmp_path, confirm=confirm) as rig:
        rig.listen("line_stop", until=lambda m: m.on)
        assert rig.control.request("status")["line_stop"] is True
    with Rig(tmp_path, confirm=confirm) as rig:
        assert rig.control.request("status")["line_stop"] is True
        database = sqlite3.connect(tmp_path / "gate" / "station.db")
        database.execute("DROP TABLE verdicts")
        database.close()
        rig.up()
        rig.heard(rig.verdict("A"))
        assert rig.metric("log_total", event="damaged") == 1
    with Rig(tmp_path, confirm=confirm) as rig:
        assert rig.control.request("status")["line_stop"] is True


def test_a_wall_clock_that_jumps_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    wall = [time.time_ns()]
    rig.options = {"wall": lambda: wall[0]}
    with rig:
        rig.up()
        for hours, key in ((1, "A"), (-2, "B")):
            rig.announcer.present(key)
            wall[0] += hours * 3600 * 10**9
            rig.verdict(key)
            time.sleep(0.6)
        assert rig.ends("A", "B") == ["A pass", "B pass"]


def test_garbage_on_the_line_is_counted_and_the_gate_goes_on(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.up()
        rig.announcer._socket.send(b"\x00garbage")
        rig.announcer.present("A")
        rig.verdict("A")
        assert rig.ends("A") == ["A pass"]
        assert rig.metric("input_messages_total", what="skipped") == 1


def test_an_unknown_command_is_refused(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig, pytest.raises(DeliveryError, match="reset"):
        rig.control.request("open")


def test_a_station_is_stopped_by_its_control_socket(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.control.request("stop")
        rig._thread.join(20)
        assert not rig._thread.is_alive() and rig.error is None


def test_scrape_is_clean_for_promtool(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    with Rig(tmp_path) as rig:
        rig.up()
        rig.announcer.present("A")
        rig.verdict("A")
        rig.ends("A")
        page = urllib.request.urlopen(rig.station.http.url, timeout=10).read()
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
