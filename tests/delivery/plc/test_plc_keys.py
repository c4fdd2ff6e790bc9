"""The bridge and a daemon that it reaches over TCP: with keys on file, with others, and with none."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plc_daemon import Daemon
from plc_program import until

from edge_ad.config.plc import parse_plc
from edge_ad.delivery.curve import read_pair, write_pair
from edge_ad.delivery.guard import Guard
from edge_ad.delivery.plc.run import Bridge
from edge_ad.demo.plc_program import Counts, PlcProgram, Settings, run_program
from edge_ad.errors import ConfigError


@contextmanager
def daemon_with_keys(directory: Path) -> Iterator[tuple[Daemon, Guard]]:
    for name in ("station", "plc", "stranger", "other"):
        write_pair(directory / "keys", name)
    (directory / "clients").mkdir()
    shutil.copy(directory / "keys" / "plc.key", directory / "clients")
    guard = Guard(read_pair(directory / "keys" / "station.key_secret"), directory / "clients")
    with Daemon(directory / "d", guard=guard) as daemon:
        yield daemon, guard


def bridge_for(directory: Path, daemon: dict[str, Any], own: str, server: str) -> Bridge:
    """With the key that it shows and the one that it asks for."""
    if server:
        daemon["server_key"] = f"keys/{server}.key"
    data = {
        "schema": 1,
        "state_dir": "s",
        "daemon": {**daemon, "heartbeat_ms": 100.0},
        "fieldbus": {"options": {"port": 0}},
        "handshake": {"deadline_ms": 20_000.0, "ack_ms": 20_000.0, "plc_ms": 20_000.0},
        "curve": {"secret": f"keys/{own}.key_secret"} if own else {},
        "metrics": {"port": 0},
    }
    return Bridge(parse_plc(data, str(directory / "plc.toml")))


@contextmanager
def running(bridge: Bridge) -> Iterator[Bridge]:
    bridge.start()
    thread = threading.Thread(target=bridge.run)
    thread.start()
    yield bridge
    bridge.stop()
    thread.join(60)
    assert not thread.is_alive()


def endpoints(daemon: Daemon) -> dict[str, Any]:
    return {
        "verdicts": daemon.verdicts,
        "trigger": daemon.trigger_endpoint,
        "control": daemon.control_endpoint,
    }


def parts(bridge: Bridge, count: int, limit_s: float) -> Counts:
    """What a PLC program gets out of the bridge."""
    program = PlcProgram(Settings(count, gate_ms=100.0, patience_ms=30_000.0))
    port = bridge._fieldbus.port  # type: ignore[attr-defined]
    return run_program(program, "127.0.0.1", port, limit_s=limit_s)


def test_a_bridge_with_the_right_keys_carries_parts(tmp_path: Path) -> None:
    with daemon_with_keys(tmp_path) as (daemon, guard):
        with running(bridge_for(tmp_path, endpoints(daemon), "plc", "station")) as bridge:
            counts = parts(bridge, 5, 60.0)
            assert bridge.status()["product"] == "plate"
        assert (counts.triggers, counts.results["PASS"]) == (5, 5)
        assert set(guard.denied.values()) == {0}


@pytest.mark.parametrize(("own", "server"), [("stranger", "station"), ("plc", "other"), ("", "")])
def test_a_bridge_with_wrong_keys_is_refused_counted_and_never_ready(
    tmp_path: Path, own: str, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with daemon_with_keys(tmp_path) as (daemon, guard):
        with running(bridge_for(tmp_path, endpoints(daemon), own, server)) as bridge:
            until(lambda: all(guard.denied[name] > 0 for name in ("verdicts", "trigger", "control")))
            counts = parts(bridge, 1, 1.0)
            status = bridge.status()
        assert counts.triggers == 0 and "daemon_link" in counts.errors
        assert (status["ready"], status["daemon_up"], status["error"]) == (False, False, "daemon_link")
        assert daemon.announced == []
        assert f"error daemon_link: {daemon.verdicts} is not heard" in caplog.text


@pytest.mark.parametrize("name", ["verdicts", "trigger", "control"])
def test_a_network_without_keys_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    here = {key: f"ipc://{tmp_path}/{key}" for key in ("verdicts", "trigger", "control")}
    bridge = bridge_for(tmp_path, {**here, name: "tcp://192.0.2.7:5572"}, "", "")
    with pytest.raises(
        ConfigError,
        match=rf"plc\.toml: daemon\.{name}: tcp://192.* is on the network.*daemon\.server_key",
    ):
        bridge.start()
    with running(bridge_for(tmp_path, here, "", "")):  # nothing was left open
        pass
