"""The bridge is killed at the worst moments, again and again; PLC, daemon and their counts go on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from free_ports import free_ports
from plc_daemon import Daemon
from plc_program import until

from edge_ad.demo.plc_program import PlcProgram, Settings, run_program
from edge_ad.verdict import Decision

PARTS = 60
CONFIG = """\
schema = 1
[daemon]
verdicts = "{daemon.verdicts}"
trigger = "{daemon.trigger_endpoint}"
control = "{daemon.control_endpoint}"
heartbeat_ms = 100.0
lost_ms = 400.0
[fieldbus.options]
port = {port}
[handshake]
deadline_ms = 20000.0
ack_ms = 20000.0
plc_ms = 20000.0
[metrics]
port = 0
"""


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="plc-", dir="/tmp") as directory:
        yield Path(directory)


class Restarter:
    """Starts `edge-ad plc` anew whenever it has died, with a place to die at each time."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._stop = threading.Event()
        self.deaths = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        places = ["plc.record=kill@9", "plc.ack=kill@7", "plc.shown=kill@8"] * 2
        while not self._stop.is_set():
            failing = ["--failpoint", places.pop()] if places else []
            with (self._config.parent / "plc.log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "edge_ad", "plc", "-c", str(self._config), *failing],
                    stderr=log,
                )
            while process.poll() is None and not self._stop.wait(0.02):
                pass
            if self._stop.is_set():
                process.terminate()
            process.wait()
            self.deaths += process.returncode == -9

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_no_kill_of_the_bridge_lets_a_bad_part_pass_or_loses_a_verdict(short: Path) -> None:
    bad = {f"part-{n:08d}" for n in range(1, PARTS + 1, 3)}
    with Daemon(short / "d") as daemon:
        daemon.judge = lambda part: Decision.REJECT if part in bad else Decision.PASS
        config = short / "plc.toml"
        config.write_text(CONFIG.format(daemon=daemon, port=(port := free_ports(1)[0])))
        restarter = Restarter(config)
        try:
            program = PlcProgram(Settings(PARTS, gate_ms=1000.0, patience_ms=2000.0))
            counts = run_program(program, "127.0.0.1", port, limit_s=200)
            until(lambda: daemon.server.status()["depth"] == 0)
        finally:
            restarter.close()
    assert restarter.deaths >= 4, (short / "plc.log").read_text()
    assert program.done and counts.triggers == PARTS and sum(counts.gate.values()) == PARTS
    assert not bad & set(counts.passed_keys)
    assert (counts.twice, counts.foreign) == (0, 0)
    # A kill costs the part that was under way, no more.
    assert counts.gate["passed"] >= PARTS - len(bad) - restarter.deaths
    with closing(sqlite3.connect(short / "plc-state" / "plc.db")) as base:
        recorded = base.execute("SELECT seq, part, verdict FROM verdicts ORDER BY id").fetchall()
        told = base.execute("SELECT part FROM results WHERE verdict = 1").fetchall()
    assert recorded == daemon.given, "lost, doubled or out of order"
    assert {part for (part,) in told} <= {part for _, part, verdict in daemon.given if verdict == "PASS"}
