"""Verdicts of a running daemon: kept, told once and in order, whoever is killed and whatever fails."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_line import Line, good, wait_for
from listening_gate import Gate, Seen
from prometheus_client.parser import text_string_to_metric_families
from tiny_bundle import HEIGHT, WIDTH, make_bundle

from edge_ad import failpoints
from edge_ad.delivery.consumer import Delivered, LinkUp, VerdictConsumer
from edge_ad.delivery.control import ControlClient

RUN = [sys.executable, "-c", "from edge_ad.cli.main import main; main()", "run"]
URI = f"synthetic://?seed=1&width={WIDTH}&height={HEIGHT}&defect_rate=0.2"
PATIENCE_S = 60.0
GATE = {"verdicts": {"consumers": ["gate"], "heartbeat_ms": 50.0}}


class Daemon:
    """`edge-ad run` as a process, with its state beside the file."""

    def __init__(self, root: Path, *failing: str, uri: str, before: tuple[str, ...] = ()) -> None:
        self.root = root
        (root / "line.toml").write_text(
            f'schema = 1\nstation = "line1"\n[[camera]]\nname = "top"\nuri = "{uri}"\n[verdicts]\n'
            'consumers = ["gate"]\nheartbeat_ms = 100.0\n[evidence]\nkeep = "none"\n'
            '[scores]\nendpoint = "tcp://127.0.0.1:0"\n[metrics]\nport = 0\n'
        )
        options = [word for spec in failing for word in ("--failpoint", spec)]
        self._log = (root / "log").open("a")
        self.process = subprocess.Popen(
            [*before, *RUN, "-c", str(root / "line.toml"), *options], stderr=self._log, cwd=root
        )

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def ask(self, command: str) -> Any:
        with ControlClient(f"ipc://{self.root / 'state' / 'control.sock'}", timeout_s=20) as control:
            return control.request(command)

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        self.process.terminate()
        assert self.end() == 0, self.log

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


def kept(root: Path) -> list[Seen]:
    """What the outbox holds, read past the program; to be called when no daemon runs."""
    database = sqlite3.connect(root / "state" / "outbox.db")
    rows: list[Seen] = database.execute(
        "SELECT name, seq, part, decision FROM verdicts JOIN epochs ON epochs.id = epoch "
        "ORDER BY epoch, seq"
    ).fetchall()
    database.close()
    return rows


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[Any] = []
    make_bundle(tmp_path / "state")

    def start(*failing: str, uri: str = f"{URI}&fps=200", before: tuple[str, ...] = ()) -> Daemon:
        started.append(Daemon(tmp_path, *failing, uri=uri, before=before))
        return started[-1]

    yield start
    for daemon in started:
        daemon.close()


@pytest.fixture
def gate(tmp_path: Path, start: Any) -> Iterator[Gate]:
    del start  # the state directory is there
    gate = Gate(f"ipc://{tmp_path / 'state' / 'verdicts.sock'}")
    yield gate
    gate.close()


@pytest.mark.parametrize(
    "place",
    [
        "inspect.captured", "outbox.commit.before", "outbox.commit.after", "verdicts.send.before",
        "verdicts.send.after",
    ],
)  # fmt: skip
def test_killed_daemon_loses_nothing_that_it_committed(
    start: Any, gate: Gate, tmp_path: Path, place: str
) -> None:
    daemon = start(f"{place}=kill@30", uri=f"{URI}&fps=60")
    assert daemon.end() == -signal.SIGKILL
    committed = kept(tmp_path)
    assert len(committed) >= 25
    assert len(gate.seen) <= len(committed)  # nobody is told what is not kept
    daemon = start()
    wait_for(lambda: len({e for e, *_ in gate.seen}) == 2, PATIENCE_S)
    wait_for(lambda: gate.seen[-1][1] > 30, PATIENCE_S)
    wait_for(lambda: gate.verdicts[-1].live, PATIENCE_S)  # a slow link is told the first ones again
    daemon.stop()
    told = kept(tmp_path)
    assert told[: len(committed)] == committed
    assert len(gate.seen) > len(committed) + 30
    assert gate.seen == told[: len(gate.seen)]  # none missing, none twice, none out of order
    link = max(i for i, event in enumerate(gate.events) if isinstance(event, LinkUp))
    again = [e for e in gate.events[link:] if isinstance(e, Delivered)]
    assert not any(e.live for e in again if e.header.epoch == committed[0][0])
    assert any(e.live for e in again)


CONSUMER = """
import os, sys, zmq
from edge_ad.delivery.consumer import Delivered, VerdictConsumer
lines = open(sys.argv[2], "rb").read().split(b"\\n")[:-1] if os.path.exists(sys.argv[2]) else []
position = (lines[-1].split()[0].decode(), int(lines[-1].split()[1])) if lines else None
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
consumer = VerdictConsumer(sys.argv[1], "gate", position)
poller = zmq.Poller()
poller.register(consumer.socket, zmq.POLLIN)
while True:
    poller.poll(50)
    for event in consumer.receive():
        if isinstance(event, Delivered):
            h, b = event.header, event.body
            os.write(log, f"{h.epoch} {h.seq} {h.part} {b.verdict}\\n".encode())
            consumer.ack(h.epoch, h.seq)
"""


def test_killed_consumer_goes_on_behind_its_own_commit(start: Any, tmp_path: Path) -> None:
    daemon = start(uri=f"{URI}&fps=300")
    log = tmp_path / "gate.log"
    endpoint = f"ipc://{tmp_path / 'state' / 'verdicts.sock'}"

    def lines() -> list[list[str]]:
        text = log.read_text() if log.exists() else ""
        return [line.split() for line in text.split("\n")[:-1]]

    for round_ in range(4):
        consumer = subprocess.Popen([sys.executable, "-c", CONSUMER, endpoint, str(log)])
        try:
            before = len(lines())
            wait_for(lambda before=before: len(lines()) >= before + 40, PATIENCE_S)  # type: ignore[misc]
            if round_ == 3:
                daemon.stop()
        finally:
            consumer.kill()
            consumer.wait()
    told = [[e, str(s), p, v] for e, s, p, v in kept(tmp_path)]
    assert len(lines()) >= 160
    assert lines() == told[: len(lines())]


def test_absent_consumer_stops_nothing_and_is_seen(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path, options=GATE) as line:
        line.feed(*[good(i) for i in range(30)])
        assert line.verdicts(30) == ["PASS"] * 30
        wait_for(lambda: line.metric("edge_ad_outbox_depth", consumer="gate") == 30)
        wait_for(lambda: (line.metric("edge_ad_outbox_oldest_seconds", consumer="gate") or 0) > 0.5)
        assert line.metric("edge_ad_verdict_consumer_up", consumer="gate") == 0
        status = line.control.request("status")["verdicts"]
        assert status["consumers"]["gate"]["state"] == "down"
        assert status["depth"] == 30
        assert line.metric("edge_ad_verdict_refused_total", reason="garbage") == 0
        assert line.metric("process_open_fds") is not None
        assert line.metric("process_max_fds") is not None
    assert line.code == 0


class HangingDisk(failpoints.Failpoints):
    def __init__(self) -> None:
        super().__init__(())
        self.hangs, self.goes_on = threading.Event(), threading.Event()

    def hit(self, name: str) -> None:
        if name == "outbox.commit.before":
            self.hangs.set()
            self.goes_on.wait(60)


def test_disk_that_hangs_is_seen_by_what_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(tmp_path)
    disk = HangingDisk()
    monkeypatch.setattr(failpoints, "active", disk)
    with Line(tmp_path, options=GATE) as line:
        line.feed(good(0))
        assert disk.hangs.wait(10)
        line.feed(*[good(i) for i in range(1, 10)])
        assert line.verdicts(10) == ["PASS"] * 10  # inspection does not wait
        wait_for(lambda: line.metric("edge_ad_outbox_waiting") == 9)
        assert line.metric("edge_ad_outbox_depth", consumer="gate") == 0
        disk.goes_on.set()
        wait_for(lambda: line.metric("edge_ad_outbox_depth", consumer="gate") == 10)
        assert line.metric("edge_ad_outbox_waiting") == 0
        assert line.metric("edge_ad_verdict_dropped_total") == 0


def test_without_consumers_there_is_no_outbox(tmp_path: Path) -> None:
    with Line(tmp_path) as line:
        line.feed(good(0))
        line.verdict()
        assert "verdicts" not in line.control.request("status")
    assert not (tmp_path / "outbox.db").exists()


def consume(line: Line, count: int) -> list[Delivered]:
    """The first verdicts that a new consumer is told."""
    consumer = VerdictConsumer(line.station.verdicts_endpoint, "gate")
    events: list[Delivered] = []
    try:

        def step() -> bool:
            events.extend(e for e in consumer.receive() if isinstance(e, Delivered))
            return len(events) >= count

        wait_for(step, PATIENCE_S)
    finally:
        consumer.close()
    return events


def test_stop_in_the_middle_of_a_part_commits_all_of_them(tmp_path: Path) -> None:
    make_bundle(tmp_path / "state")
    failpoints.activate(["inspect.captured=sleep:1.5@3"])
    try:
        with Line(tmp_path / "state", options=GATE, drain_s=0.2) as line:
            line.feed(*[good(i) for i in range(5)])
            assert line.verdicts(2) == ["PASS"] * 2
            wait_for(lambda: line.daemon.loop._current is not None)
            line.daemon.stop()
            line._thread.join(20)
    finally:
        failpoints.activate([])
    verdicts = [(seq, verdict) for _, seq, _, verdict in kept(tmp_path)]
    assert verdicts[:3] == [(1, "PASS"), (2, "PASS"), (3, "FAULT")]
    assert all(verdict == "FAULT" for _, verdict in verdicts[2:])
    assert len(verdicts) == line.daemon.loop.seq


def test_scorer_that_raises_or_gives_no_number_is_fault(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    failpoints.activate(["inspect.raise=raise@2", "inspect.score=nan@2"])
    try:
        with Line(tmp_path, options=GATE) as line:
            line.feed(*[good(i) for i in range(4)])
            assert line.verdicts(4) == ["PASS", "FAULT engine", "FAULT not_finite", "PASS"]
            told = [(e.body.verdict, e.body.reason) for e in consume(line, 4)]
            assert told[1:3] == [("FAULT", "engine"), ("FAULT", "not_finite")]
    finally:
        failpoints.activate([])


def test_clock_that_jumps_changes_no_verdict_and_no_order(tmp_path: Path) -> None:
    make_bundle(tmp_path / "state")
    for jump_h in (0, 1, -2):

        def wall(jump_h: int = jump_h) -> int:
            return time.time_ns() + jump_h * 3_600_000_000_000

        with Line(tmp_path / "state", options=GATE, wall=wall) as line:
            line.feed(good(0), good(1))
            assert line.verdicts(2) == ["PASS"] * 2
            wait_for(lambda: line.metric("edge_ad_outbox_depth", consumer="gate") in (2, 4, 6))
            assert (line.metric("edge_ad_outbox_oldest_seconds", consumer="gate") or 0) < 600
            if jump_h == -2:
                epochs = [event.header.epoch for event in consume(line, 6)]
    assert [e for e, *_ in kept(tmp_path)] == epochs
    assert epochs[0] < epochs[2] > epochs[4]  # the names are in another order than the starts
    assert len(epochs) == 6


def test_damaged_outbox_is_set_aside_and_said(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"no database" * 1000)
    with Line(tmp_path, options=GATE) as line:
        assert line.metric("edge_ad_outbox_quarantined_total") == 1
        line.feed(good(0))
        line.verdict()
        assert consume(line, 1)[0].live in (True, False)
    assert len(list(tmp_path.glob("outbox.corrupt-*"))) == 1


def test_outbox_that_cannot_be_kept_refuses_the_start(start: Any, tmp_path: Path) -> None:
    (tmp_path / "state" / "outbox.db").mkdir()
    daemon = start()
    assert daemon.end() == 5
    assert "outbox.db: verdicts cannot be kept" in daemon.log
    assert "make its directory writable" in daemon.log
    assert "Traceback" not in daemon.log


def test_state_directory_on_a_read_only_disk_refuses_the_start(start: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"
    script = f'mount --bind {state} {state} && mount -o remount,ro,bind {state} && exec "$@"'
    daemon = start(before=("unshare", "-m", "sh", "-c", script, "sh"))
    assert daemon.end() == 5
    assert "state_dir" in daemon.log
    assert "Traceback" not in daemon.log


def test_failing_fsync_ends_the_daemon_and_loses_nothing(start: Any, gate: Gate, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    assert strace is not None, "strace is not installed"
    trace = (strace, "-f", "--seccomp-bpf", "-q", "-o", "/dev/null", "-e", "trace=fsync,fdatasync")
    failing = (*trace, "-e", "inject=fsync,fdatasync:error=EIO:when=40+")
    daemon = start(before=failing)
    assert daemon.end() == 5
    assert "disk I/O error" in daemon.log
    assert "else replace it, and read the kernel" in daemon.log
    assert "Traceback" not in daemon.log
    daemon = start(before=(*trace, "-e", "inject=fsync,fdatasync:error=EIO"))
    assert daemon.end() == 5  # while it fails there is no start
    links = gate.links()
    daemon = start()
    wait_for(lambda: gate.links() > links, PATIENCE_S)
    wait_for(lambda: len({e for e, *_ in gate.seen}) == 2, PATIENCE_S)
    daemon.stop()
    assert gate.seen == kept(tmp_path)[: len(gate.seen)]


def test_no_descriptors_left_is_seen_and_loses_nothing(start: Any, gate: Gate, tmp_path: Path) -> None:
    daemon = start()
    wait_for(lambda: len(gate.seen) > 10, PATIENCE_S)
    status = daemon.ask("status")

    def gauge(name: str) -> float:
        with urllib.request.urlopen(status["metrics"], timeout=10) as answer:
            text = answer.read().decode()
        return next(f.samples[0].value for f in text_string_to_metric_families(text) if f.name == name)

    used = int(gauge("process_open_fds"))
    limit = used + 12
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    host, port = status["scores"].removeprefix("tcp://").split(":")
    leaks: list[socket.socket] = []
    try:
        leaks += [socket.create_connection((host, int(port))) for _ in range(6)]
        wait_for(lambda: gauge("process_open_fds") > used + 3)
        assert gauge("process_open_fds") / gauge("process_max_fds") > 0.8  # what an alarm looks at
        leaks += [socket.create_connection((host, int(port))) for _ in range(30)]
        before = len(gate.seen)
        wait_for(lambda: daemon.process.poll() is not None or len(gate.seen) > before + 100, PATIENCE_S)
    finally:
        for leak in leaks:
            leak.close()
    if daemon.process.poll() is None:  # it goes on; else a supervisor starts it again
        os.kill(daemon.process.pid, signal.SIGABRT)
    # Writing down where the other threads are, which run on, may end it the other way.
    assert daemon.end() in (-signal.SIGABRT, -signal.SIGSEGV)
    assert "Fatal Python error: Aborted" in daemon.log
    committed = kept(tmp_path)
    daemon = start()
    wait_for(lambda: len({e for e, *_ in gate.seen}) == 2, PATIENCE_S)
    daemon.stop()
    assert gate.seen == kept(tmp_path)[: len(gate.seen)]
    assert gate.seen[: len(committed)] == committed


def test_scrape_with_consumers_is_clean_for_promtool(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    with Line(tmp_path, options=GATE) as line:
        line.feed(good(0))
        line.verdict()
        assert len(consume(line, 1)) == 1
        with urllib.request.urlopen(line.daemon.http.url, timeout=10) as answer:
            text = answer.read()
    assert b'edge_ad_outbox_depth{consumer="gate"}' in text
    assert b'edge_ad_verdict_commit_seconds_bucket{durability="full",le="0.1"}' in text
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_reload_that_changes_consumers_needs_a_restart(start: Any, tmp_path: Path) -> None:
    daemon = start()
    wait_for(lambda: "RUNNING" in daemon.log, PATIENCE_S)
    path = tmp_path / "line.toml"
    path.write_text(path.read_text().replace('["gate"]', '["gate", "mes"]'))
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "verdicts changed, which needs a restart" in daemon.log, PATIENCE_S)
    daemon.stop()
