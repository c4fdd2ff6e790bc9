"""The demo's station: the real daemon and the real calibration, as processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edge_ad.bundle import current_path
from edge_ad.bundle.manifest import Section
from edge_ad.bundle.qualification import Detected, read_detection
from edge_ad.bundle.read import read_manifest
from edge_ad.config import EngineKind, Station, load_station
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.wire import Header, ScoreBody, read_journal_line
from edge_ad.engines import chosen_engine
from edge_ad.errors import CheckFailed, DeliveryError, DeviceError
from edge_ad.programs import last_line

_STATION = """\
schema = 1
station = "demo"
product = "plate"
deadline_ms = {deadline_ms}

[[camera]]
name = "top"
uri = {uri}

[engine]
{engine}
backbone = {backbone}

[calibration]
false_reject_rate = {rate}

[scores]
endpoint = "tcp://127.0.0.1:0"

[metrics]
port = 0
"""

_ANNOUNCED = """
[trigger]
kind = "message"

[verdicts]
consumers = ["plc"]
"""

_ENGINES: dict[EngineKind, str] = {
    "openvino": 'kind = "openvino"',
    "tensorrt": 'kind = "tensorrt"\nprecision = "f16"',
    "torch": 'kind = "torch"\ndevice = "cuda"',
}


class Line:
    """A station in `directory`. As a context it leaves no process behind. `announced`: parts come by
    message, and verdicts go to the consumer "plc"; its files have other names then."""

    def __init__(
        self,
        directory: Path,
        uri: str,
        backbone: Path,
        rate: float,
        deadline_ms: float,
        engine: EngineKind = "openvino",
        announced: bool = False,
    ) -> None:
        prefix = "plc-" if announced else ""
        self.config = directory / f"{prefix}demo.toml"
        # A JSON string is a TOML string, whatever quotes a path holds.
        quoted = {"uri": json.dumps(uri), "backbone": json.dumps(str(backbone))}
        text = _STATION.format(**quoted, engine=_ENGINES[engine], rate=rate, deadline_ms=deadline_ms)
        self.config.write_text(text + announced * _ANNOUNCED, encoding="utf-8")
        self.station: Station = load_station(self.config)
        self._engine_key = chosen_engine(self.station).key
        self.journal = directory / f"{prefix}journal.jsonl"
        self.control = ControlClient(self.station.control_endpoint, timeout_s=10.0)
        self.directory = directory
        self._daemon_log = directory / f"{prefix}daemon.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._command: subprocess.Popen[bytes] | None = None  # beside the daemon: calibrate, qualify
        self._name = ""  # of the command

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self._command, self._daemon):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.control.close()

    def start(self, patience_s: float = 60.0) -> dict[str, Any]:
        """Start `edge-ad run` and wait until it answers; returns its status."""
        arguments = ["run", "-c", str(self.config), "--journal", str(self.journal)]
        self._daemon = spawn(arguments, self._daemon_log)
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            self.check()
            try:
                status = self.control.request("status", timeout_s=0.5)
            except DeliveryError:
                continue
            if status["state"] != "STARTING":
                return status
            time.sleep(0.02)
        raise DeviceError(
            f"the daemon did not start within {patience_s:g} s: {last_line(self._daemon_log)}"
        )

    def check(self) -> None:
        """Raise DeviceError when the daemon has ended."""
        if self._daemon is not None and self._daemon.poll() is not None:
            raise DeviceError(
                f"'edge-ad run' ended with exit code {self._daemon.returncode}: "
                f"{last_line(self._daemon_log)}"
            )

    def status(self) -> dict[str, Any]:
        """The daemon's status."""
        return self.control.request("status")

    def build(self) -> None:
        """Start `edge-ad backbone build`."""
        self._begin("backbone build")

    def calibrate(self, parts: int) -> None:
        """Start `edge-ad calibrate --parts`."""
        self._begin("calibrate", "--parts", str(parts))

    def qualify(self, bad: Path) -> None:
        """Start `edge-ad qualify --bad`."""
        self._begin("qualify", "--bad", str(bad))

    def _begin(self, name: str, *options: str) -> None:
        self._name = name
        self._command = spawn([*name.split(), "-c", str(self.config), *options], self._log)

    @property
    def _log(self) -> Path:
        return self.directory / f"{self._name.replace(' ', '-')}.log"

    def finished(self) -> bool:
        """Whether the command is done. Raises CheckFailed with its last words when it failed."""
        assert self._command is not None
        code = self._command.poll()
        if code:
            raise CheckFailed(
                f"'edge-ad {self._name}' ended with exit code {code}: {last_line(self._log)}"
            )
        return code == 0

    def section(self) -> Section:
        """The active bundle's section of the line's engine: threshold and promise."""
        return read_manifest(self._bundle()).engines[self._engine_key]

    def detection(self) -> Detected:
        """What the qualification of the active bundle measured, all kinds of defect together."""
        return read_detection(self._bundle()).engines[self._engine_key].overall

    def _bundle(self) -> Path:
        path = current_path(self.station.state_path, self.station.product)
        assert path is not None
        return path

    def stop(self) -> None:
        """Ask the daemon to drain and end. Returns at once."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGTERM)

    def stopped(self) -> bool:
        """Whether the daemon has ended. Raises DeviceError when it did not end well."""
        assert self._daemon is not None
        if self._daemon.poll():
            self.check()
        return self._daemon.returncode == 0

    def read_journal(self) -> list[tuple[Header, ScoreBody]]:
        """Every verdict that the daemon says it gave."""
        return [read_journal_line(line) for line in self.journal.read_bytes().splitlines()]


def spawn(arguments: list[str], log: Path, module: str = "edge_ad") -> subprocess.Popen[bytes]:
    """Start `python -m MODULE ARGUMENTS`; what it says goes to `log`."""
    with log.open("wb") as stream:
        return _popen([sys.executable, "-m", module, *arguments], stream)


def _popen(command: list[str], stream: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
