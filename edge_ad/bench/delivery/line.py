"""The line that is measured: its files, and `edge-ad run` and `edge-ad station` as processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_ad.bench.trial import Trial
from edge_ad.delivery.control import ControlClient
from edge_ad.errors import DeliveryError, DeviceError
from edge_ad.programs import last_line

CONSUMER = "bench"
_DAEMON = """schema = 1
station = "{station}"
state_dir = "state"
deadline_ms = {deadline_ms}
[[camera]]
name = "{camera}"
uri = "{uri}"
stale_ms = 600000.0
max_megapixels = 400.0
[[view]]
name = "{camera}"
camera = "{camera}"
[engine]
threads = {threads}
[trigger]
kind = "message"
frame_ms = 10000.0
[verdicts]
consumers = ["bench", "gate"]
[evidence]
keep = "{keep}"
max_megabytes = 200.0
min_free = 0.0
[scores]
endpoint = "tcp://127.0.0.1:0"
[metrics]
port = 0
"""
_STATION = """schema = 1
station = "{station}"
[[source]]
name = "main"
endpoint = "ipc://state/verdicts.sock"
[belt]
travel_ms = {travel_ms}
before = {before_ms}
after = {after_ms}
deadline_ms = {travel_ms}
[present]
uri = "ipc://present.sock"
[output]
uri = "ipc://gate.sock"
[metrics]
port = 0
"""


class Program:
    """One `edge-ad` command as a process, from the making to `close`."""

    def __init__(self, arguments: list[str], directory: Path, control: str, state: str) -> None:
        self.control = ControlClient(control, timeout_s=10.0)
        self._name = f"edge-ad {arguments[0]}"
        self._log = directory / f"{arguments[0]}.log"
        with self._log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_ad", *arguments],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            self.wait(lambda: self.status(0.5).get("state") == state, f"is not {state}", 120.0)
        except BaseException:
            self.close()
            raise

    def status(self, timeout_s: float | None = None) -> dict[str, Any]:
        """What it says of itself; nothing where it does not answer."""
        try:
            return self.control.request("status", timeout_s=timeout_s)
        except DeliveryError:
            return {}

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Raises DeviceError when it ends, or in time nothing comes of it; `what` it did not do."""
        end = time.monotonic() + timeout_s
        while not condition():
            ended = self._process.poll()
            if ended is not None:
                raise DeviceError(f"'{self._name}' ended with exit code {ended}: {last_line(self._log)}")
            if time.monotonic() > end:
                raise DeviceError(f"'{self._name}' {what} after {timeout_s:g} s: {last_line(self._log)}")
            time.sleep(0.02)

    def close(self) -> None:
        """End it and wait for that. Idempotent."""
        self.control.close()
        self._process.terminate()
        try:
            self._process.wait(20.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class BenchLine:
    """The files of a trial's line in `directory`, which holds its state too."""

    def __init__(self, directory: Path, trial: Trial) -> None:
        self.directory = directory
        self.trial = trial
        self.state = trial.station.state_path
        self.trigger = f"ipc://{self.state}/trigger.sock"
        self.verdicts = f"ipc://{self.state}/verdicts.sock"
        self.present = f"ipc://{directory}/present.sock"
        self.gate = f"ipc://{directory}/gate.sock"
        self.log = directory / "gate-state" / "station.db"

    def daemon(self, evidence: bool, deadline_ms: float) -> Program:
        """Start `edge-ad run`; returns when it judges parts."""
        station, camera = self.trial.station, self.trial.station.camera[0]
        text = _DAEMON.format(
            station=station.station, deadline_ms=deadline_ms, camera=camera.name, uri=camera.uri,
            threads=station.engine.threads, keep="rejects" if evidence else "none",
        )  # fmt: skip
        path = self.directory / "line.toml"
        path.write_text(text, encoding="utf-8")
        program = Program(
            ["run", "-c", str(path)], self.directory, f"ipc://{self.state}/control.sock", "RUNNING"
        )
        camera_up = self._camera_up(program, camera.name)
        program.wait(camera_up, "has no camera", 120.0)
        return program

    def station(self, travel_ms: float, before_ms: float, after_ms: float) -> Program:
        """Start `edge-ad station`; returns when it hears the daemon."""
        text = _STATION.format(
            station=self.trial.station.station, travel_ms=travel_ms, before_ms=before_ms,
            after_ms=after_ms,
        )  # fmt: skip
        path = self.directory / "gate.toml"
        path.write_text(text, encoding="utf-8")
        control = f"ipc://{self.directory}/gate-state/control.sock"
        return Program(["station", "-c", str(path)], self.directory, control, "RUNNING")

    @staticmethod
    def _camera_up(program: Program, camera: str) -> Callable[[], bool]:
        return lambda: program.status().get("cameras", {}).get(camera, {}).get("state") == "up"
