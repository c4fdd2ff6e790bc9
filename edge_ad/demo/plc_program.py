"""A simulated PLC program: triggers parts, takes results by key, and opens the gate for a PASS alone.

It talks Modbus-TCP to 'edge-ad plc' and scans as a PLC does: read every input, run the program, write
every output, every 10 ms. Each part reaches the gate a fixed time after its trigger, and passes only
where a result with verdict PASS and its own key was taken by then.

    python -m edge_ad.demo.plc_program --port 1502 --parts 100
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import click
import msgspec

from edge_ad.delivery.plc.codes import MAP_VERSION, Error, Result
from edge_ad.delivery.plc.registers import (
    ACK,
    BUSY,
    ENABLE,
    ERROR,
    OUTPUT_SIZE,
    OUTPUTS,
    READY,
    RESET,
    RESULT_VALID,
    TEXT,
    TRIGGER,
    decode_text,
    encode_text,
)

RESET_MS = 200.0  # that Reset is up at least
_PLACE = {entry.name: entry.offset for entry in OUTPUTS}


class Step(Enum):
    """Where the program is in the handshake."""

    IDLE = 0
    TRIGGERED = 1  # until Busy
    WAITING = 2  # until ResultValid
    TAKEN = 3  # until ResultValid is down again
    RESETTING = 4


@dataclass(frozen=True)
class Settings:
    """Times in ms."""

    parts: int = 100
    prefix: str = "part-"
    product: str = ""
    pitch_ms: float = 0.0  # between two triggers, at least
    gate_ms: float = 2000.0  # from trigger to gate
    patience_ms: float = 3000.0  # for the next phase of the handshake
    reset_ms: float = 500.0  # that an Error stands before Reset


@dataclass
class Counts:
    """What came of it. `gate` counts actions at the gate, one for each trigger."""

    triggers: int = 0
    results: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Result.__members__, 0))
    gate: dict[str, int] = field(default_factory=lambda: {"passed": 0, "rejected": 0})
    twice: int = 0  # results that a part had before
    foreign: int = 0  # results with another key than the part's at hand
    unanswered: int = 0  # parts that were given up
    errors: dict[str, int] = field(default_factory=dict)
    round_trips_ms: list[float] = field(default_factory=list)
    passed_keys: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Image:
    """What the PLC writes, in the order of its registers."""

    key: str = ""
    product: str = ""
    version: int = MAP_VERSION
    heartbeat: int = 0
    count: int = 0
    control: int = ENABLE

    def registers(self) -> list[int]:
        """As one write."""
        return [
            *encode_text(self.key, "high_first"),
            *encode_text(self.product, "high_first"),
            self.version,
            self.heartbeat,
            self.count,
            self.control,
        ]


class PlcProgram:
    """The program alone: `scan` takes what was read and returns what is to be written."""

    def __init__(self, settings: Settings, first: int = 0) -> None:
        self.settings = settings
        self.counts = Counts()
        self.step = Step.IDLE
        self.image = Image(product=settings.product)
        self._first = first
        self._since_ms = self._triggered_ms = -1e12
        self._error_ms: float | None = None
        self._error_code = 0
        self._verdicts: dict[str, Result] = {}
        self._belt: deque[tuple[float, str]] = deque()  # parts on their way to the gate

    @property
    def done(self) -> bool:
        """Every part has been at the gate."""
        return self.counts.triggers >= self.settings.parts and not self._belt and self.step is Step.IDLE

    def scan(self, read: Sequence[int], now_ms: float) -> Image:
        """One scan."""
        status = read[_PLACE["status"]]
        self._note_error(read[_PLACE["error_code"]], now_ms)
        taken = bool(status & BUSY) and read[_PLACE["trigger_echo"]] == self.image.count
        up_ms = now_ms - self._since_ms
        if self.step is Step.IDLE:
            self._idle(status, now_ms)
        elif self.step is Step.RESETTING:  # long enough that the bridge has seen it
            over = up_ms >= RESET_MS and not status & (ERROR | BUSY | RESULT_VALID)
            if over or up_ms > self.settings.patience_ms:
                self._go(Step.IDLE, now_ms, off=RESET)
        elif self.step is Step.TRIGGERED and taken:
            self._go(Step.WAITING, now_ms, off=TRIGGER)
        elif self.step is Step.WAITING and status & RESULT_VALID:
            self._take(read, now_ms)
        elif self.step is Step.TAKEN and not status & RESULT_VALID:
            self._go(Step.IDLE, now_ms, off=ACK)
        elif (self.step is Step.TRIGGERED and status & ERROR) or up_ms > self.settings.patience_ms:
            self._give_up(now_ms)
        while self._belt and self._belt[0][0] <= now_ms:
            self._gate(self._belt.popleft()[1])
        self.image = replace(self.image, heartbeat=(self.image.heartbeat + 1) & 0xFFFF)
        return self.image

    def _idle(self, status: int, now_ms: float) -> None:
        if status & ERROR and self._error_ms is not None:
            if now_ms - self._error_ms > self.settings.reset_ms and 0 < self._error_code < 100:
                self._go(Step.RESETTING, now_ms, on=RESET)
            return
        waited = now_ms - self._triggered_ms >= self.settings.pitch_ms
        if status & READY and waited and self.counts.triggers < self.settings.parts:
            self.counts.triggers += 1
            key = f"{self.settings.prefix}{self._first + self.counts.triggers:08d}"
            count = (self.image.count + 1) & 0xFFFF
            self.image = replace(self.image, key=key, count=count)
            self._triggered_ms = now_ms
            self._belt.append((now_ms + self.settings.gate_ms, key))
            self._go(Step.TRIGGERED, now_ms, on=TRIGGER)

    def _take(self, read: Sequence[int], now_ms: float) -> None:
        key = decode_text(read[:TEXT], "high_first")
        verdict = Result(read[_PLACE["verdict"]])
        if key != self.image.key:
            self.counts.foreign += 1
        elif key in self._verdicts:
            self.counts.twice += 1
        else:
            self._verdicts[key] = verdict
            self.counts.results[verdict.name] += 1
            self.counts.round_trips_ms.append(now_ms - self._triggered_ms)
        self._go(Step.TAKEN, now_ms, on=ACK)

    def _give_up(self, now_ms: float) -> None:
        self.counts.unanswered += self.step in (Step.TRIGGERED, Step.WAITING)
        self._go(Step.RESETTING, now_ms, on=RESET, off=TRIGGER | ACK)

    def _go(self, step: Step, now_ms: float, on: int = 0, off: int = 0) -> None:
        self.step, self._since_ms = step, now_ms
        self.image = replace(self.image, control=(self.image.control | on) & ~off)

    def _note_error(self, code: int, now_ms: float) -> None:
        if code != self._error_code:
            self._error_code, self._error_ms = code, now_ms
            if code:
                name = Error(code).name.lower()
                self.counts.errors[name] = self.counts.errors.get(name, 0) + 1

    def _gate(self, key: str) -> None:
        """Once for each part. What has no PASS of its own is rejected."""
        passes = self._verdicts.get(key) is Result.PASS
        self.counts.gate["passed" if passes else "rejected"] += 1
        if passes:
            self.counts.passed_keys.append(key)


def run_program(
    program: PlcProgram,
    host: str,
    port: int,
    *,
    bases: tuple[int, int] = (0, 100),
    scan_ms: float = 10.0,
    limit_s: float = 600.0,
    stop: Callable[[], bool] = lambda: False,
) -> Counts:
    """Scan until every part has been at the gate, `stop` or the limit. Connects again by itself."""
    # Without a PLC the demo needs none of it.
    from pymodbus.client import ModbusTcpClient
    from pymodbus.exceptions import ModbusException

    client = ModbusTcpClient(host, port=port, timeout=2, retries=0)
    begun = due = time.monotonic()
    try:
        while not program.done and not stop() and time.monotonic() - begun < limit_s:
            try:
                read = [0] * OUTPUT_SIZE  # what a PLC sees of a device that is away
                if client.connect():
                    answer = client.read_holding_registers(bases[1], count=OUTPUT_SIZE)
                    read = list(answer.registers) if not answer.isError() else read
                image = program.scan(read, time.monotonic() * 1000)
                if client.connected:
                    client.write_registers(bases[0], image.registers())
            except (ModbusException, OSError):
                client.close()
            due = max(due + scan_ms / 1000, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    finally:
        client.close()
    return program.counts


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, required=True)
@click.option("--parts", type=int, default=100, show_default=True)
@click.option("--pitch-ms", type=float, default=0.0, show_default=True)
@click.option("--gate-ms", type=float, default=2000.0, show_default=True)
@click.option("--prefix", default="part-", show_default=True, help="Of the parts' keys.")
@click.option("--first", type=int, default=0, show_default=True, help="Number before the first part's.")
@click.option("--product", default="", help="That is asked for.")
@click.option("--limit-s", type=float, default=600.0, show_default=True)
def main(
    host: str, port: int, parts: int, pitch_ms: float, gate_ms: float, prefix: str, first: int,
    product: str, limit_s: float,
) -> None:  # fmt: skip
    """Run the program until every part has been at the gate; print what came of it as JSON."""
    settings = Settings(parts, prefix, product, pitch_ms, gate_ms)
    program = PlcProgram(settings, first)
    counts = run_program(program, host, port, limit_s=limit_s)
    click.echo(msgspec.json.encode(counts).decode())
    sys.exit(0 if program.done else 1)


if __name__ == "__main__":
    main()
