"""The station and a daemon that it reaches over TCP: with keys on file, with others, and with none."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from daemon_line import Line, wait_for
from gate_rig import Rig, gate_of, patiently
from tiny_bundle import make_bundle

from edge_ad.config.gate import Gate
from edge_ad.delivery.curve import client_keys, write_pair
from edge_ad.delivery.station.inputs import open_input
from edge_ad.delivery.station.messages import Announcer, GateReceiver, push_socket
from edge_ad.delivery.station.outputs import open_output
from edge_ad.delivery.station.run import Station
from edge_ad.delivery.trigger import TriggerClient
from edge_ad.errors import ConfigError

PATIENT = {"travel_ms": 8000.0, "before": 2500.0, "after": 2500.0, "deadline_ms": 5000.0}
RIGHT = "gate", "station"
QUICK = {"travel_ms": 1000.0, "before": 100.0, "after": 400.0}  # where nothing comes anyway


@contextmanager
def daemon_with_keys(directory: Path) -> Iterator[Line]:
    """A daemon whose verdicts go out over TCP, to whom it knows; `gate`, `stranger` and another
    station have keys of their own."""
    for name in ("station", "gate", "stranger", "other"):
        write_pair(directory / "keys", name)
    (directory / "clients").mkdir()
    shutil.copy(directory / "keys" / "gate.key", directory / "clients")
    make_bundle(directory / "s")
    options = {
        "deadline_ms": 60_000.0,
        "trigger": {"kind": "message", "frame_ms": 10_000.0},
        "verdicts": {"endpoint": "tcp://127.0.0.1:0", "consumers": ["gate"]},
        "curve": {
            "secret": str(directory / "keys" / "station.key_secret"),
            "clients": str(directory / "clients"),
        },
    }
    keys = client_keys(directory / "keys" / "gate.key_secret", directory / "keys" / "station.key")
    with Line(directory / "s", asked=True, options=options, keys=keys) as line:
        yield line


def gate_for(directory: Path, endpoint: str, own: str = "", server: str = "") -> Gate:
    """Its file, with the key that it shows and the one that it asks for."""
    keys = directory / "keys"
    source = {"name": "main", "endpoint": endpoint, "heartbeat_ms": 100.0}
    if server:
        source["server_key"] = str(keys / f"{server}.key")
    curve = {"secret": str(keys / f"{own}.key_secret")} if own else {}
    return gate_of(
        directory, source=[source], curve=curve, belt=PATIENT if (own, server) == RIGHT else QUICK
    )


@contextmanager
def running(gate: Gate) -> Iterator[Station]:
    station = Station(gate)
    patiently(station.start)
    thread = threading.Thread(target=station.run)
    thread.start()
    yield station
    station.stop()
    thread.join(20)
    assert not thread.is_alive()


def judge(line: Line, gate: Gate, station: Station, key: str) -> bool:
    """Announce a part on both sides; whether the gate was told that it may pass."""
    receiver = patiently(lambda: GateReceiver(gate.output.uri, lost_ms=60_000.0))
    announcer = Announcer(gate.present.uri)
    passed = False
    with TriggerClient(line.station.trigger_endpoint, 20.0) as trigger:
        assert announcer.wait()
        assert trigger.send(key).accepted
        assert announcer.present(key)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            told = [m.kind for m in receiver.receive(0.1) if m.key == key]
            passed = passed or "pass" in told
            if passed or "reject" in told:
                break
        else:
            raise AssertionError("the gate was told nothing")
    announcer.close()
    receiver.close()
    return passed


def test_a_station_with_the_right_keys_passes_parts(tmp_path: Path) -> None:
    with daemon_with_keys(tmp_path) as line:
        gate = gate_for(tmp_path, line.daemon.channels.verdicts.endpoint, *RIGHT)
        with running(gate) as station:
            wait_for(lambda: station.state == "RUNNING", 30)
            assert judge(line, gate, station, "A1")
        assert line.metric("edge_ad_denied_total", socket="verdicts") == 0


@pytest.mark.parametrize(("own", "server"), [("stranger", "station"), ("gate", "other"), ("", "")])
def test_a_station_with_wrong_keys_is_refused_counted_and_rejects(
    tmp_path: Path, own: str, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with daemon_with_keys(tmp_path) as line:
        gate = gate_for(tmp_path, line.daemon.channels.verdicts.endpoint, own, server)
        with caplog.at_level(logging.WARNING), running(gate) as station:
            wait_for(lambda: (line.metric("edge_ad_denied_total", socket="verdicts") or 0) > 0, 30)
            assert not judge(line, gate, station, "A1")
            assert station.state == "LINK_DOWN"
            shown = station.status()["sources"]["main"]
            assert (shown["up"], shown["endpoint"]) == (False, line.daemon.channels.verdicts.endpoint)
            assert line.verdicts(1) == ["PASS"]
        assert "verdicts: a client at" in caplog.text


def test_a_network_without_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    gate = gate_for(tmp_path, "tcp://192.0.2.7:5572")
    station = Station(gate)
    with pytest.raises(
        ConfigError, match=r"source 'main': endpoint: tcp://192.0.2.7:5572 is on the network.*server_key"
    ):
        station.start()
    with running(gate_of(tmp_path)):  # nothing was left open
        pass


def test_messages_to_and_from_the_line_stay_on_this_machine() -> None:
    with pytest.raises(
        ConfigError, match=r"output\.uri: tcp://192\.0\.2\.7:5580 is on the network.*at the"
    ):
        open_output("tcp://192.0.2.7:5580")
    for uri in ("tcp://*:5581", "tcp://192.0.2.7:5581"):
        with pytest.raises(ConfigError, match=r"present\.uri: .* is open to the network.*ipc://PATH"):
            open_input(uri, "present", "present.uri")
        with pytest.raises(ConfigError, match=r"output\.uri: .* is open to the network"):
            GateReceiver(uri)


@pytest.mark.parametrize(
    "garbage", [b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}", b"x" * 200_000, b'{"v":"2.0"}']
)
def test_garbage_at_the_part_present_input_ends_nothing(tmp_path: Path, garbage: bytes) -> None:
    with Rig(tmp_path) as rig:
        rig.up()
        with push_socket(rig.gate_toml.present.uri) as raw:
            assert raw.poll(20_000, zmq.POLLOUT)
            raw.send(garbage)
        rig.announcer.present("A")
        rig.verdict("A")
        assert rig.ends("A") == ["A pass"]
        assert rig.error is None
