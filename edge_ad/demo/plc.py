"""The demo's last step with --plc: the real daemon and the real bridge beside a simulated PLC."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import msgspec
import numpy as np

from edge_ad.config.plc import load_plc
from edge_ad.delivery.control import ControlClient
from edge_ad.demo.line import Line, spawn
from edge_ad.demo.plc_program import Counts
from edge_ad.demo.progress import DEADLINE_MS, RATE, Progress
from edge_ad.demo.tally import PlcResult
from edge_ad.errors import CheckFailed, DeliveryError, DeviceError
from edge_ad.programs import last_line

FIRST = 20_000_000  # number before that of the first part: no other step's parts come there
GATE_MS = 1500.0
_PATIENCE_S = 60.0
_CONFIG = """\
schema = 1

[fieldbus.options]
port = 0

[metrics]
port = 0
"""


def run_plc(
    line: Line, progress: Progress, show: Callable[[Progress], None], clock: Callable[[], float]
) -> tuple[PlcResult, list[str]]:
    """Run the parts of a PLC through daemon and bridge; what came of them, and what is wrong with it.

    `line` has a bundle and is stopped. Raises DeviceError or CheckFailed when a process fails.
    """
    options, directory = progress.options, line.directory
    with ExitStack() as stack:
        progress.begin("plc", f"{options.plc} parts that a simulated PLC triggers over Modbus-TCP")
        show(progress)
        backbone = line.station.backbone_path
        again = stack.enter_context(
            Line(directory, options.uri, backbone, RATE, DEADLINE_MS, options.engine, announced=True)
        )
        again.start()
        (directory / "plc.toml").write_text(_CONFIG, encoding="utf-8")
        bridge = _start(stack, ["plc", "-c", str(directory / "plc.toml")], directory / "plc.log")
        control = stack.enter_context(
            ControlClient(load_plc(directory / "plc.toml").control_endpoint, timeout_s=10.0)
        )
        status = _await_bridge(control, bridge, directory / "plc.log", clock)
        arguments = [
            "--port", str(status["fieldbus"]).rpartition(":")[2], "--parts", str(options.plc),
            "--prefix", "S", "--first", str(FIRST), "--gate-ms", str(GATE_MS),
        ]  # fmt: skip
        program = _start(stack, arguments, directory / "plc-program.log", "edge_ad.demo.plc_program")
        while program.poll() is None:
            again.check()
            progress.share = int(control.request("status")["triggers"]) / options.plc
            show(progress)
            time.sleep(0.2)
        if program.returncode:
            raise CheckFailed(f"the simulated PLC gave up: {last_line(directory / 'plc-program.log')}")
        counts = msgspec.json.decode(last_line(directory / "plc-program.log"), type=Counts)
        mean_ms = _mean_ms(str(status["metrics"]))
        _end(again, clock)
        verdicts = {header.part: body.verdict for header, body in again.read_journal()}
    result = _result(counts, mean_ms)
    trip = result.round_trip_ms
    progress.finish(
        f"{result.triggers} triggers, each one result; gate {result.gate['passed']} passed, "
        f"{result.gate['rejected']} rejected; round trip p50 {trip.get('p50', 0):.0f} ms"
    )
    show(progress)
    return result, plc_problems(counts, verdicts, options.plc)


def _end(line: Line, clock: Callable[[], float]) -> None:
    line.stop()
    end = clock() + _PATIENCE_S
    while not line.stopped():
        if clock() > end:
            raise DeviceError(f"the daemon did not stop within {_PATIENCE_S:g} s of SIGTERM")
        time.sleep(0.05)


def plc_problems(counts: Counts, verdicts: dict[str, str], parts: int) -> list[str]:
    """What is wrong, given what the PLC counted and the daemon's verdict on each part."""
    problems = []
    results = sum(counts.results.values())
    if not counts.triggers == results == parts or counts.twice or counts.foreign or counts.unanswered:
        problems.append(
            f"PLC: {counts.triggers} triggers of {parts} had {results} results, {counts.twice} twice, "
            f"{counts.foreign} of other parts, {counts.unanswered} parts given up"
        )
    if sum(counts.gate.values()) != counts.triggers:
        problems.append(f"PLC: {counts.triggers} triggers, gate actions {counts.gate}")
    wrong = [key for key in counts.passed_keys if verdicts.get(key) != "PASS"]
    if wrong:
        problems.append(f"PLC: {len(wrong)} parts passed the gate without a PASS, as {wrong[0]}")
    return problems


def _start(
    stack: ExitStack, arguments: list[str], log: Path, module: str = "edge_ad"
) -> subprocess.Popen[bytes]:
    """A process that does not outlive the stack."""
    process = spawn(arguments, log, module)

    def end() -> None:
        if process.poll() is None:
            process.kill()
        process.wait()

    stack.callback(end)
    return process


def _await_bridge(
    control: ControlClient, bridge: subprocess.Popen[bytes], log: Path, clock: Callable[[], float]
) -> dict[str, object]:
    """Its status, once it hears the daemon."""
    end = clock() + _PATIENCE_S
    while clock() < end:
        if bridge.poll() is not None:
            raise DeviceError(
                f"'edge-ad plc' ended with exit code {bridge.returncode}: {last_line(log)}"
            )
        try:
            status = control.request("status", timeout_s=0.5)
        except DeliveryError:
            continue
        if status["daemon_up"]:
            return status
        time.sleep(0.05)
    raise DeviceError(
        f"'edge-ad plc' did not hear the daemon within {_PATIENCE_S:g} s: {last_line(log)}"
    )


def _mean_ms(url: str) -> float:
    with urlopen(url, timeout=10) as answer:
        page = answer.read().decode()
    total, count = (
        float(re.findall(rf"^edge_ad_plc_result_seconds_{what} (\S+)$", page, re.M)[0])
        for what in ("sum", "count")
    )
    return 1000 * total / count if count else 0.0


def _result(counts: Counts, mean_ms: float) -> PlcResult:
    trips = counts.round_trips_ms
    percentiles = {}
    if trips:
        p50, p99 = np.percentile(trips, [50, 99])
        percentiles = {"p50": float(p50), "p99": float(p99), "max": max(trips)}
    return PlcResult(
        triggers=counts.triggers,
        results=counts.results,
        gate=counts.gate,
        round_trip_ms=percentiles,
        bridge_ms={"mean": mean_ms},
    )
