"""The line and the gate: messages over real sockets, GPIO against a stand-in for libgpiod."""

from __future__ import annotations

import os
import sys
import time
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
from made_up_verdicts import MS

from edge_ad.delivery.station.events import Pass, Promise, Reject, Revoke, Why
from edge_ad.delivery.station.gpio import GpioInput, GpioOutput
from edge_ad.delivery.station.inputs import (
    Binned,
    Input,
    Kind,
    MessageInput,
    Missed,
    Seen,
    Turned,
    open_input,
)
from edge_ad.delivery.station.messages import Announcer, GateReceiver, LineMessage, encode, push_socket
from edge_ad.delivery.station.outputs import MessageOutput, open_output
from edge_ad.errors import ConfigError, DeliveryError, DeviceError


class FakeChip:
    """Lines in memory; edges are put into `edges`, what is driven is in `levels` and `calls`."""

    def __init__(self) -> None:
        self.edges: list[tuple[int, int]] = []
        self.levels: dict[int, bool] = {}
        self.asked: list[Any] = []
        self.closed = 0
        self.fd = os.eventfd(0)

    def watch(self, *arguments: Any) -> FakeChip:
        self.asked.append(arguments)
        return self

    def drive(self, path: str, lines: tuple[int, ...], low: bool) -> FakeChip:
        self.asked.append((path, lines, low))
        self.levels = dict.fromkeys(lines, False)
        return self

    def fileno(self) -> int:
        return self.fd

    def read(self) -> list[tuple[int, int]]:
        taken, self.edges = self.edges, []
        return taken

    def set(self, line: int, active: bool) -> None:
        self.levels[line] = active

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def chip() -> Any:
    made = FakeChip()
    yield made
    os.close(made.fd)


def wait_read(line: Input, now: int | None = None, stalled: bool = False) -> list[Any]:
    assert line.handle.poll(5000), "nothing came"
    return line.read(time.monotonic_ns() if now is None else now, stalled)


def test_messages_of_every_kind_come_in_with_their_own_time(tmp_path: Path) -> None:
    uri = f"ipc://{tmp_path}/present.sock"
    line = MessageInput(uri, "present", "present.uri")
    announcer = Announcer(uri)
    assert announcer.wait()
    before = time.monotonic_ns()
    assert announcer.present("A", 17)
    (seen,) = wait_read(line, stalled=True)  # its own time counts, however late it is read
    assert seen == Seen(seen.t_ns, "A", 17) and before <= seen.t_ns <= time.monotonic_ns()
    announcer.encoder(18)
    (turned,) = wait_read(line)
    assert isinstance(turned, Turned) and turned.count == 18
    announcer.confirm()
    (binned,) = wait_read(line)
    assert isinstance(binned, Binned)
    announcer.close()
    line.close()


def test_what_was_announced_before_the_station_or_without_a_known_time_is_no_new_part(
    tmp_path: Path,
) -> None:
    uri = f"ipc://{tmp_path}/present.sock"
    now = time.monotonic_ns()
    line = MessageInput(uri, "present", "present.uri", lambda: now)
    sender = push_socket(uri)
    second = 1000 * MS
    for message, at, read in (
        (LineMessage(part="before", t_ns=now - 1), now + second, []),
        (LineMessage(part="untimed"), now + second // 2, []),
        (LineMessage(part="late"), now + 2 * second, [Seen(now + 2 * second, "late", None, True)]),
        (LineMessage(part="old", t_ns=now + second), now + 12 * second, []),
        (LineMessage(part="ahead", t_ns=now + 9 * second), now + 2 * second,
         [Seen(now + 2 * second, "ahead", None, True)]),
    ):  # fmt: skip
        sender.send(encode(message))
        assert wait_read(line, at, stalled=True) == read
    assert line.old == 3
    sender.close()
    line.close()


@pytest.mark.parametrize("data", [b"", b"{}x", b'{"part":5}', b'{"v":"2.0","part":"A"}', b"\xff"])
def test_garbage_and_another_major_version_are_counted_and_nothing_more(
    data: bytes, tmp_path: Path
) -> None:
    uri = f"ipc://{tmp_path}/present.sock"
    line = MessageInput(uri, "present", "present.uri")
    sender = push_socket(uri)
    sender.send(data)
    assert wait_read(line) == [] and line.skipped == 1
    sender.close()
    line.close()


def test_a_huge_message_is_not_taken_and_others_are(tmp_path: Path) -> None:
    uri = f"ipc://{tmp_path}/present.sock"
    line = MessageInput(uri, "present", "present.uri")
    huge, announcer = Announcer(uri), Announcer(uri)
    assert huge.wait() and announcer.wait()
    assert huge.present("x" * 1_000_000) and announcer.present("A")
    (seen,) = wait_read(line)
    assert isinstance(seen, Seen) and seen.key == "A" and line.handle.poll(200) == 0
    for each in (line, huge, announcer):
        each.close()


def test_nothing_is_kept_for_a_station_or_a_gate_that_is_away(tmp_path: Path) -> None:
    announcer = Announcer(f"ipc://{tmp_path}/present.sock")
    assert not announcer.wait(0.05) and not announcer.present("A")
    announcer.close()
    output = MessageOutput(f"ipc://{tmp_path}/gate.sock", "output.uri")
    output.allow(Pass(1, "A", 0, time.monotonic_ns() + 10**10, ()), 0)
    assert output.dropped == 1
    output.close()


class GateRig:
    """An output and its gate, with a clock that stands still."""

    def __init__(self, tmp_path: Path, **options: Any) -> None:
        uri = f"ipc://{tmp_path}/gate.sock"
        self.now = 1000 * MS
        self.gate = GateReceiver(uri, 500, clock=lambda: self.now, **options)
        self.output = MessageOutput(uri, "output.uri")
        assert self.output._socket.poll(5000, zmq.POLLOUT)

    def close(self) -> None:
        self.output.close()
        self.gate.close()


def test_a_gate_passes_a_part_only_in_its_window_and_with_a_heartbeat(tmp_path: Path) -> None:
    rig = GateRig(tmp_path)
    rig.output.promise(Promise(1, "A", 1100 * MS, 1200 * MS), rig.now)
    (message,) = rig.gate.receive(5)
    assert (message.kind, message.key, message.valid_ms) == ("pass", "A", 200.0)
    passes = {}
    for ms in (1099, 1100, 1200, 1201):
        rig.now = ms * MS
        passes[ms] = rig.gate.may_pass("A"), rig.gate.may_pass("B")
    assert passes == {1099: (False, False), 1100: (True, False), 1200: (True, False),
                      1201: (False, False)}  # fmt: skip
    rig.output.promise(Promise(2, "B", 0, 10**12), rig.now)
    rig.gate.receive(5)
    rig.now += 400 * MS
    rig.output.beat(rig.now, True, "RUNNING")
    (beat,) = rig.gate.receive(5)
    assert (beat.kind, beat.link, beat.state) == ("beat", True, "RUNNING")
    rig.now += 500 * MS
    assert rig.gate.may_pass("B")
    rig.now += MS
    assert not rig.gate.may_pass("B")  # no sign of life
    rig.close()


@pytest.mark.parametrize("how", ["revoke", "reject", "shut", "shut it", "line_stop", "restart"])
def test_a_pass_that_is_taken_back_does_not_pass(how: str, tmp_path: Path) -> None:
    rig = GateRig(tmp_path)
    rig.output.promise(Promise(1, "A", 0, 10**12), rig.now)
    rig.gate.receive(5)
    assert rig.gate.may_pass("A")
    if how == "revoke":
        rig.output.revoke(Revoke(1, "A", Why.LINK_DOWN), rig.now)
    elif how == "reject":
        rig.output.deny(Reject(1, "A", Why.KEY_REUSED), rig.now)
    elif how == "shut":
        rig.output.shut(rig.now)
    elif how == "shut it":
        rig.output.promise(Promise(2, "B", 0, 10**12), rig.now)
        rig.gate.receive(5)
        rig.output.shut(rig.now, "A")
    elif how == "line_stop":
        rig.output.line_stop(True, rig.now)
    else:
        rig.output._run = "another"
        rig.output.beat(rig.now, True, "RUNNING")
    assert rig.gate.receive(5)
    assert not rig.gate.may_pass("A")
    assert rig.gate.may_pass("B") is (how == "shut it")
    rig.close()


def test_a_pass_is_told_once(tmp_path: Path) -> None:
    rig = GateRig(tmp_path)
    rig.output.promise(Promise(1, "A", 0, 10**12), rig.now)
    rig.output.allow(Pass(1, "A", 0, 10**12, ()), rig.now)
    rig.output.allow(Pass(2, "B", 0, 10**12, ()), rig.now)
    rig.output.beat(rig.now, True, "RUNNING")
    said: list[str] = []
    while "beat" not in said:
        said += [f"{m.kind}{m.key}" for m in rig.gate.receive(5)]
    assert said == ["passA", "passB", "beat"]
    rig.close()


def test_a_gate_on_another_machine_maps_the_station_s_clock(tmp_path: Path) -> None:
    rig = GateRig(tmp_path, same_clock=False)
    rig.output.beat(5_000 * MS, True, "RUNNING")  # its clock is 4 s ahead
    rig.gate.receive(5)
    rig.output.promise(Promise(1, "A", 5_100 * MS, 5_200 * MS), 5_000 * MS)
    rig.gate.receive(5)
    rig.now = 1_150 * MS
    assert rig.gate.may_pass("A")
    rig.now = 1_201 * MS
    assert not rig.gate.may_pass("A")
    rig.close()


def test_a_gate_on_another_machine_follows_a_clock_that_drifts_or_begins_anew(
    tmp_path: Path,
) -> None:
    rig = GateRig(tmp_path, same_clock=False)

    def beat(own_ms: float, station_ms: float) -> None:
        rig.now = int(own_ms * MS)
        rig.output.beat(int(station_ms * MS), True, "RUNNING")
        assert rig.gate.receive(5)

    def passes(own_ms: float, station_ms: float) -> bool:
        beat(own_ms, station_ms)
        start = int((station_ms + 100) * MS)
        rig.output.promise(Promise(1, "A", start, start + 20 * MS), int(station_ms * MS))
        rig.gate.receive(5)
        rig.now += 110 * MS
        return rig.gate.may_pass("A")

    assert passes(1_000, 5_000)
    for hour in range(1, 5):  # of every second the station's clock loses 50 us against the gate's
        for minute in range(60):
            own = (60 * (hour - 1) + minute) * 60_000 + 10_000
            beat(own, 4_000 + own * (1 - 50e-6))
        assert passes(own + 1_000, 4_000 + (own + 1_000) * (1 - 50e-6))
    rig.now = (own + 3_000) * MS
    late = int((4_000 + (own + 2_000) * (1 - 50e-6)) * MS)  # these came a second late
    rig.output.promise(Promise(2, "B", late, late + 3_000 * MS), late)
    assert rig.gate.receive(5) and not rig.gate.may_pass("B")
    rig.output._run = "another"  # its machine was rebooted
    assert passes(own + 90_000, 30_000)
    rig.close()


def test_what_could_not_be_taken_back_as_the_gate_did_not_read_is_not_valid_any_more(
    tmp_path: Path,
) -> None:
    rig = GateRig(tmp_path)
    rig.output.promise(Promise(1, "A", 900 * MS, 2_000 * MS), 900 * MS)
    while not rig.output.dropped:  # the gate is stuck
        rig.output.beat(900 * MS, True, "RUNNING")
    rig.output.revoke(Revoke(1, "A", Why.KEY_REUSED), 900 * MS)
    while "B" not in [m.key for m in rig.gate.receive(0.05)]:
        rig.output.promise(Promise(2, "B", 900 * MS, 2_000 * MS), 990 * MS)
    assert rig.gate.may_pass("B") and not rig.gate.may_pass("A")
    rig.close()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("present", [Seen(10), Seen(20)]),
        ("encoder", [Turned(10, 1), Turned(20, 2)]),
        ("confirm", [Binned(10), Binned(20)]),
    ],
)
def test_edges_of_a_gpio_line_are_signals_with_the_kernel_s_time(
    kind: Kind, expected: list[Any], chip: FakeChip
) -> None:
    uri = "gpio:///dev/gpiochip3?line=17&edge=falling&bias=pull-up&debounce_ms=1.5&active=low"
    line = GpioInput(uri, kind, f"{kind}.uri", chip)
    assert chip.asked == [("/dev/gpiochip3", 17, "falling", "pull-up", True, 1500)]
    assert line.handle == chip.fd
    chip.edges = [(10, 1), (20, 2)]
    assert line.read(99, True) == expected
    assert line.read(99, False) == []
    line.close()
    assert chip.closed == 1


def test_edges_that_the_kernel_lost_are_told_and_counted(chip: FakeChip) -> None:
    line = GpioInput("gpio:///dev/gpiochip0?line=1", "encoder", "encoder.uri", chip)
    chip.edges = [(10, 1), (20, 2), (50, 5)]
    read = line.read(99, False)
    assert [type(s) for s in read] == [Turned, Turned, Missed, Turned]
    assert read[-1] == Turned(50, 5) and "2 edges of the encoder line" in read[2].text


def test_the_pass_line_is_active_only_within_the_pulse_and_the_heartbeat_toggles(
    chip: FakeChip,
) -> None:
    gate = GpioOutput("gpio:///dev/gpiochip0?pass=5&heartbeat=6&line_stop=13", "output.uri", chip)
    assert chip.asked == [("/dev/gpiochip0", (5, 6, 13), False)]
    assert not any(chip.levels.values()) and gate.due() is None and not gate.promises
    gate.allow(Pass(1, "A", 100, 200, ()), 100)
    assert chip.levels[5] and gate.due() == 200
    gate.tick(199)
    assert chip.levels[5]
    gate.tick(200)
    assert not chip.levels[5] and gate.due() is None
    gate.allow(Pass(2, "B", 300, 400, ()), 300)
    gate.deny(Reject(3, "C", Why.NO_VERDICT), 310)
    assert not chip.levels[5]
    gate.allow(Pass(4, "D", 500, 600, ()), 601)  # too late: it would be another part's
    assert not chip.levels[5]
    levels = []
    for now in range(3):
        gate.beat(now, True, "RUNNING")
        levels.append(chip.levels[6])
    assert levels == [True, False, True]
    gate.line_stop(True, 0)
    assert chip.levels[13]
    gate.allow(Pass(5, "E", 700, 800, ()), 700)
    gate.close()
    gate.close()
    assert not chip.levels[5] and chip.levels[13] and chip.closed == 1


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("gpio:///dev/gpiochip0", "line"),
        ("gpio:///dev/gpiochip0?line=x", "line=x"),
        ("gpio://?line=1", "names no chip"),
        ("gpio:///dev/gpiochip0?line=1&edge=up", "rising"),
        ("gpio:///dev/gpiochip0?line=1&speed=2", "speed"),
        ("gpio:///dev/gpiochip0?line=1&debounce_ms=x", "debounce_ms"),
        ("profinet://x", "profinet"),
        ("python:no_such_module:X", "no_such_module"),
    ],
)
def test_an_input_that_is_wrong_is_named(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"present.uri.*{says}"):
        open_input(uri, "present", "present.uri")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("gpio:///dev/gpiochip0?pass=5", "heartbeat"),
        ("gpio:///dev/gpiochip0?pass=5&heartbeat=5", "two uses"),
        ("ipc:", "ipc"),
    ],
)
def test_an_output_that_is_wrong_is_named(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"output.uri.*{says}"):
        open_output(uri)


def test_gpio_without_its_package_or_its_chip_says_so() -> None:
    with pytest.raises(DeviceError, match=r"gpiod|no-such-chip"):
        open_input("gpio:///dev/no-such-chip?line=1", "present", "present.uri")


def test_an_endpoint_that_is_taken_is_refused(tmp_path: Path) -> None:
    first = MessageInput(f"ipc://{tmp_path}/present.sock", "present", "present.uri")
    with pytest.raises(DeliveryError, match=r"present\.uri"):
        MessageInput(f"ipc://{tmp_path}/present.sock", "present", "present.uri")
    first.close()


class OwnInput:
    """A fieldbus of another module."""

    def __init__(self, uri: str, kind: str, where: str) -> None:
        self.said = (uri, kind, where)


def test_another_fieldbus_is_one_class_in_any_module() -> None:
    uri = f"python:{__name__}:OwnInput?port=3"
    line: Any = open_input(uri, "present", "present.uri")
    assert line.said == (uri, "present", "present.uri")


class FakeGpiod:
    """The part of the package gpiod that is used, as its version 2.5 has it."""

    class line:
        class Direction(Enum):
            INPUT, OUTPUT = 1, 2

        class Edge(Enum):
            RISING, FALLING, BOTH = 1, 2, 3

        class Bias(Enum):
            AS_IS, DISABLED, PULL_UP, PULL_DOWN = 1, 2, 3, 4

        class Clock(Enum):
            MONOTONIC = 1

        class Value(Enum):
            INACTIVE, ACTIVE = 0, 1

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.events: list[Any] = []
        self.values: dict[int, Any] = {}
        self.fd = 7

    @staticmethod
    def LineSettings(**settings: Any) -> dict[str, Any]:
        return settings

    def request_lines(self, path: str, **options: Any) -> FakeGpiod:
        if path == "/dev/missing":
            raise FileNotFoundError(2, "No such file or directory")
        self.requests.append((path, options))
        return self

    def wait_edge_events(self, timeout: float) -> bool:
        assert timeout == 0
        return bool(self.events)

    def read_edge_events(self) -> list[Any]:
        taken, self.events = self.events, []
        return taken

    def set_value(self, line: int, value: Any) -> None:
        self.values[line] = value

    def release(self) -> None:
        self.values.clear()


def test_libgpiod_is_asked_for_edges_on_the_monotonic_clock_and_for_lines_that_begin_inactive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpiod = FakeGpiod()
    monkeypatch.setitem(sys.modules, "gpiod", gpiod)
    line = open_input("gpio:///dev/chip?line=4&bias=pull-up&debounce_ms=2", "present", "present.uri")
    path, options = gpiod.requests[0]
    settings = options["config"][4]
    assert path == "/dev/chip" and line.handle == 7
    assert settings["edge_detection"] is gpiod.line.Edge.RISING
    assert settings["event_clock"] is gpiod.line.Clock.MONOTONIC
    assert settings["bias"] is gpiod.line.Bias.PULL_UP
    assert settings["debounce_period"].total_seconds() == 0.002
    gpiod.events = [SimpleNamespace(timestamp_ns=10, line_seqno=1)]
    assert line.read(99, False) == [Seen(10)]
    assert line.read(99, False) == []
    gate = open_output("gpio:///dev/chip?pass=5&heartbeat=6")
    settings = gpiod.requests[1][1]["config"][5]
    assert settings["direction"] is gpiod.line.Direction.OUTPUT
    assert settings["output_value"] is gpiod.line.Value.INACTIVE
    gate.allow(Pass(1, "A", 0, 100, ()), 1)
    assert gpiod.values[5] is gpiod.line.Value.ACTIVE
    with pytest.raises(DeviceError, match="/dev/missing"):
        open_input("gpio:///dev/missing?line=4", "present", "present.uri")


def test_a_burst_that_the_gate_reads_loses_nothing(tmp_path: Path) -> None:
    rig = GateRig(tmp_path)
    for i in range(1000):  # more than wait for a gate that does not read
        rig.output.beat(i * MS, True, "RUNNING")
        assert [message.n for message in rig.gate.receive(5)] == [i + 1]
    assert rig.output.dropped == 0
    rig.close()
