"""The chaos run: starts everybody, kills daemon and station by plan, has the checker judge."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from edge_ad.chaos.checker import Verdicts, Window
from edge_ad.chaos.line import BEAT_MS, make_line
from edge_ad.chaos.plan import Files, Options, plan_kills, plan_parts, write_lines
from edge_ad.chaos.victims import START_LIMIT_S, Victim
from edge_ad.errors import CheckFailed, ConfigError, DeliveryError

STEP_S = 0.005
SETTLE_S = 60.0  # for the station to take what it has missed

Say = Callable[[str, float], None]  # what is done, how much of it


def run_chaos(options: Options, keep: Path | None, say: Say) -> Verdicts:
    """Run it in `keep`, or in a directory that goes. Raises CheckFailed where a process ends by itself
    or does not come up; what the run shows is in the result."""
    with ExitStack() as stack:
        if keep is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-ad-")))
        else:
            directory = keep.absolute()
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise ConfigError(f"--keep {directory}: is not empty; give a new directory")
        say("calibrate", 0.0)
        station, bad = make_line(directory, options)
        files = Files(str(directory))
        parts = plan_parts(options, bad)
        write_lines(files.plan, parts)
        run = _Run(options, files, say, stack)
        run.start(station.control_endpoint, station.trigger_endpoint)
        run.watch()
        run.settle()
        return run.check(station.state_path)


class _Run:
    """One run's processes."""

    def __init__(self, options: Options, files: Files, say: Say, stack: ExitStack) -> None:
        self._options = options
        self._files = files
        self._say = say
        self._stack = stack
        self._windows: list[Window] = []

    def start(self, control: str, triggers: str) -> None:
        """Bring everybody up, the source last."""
        ipc = f"ipc://{self._files.directory}/"
        beat = str(4 * BEAT_MS)
        parts = str(self._options.parts)
        directory = self._files.directory
        self._gate = self._spawn("gate", directory, ipc + "belt.sock", ipc + "gate.sock", beat, parts)
        self._victims = [
            self._victim("daemon", ["run", "-c", "line.toml"], control),
            self._victim("station", ["station", "-c", "gate.toml"], ipc + "station/control.sock"),
        ]
        for victim in self._victims:
            victim.start()
        self._until(lambda: all(victim.ready for victim in self._victims), START_LIMIT_S, "ready")
        options = msgspec.json.encode(self._options).decode()
        self._source = self._spawn(
            "source", directory, options, triggers, ipc + "present.sock", ipc + "belt.sock"
        )

    def watch(self) -> None:
        """Kill and start again until source and gate are done."""
        began, expected = time.monotonic(), self._options.parts / self._options.rate
        while self._source.poll() is None or self._gate.poll() is None:
            # The last ones are left in peace, so that what was missed can be made up for.
            killing = self._source.poll() is None
            run_s = time.monotonic() - began
            for victim in self._victims:
                victim.step(run_s if killing else None)
            done = run_s / expected
            kills = ", ".join(f"{victim.name} {victim.kills}" for victim in self._victims)
            self._say(f"killed: {kills}", min(1.0, done))
            time.sleep(STEP_S)
        for name, process in (("source", self._source), ("gate", self._gate)):
            if process.returncode:
                raise CheckFailed(f"chaos: the {name} ended with exit code {process.returncode}")

    def settle(self) -> None:
        """Wait until the station has all that the daemon committed, then end both."""
        self._say("settle", 1.0)
        self._until(self._settled, SETTLE_S, "done with what was missed")
        for victim in self._victims:
            victim.stop()

    def check(self, state: Path) -> Verdicts:
        """What the checker says, in a process of its own."""
        write_lines(self._files.windows, self._windows)
        log = self._files.path("station/station.db")
        command = [sys.executable, "-m", "edge_ad.chaos.checker", self._files.directory]
        done = subprocess.run(
            [*command, str(state / "outbox.db"), str(log)], stdout=subprocess.PIPE, check=True
        )
        return msgspec.json.decode(done.stdout, type=Verdicts)

    def _settled(self) -> bool:
        if not all(victim.ready for victim in self._victims):
            return False
        try:
            status = self._victims[0].status()
        except DeliveryError:
            return False  # it dies just now
        verdicts: Any = status["verdicts"]
        return not verdicts["waiting"] and not verdicts["depth"]

    def _until(self, done: Callable[[], bool], limit_s: float, what: str) -> None:
        end = time.monotonic() + limit_s
        while not done():
            for victim in self._victims:
                victim.step(None)
            if time.monotonic() > end:
                raise CheckFailed(
                    f"chaos: daemon and station are not {what} within {limit_s:g} s; "
                    f"--keep DIR leaves their logs there"
                )
            time.sleep(STEP_S)

    def _victim(self, name: str, arguments: list[str], endpoint: str) -> Victim:
        arguments = [*arguments[:-1], str(self._files.path(arguments[-1]))]
        victim = Victim(
            name, arguments, endpoint, self._files.path(f"{name}.log"), _is_running,
            plan_kills(self._options, name), self._options.rate, self._windows.append,
        )  # fmt: skip
        self._stack.callback(victim.close)
        return victim

    def _spawn(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"edge_ad.chaos.{module}", *arguments]
        with self._files.path(f"{module}.log").open("wb") as stream:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
            )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


def _is_running(status: dict[str, object]) -> bool:
    return status["state"] == "RUNNING"
