"""The bridge between a real verdict channel and a PLC program over real Modbus-TCP."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from plc_daemon import Daemon
from plc_program import Client, Server, until

from edge_ad.config.plc import parse_plc
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.plc.registers import INPUT_SIZE, OUTPUT_SIZE, OUTPUTS, decode_text
from edge_ad.delivery.plc.run import Bridge
from edge_ad.demo.plc_program import Image, PlcProgram, Settings, run_program
from edge_ad.errors import DeliveryError
from edge_ad.verdict import Decision

PLACE = {field.name: field.offset for field in OUTPUTS}
PATIENT = {"deadline_ms": 20_000.0, "ack_ms": 20_000.0, "plc_ms": 20_000.0}


class Station:
    """A daemon, a bridge in a thread, and what they have on disk."""

    def __init__(self, directory: Path, **handshake: Any) -> None:
        self.directory = directory
        self.handshake = {**PATIENT, **handshake}
        self.daemon = Daemon(directory / "d")
        self.fieldbus: dict[str, Any] = {"kind": "modbus-server", "options": {"port": 0}}
        self.bridge: Bridge | None = None

    def start(self) -> Bridge:
        plc = parse_plc(
            {
                "schema": 1,
                "state_dir": "s",
                "daemon": {
                    "verdicts": self.daemon.verdicts,
                    "trigger": self.daemon.trigger_endpoint,
                    "control": self.daemon.control_endpoint,
                    "heartbeat_ms": 100.0,
                    "lost_ms": 2000.0,  # a busy test machine is no lost daemon
                },
                "fieldbus": self.fieldbus,
                "handshake": self.handshake,
                "metrics": {"port": 0},
            },
            str(self.directory / "plc.toml"),
        )
        self.bridge = Bridge(plc)
        self.bridge.start()
        self._thread = threading.Thread(target=self.bridge.run, daemon=True)
        self._thread.start()
        return self.bridge

    def stop(self) -> None:
        if self.bridge is not None:
            self.bridge.stop()
            self._thread.join(60)
            assert not self._thread.is_alive()
            self.bridge = None

    def close(self) -> None:
        self.stop()
        self.daemon.close()

    @property
    def port(self) -> int:
        assert self.bridge is not None
        return self.bridge._fieldbus.port  # type: ignore[attr-defined, no-any-return]

    def rows(self, what: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.directory / "s" / "plc.db")) as base:
            return base.execute(what).fetchall()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    made: list[Station] = []

    def station(**handshake: Any) -> Station:
        made.append(Station(tmp_path, **handshake))
        return made[-1]

    yield station
    for one in made:
        one.close()


def settings(parts: int, **more: Any) -> Settings:
    return Settings(parts, gate_ms=500.0, patience_ms=30_000.0, **more)


class Hand:
    """A PLC moved by hand, one write and one read at a time; its heartbeat goes with each."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.image = Image()

    def say(self, control: int = 1, **changes: Any) -> list[int]:
        from dataclasses import replace

        beat = (self.image.heartbeat + 1) & 0xFFFF
        self.image = replace(self.image, heartbeat=beat, control=control, **changes)
        self.client.write(0, self.image.registers())
        return self.client.read(100, OUTPUT_SIZE)

    def until(self, bit: int, control: int = 1, up: bool = True, **changes: Any) -> list[int]:
        read = self.say(control, **changes)

        def seen() -> bool:
            nonlocal read
            read = self.say(control)
            return bool(read[PLACE["status"]] & bit) is up

        until(seen)
        return read


def test_every_trigger_gets_its_own_result_and_one_gate_action(make: Callable[..., Station]) -> None:
    station = make()
    bad = {f"part-{n:08d}" for n in (3, 7, 8)}
    station.daemon.judge = lambda part: Decision.REJECT if part in bad else Decision.PASS
    bridge = station.start()
    counts = run_program(PlcProgram(settings(30)), "127.0.0.1", station.port)
    assert counts.triggers == 30 and counts.results == {"NONE": 0, "PASS": 27, "REJECT": 3, "FAULT": 0}
    assert counts.gate == {"passed": 27, "rejected": 3}
    assert not bad & set(counts.passed_keys)
    assert (counts.twice, counts.foreign, counts.unanswered) == (0, 0, 0)
    until(lambda: station.daemon.server.status()["depth"] == 0)  # every verdict is acknowledged
    status = bridge.status()
    assert status["triggers"] == status["results"] == 30 and status["passed"] == 27
    page = urlopen(bridge.url, timeout=30).read().decode()
    assert 'edge_ad_plc_results_total{reason="score",verdict="reject"} 3.0' in page
    assert "edge_ad_plc_triggers_total 30.0" in page
    station.stop()
    assert station.rows("SELECT count(*), count(DISTINCT part) FROM results") == [(30, 30)]
    assert station.rows("SELECT count(*), min(seq), max(seq), sum(used) FROM verdicts") == [
        (30, 1, 30, 30)
    ]


def test_several_parts_at_a_time_over_a_plc_that_is_the_server(make: Callable[..., Station]) -> None:
    station = make()
    with Server() as plc:
        station.fieldbus = {"kind": "modbus-client", "options": {"host": "127.0.0.1", "port": plc.port}}
        station.start()
        program = PlcProgram(settings(10))
        now = 0.0

        def scan() -> bool:
            nonlocal now
            now += 10
            image = program.scan(plc.registers[100:141], now)
            plc.registers[0:INPUT_SIZE] = image.registers()
            return program.done

        until(scan)
        assert program.counts.results["PASS"] == 10 and program.counts.gate["passed"] == 10


def test_a_part_whose_verdict_never_comes_is_a_fault_by_the_deadline(
    make: Callable[..., Station],
) -> None:
    station = make(deadline_ms=200.0)
    station.daemon.judge = lambda part: None
    station.start()
    counts = run_program(PlcProgram(settings(2)), "127.0.0.1", station.port)
    assert counts.results["FAULT"] == 2 and counts.gate == {"passed": 0, "rejected": 2}
    # It comes after all: for the record only.
    station.daemon.give("part-00000002", Decision.PASS)
    late = [("part-00000002", "PASS", 0)]
    until(lambda: station.rows("SELECT part, verdict, used FROM verdicts") == late)
    until(lambda: station.daemon.server.status()["depth"] == 0)


def test_a_plc_that_dies_with_trigger_up_stops_the_handshake_until_reset(
    make: Callable[..., Station],
) -> None:
    station = make(plc_ms=300.0)
    station.daemon.judge = lambda part: None
    bridge = station.start()
    with Client(station.port) as client:
        plc = Hand(client)
        plc.until(1)
        plc.until(2, 1 | 2, key="A", count=1)
    until(lambda: bridge.status()["error"] == "plc_heartbeat")
    station.daemon.give("A", Decision.PASS)
    with Client(station.port) as client:
        plc = Hand(client)
        read = plc.until(4, 1, key="B")  # A's result, with an Error: a FAULT
        assert read[PLACE["verdict"]] == 3 and decode_text(read[:16], "high_first") == "A"
        plc.until(4, 1 | 4, up=False)
        plc.until(8, 1 | 8, up=False)
        plc.until(1)


def test_a_plc_that_never_acknowledges(make: Callable[..., Station]) -> None:
    station = make(ack_ms=300.0)
    station.start()
    with Client(station.port) as client:
        plc = Hand(client)
        plc.until(1)
        plc.until(2, 1 | 2, key="A", count=1)
        read = plc.until(8)
        assert read[PLACE["error_code"]] == 2 and read[PLACE["verdict"]] == 3
        assert read[PLACE["status"]] & 4 and not read[PLACE["status"]] & 1  # it is still there
        plc.until(4, 1 | 8, up=False)
        plc.until(1)


def test_a_program_for_another_register_map(make: Callable[..., Station]) -> None:
    station = make()
    station.start()
    with Client(station.port) as client:
        plc = Hand(client)
        read = plc.until(8, version=7)
        while read[PLACE["error_code"]] != 101:  # the link came up in between
            read = plc.say()
        assert not read[PLACE["status"]] & 1 and read[PLACE["map_version"]] == 1
        plc.until(1, version=1)


def test_garbage_for_a_key_is_refused(make: Callable[..., Station]) -> None:
    station = make()
    station.start()
    with Client(station.port) as client:
        plc = Hand(client)
        plc.until(1)
        garbage = [0xDEAD, 0xBEEF, 0, 0x4141, *[0] * 12]
        client.write(0, garbage)
        client.write(34, [1])
        client.write(35, [1 | 2])
        until(lambda: client.read(100 + PLACE["error_code"], 1) == [4])
        read = client.read(100, OUTPUT_SIZE)
        assert read[PLACE["verdict"]] == 3 and not read[PLACE["status"]] & 4
        assert station.daemon.announced == []
        plc.say(1 | 8)
        until(lambda: client.read(100 + PLACE["error_code"], 1) == [0])
        plc.until(1)


def test_a_daemon_that_restarts_in_mid_line_costs_parts_and_passes_none(
    make: Callable[..., Station], tmp_path: Path
) -> None:
    station = make()
    station.daemon.judge = lambda part: None
    bridge = station.start()
    with Client(station.port) as client:
        plc = Hand(client)
        plc.until(1)
        plc.until(2, 1 | 2, key="A", count=1)
        plc.say(1)
        until(lambda: station.daemon.announced == ["A"])
        station.daemon.give("another", Decision.PASS)
        until(lambda: station.rows("SELECT part FROM verdicts") == [("another",)])
        station.daemon.close()
        read = plc.until(4)
        assert read[PLACE["verdict"]] == 3
        assert not plc.until(4, 1 | 4, up=False)[PLACE["status"]] & 1
        assert bridge.status()["error"] == "daemon_link"
        station.daemon = Daemon(tmp_path / "d", "e2")
        plc.until(1)  # by itself
        plc.until(2, 1 | 2, key="B", count=2)
        read = plc.until(4)
        assert read[PLACE["verdict"]] == 1 and decode_text(read[:16], "high_first") == "B"


def test_a_bridge_that_restarts_records_what_it_missed_and_shows_none_of_it(
    make: Callable[..., Station],
) -> None:
    station = make()
    station.daemon.judge = lambda part: None
    station.start()
    with Client(station.port) as client:
        plc = Hand(client)
        plc.until(1)
        plc.until(2, 1 | 2, key="A", count=1)
        plc.say(1)
        until(lambda: station.daemon.announced == ["A"])
    station.stop()
    station.daemon.give("A", Decision.PASS)
    station.daemon.give("X", Decision.REJECT)
    bridge = station.start()
    with Client(station.port) as client:
        plc = Hand(client)
        read = plc.until(1)
        until(lambda: bridge.status()["replayed"] == 2)
        read = plc.say()
        assert read[PLACE["verdict"]] == 0 and not read[PLACE["status"]] & 4
        # The same key again, while the replayed PASS is on record: a part of its own, without a verdict.
        plc.until(2, 1 | 2, key="A", count=2)
        read = plc.say()
        assert read[PLACE["verdict"]] != 1
    until(lambda: station.daemon.server.status()["depth"] == 0)
    station.stop()
    assert station.rows("SELECT seq, part, live, used FROM verdicts") == [(1, "A", 0, 0), (2, "X", 0, 0)]


def test_the_product_is_changed_before_ready_comes_back(make: Callable[..., Station]) -> None:
    station = make()
    station.start()
    with Client(station.port) as client:
        plc = Hand(client)
        read = plc.until(1)
        assert decode_text(read[16:32], "high_first") == "plate"
        plc.say(product="bolt")
        ready_for = ["plate"]  # until the bridge has read the register, Ready is plate's

        def ready_for_another() -> bool:
            read = plc.say()
            ready = bool(read[PLACE["status"]] & 1)
            ready_for.append(decode_text(read[16:32], "high_first") if ready else "")
            return ready_for[-1] not in ("plate", "") or (ready and "" in ready_for)

        until(ready_for_another)
        assert ready_for[-1] == "bolt" and station.daemon.product == "bolt"
        read = plc.until(8, product="unheard-of")
        assert read[PLACE["error_code"]] == 102 and not read[PLACE["status"]] & 1
        plc.until(1, product="bolt")


def test_a_trigger_that_the_daemon_refuses_is_a_fault(make: Callable[..., Station]) -> None:
    station = make()
    station.daemon.refuse = "overflow"
    station.start()
    with Client(station.port) as client:
        plc = Hand(client)
        plc.until(1)
        plc.until(2, 1 | 2, key="A", count=1)
        read = plc.until(4)
        assert (read[PLACE["verdict"]], read[PLACE["reason"]]) == (3, 20)


def test_commands_and_a_second_bridge(make: Callable[..., Station]) -> None:
    station = make()
    bridge = station.start()
    with ControlClient(bridge.plc.control_endpoint, 30.0) as control:
        assert control.request("status")["name"] == "plc"
        with pytest.raises(DeliveryError, match="knows status and stop"):
            control.request("dance")
        with pytest.raises(DeliveryError, match="state_dir"):
            Bridge(bridge.plc).start()
        control.request("stop")
    station._thread.join(60)
    assert not station._thread.is_alive()
