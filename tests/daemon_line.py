"""A daemon in this process with scripted cameras, a real control socket and a real subscriber."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import numpy as np
from tiny_bundle import HEIGHT, WIDTH

from edge_ad.capture.parts import render_part
from edge_ad.config import Camera, Station, parse_station
from edge_ad.daemon import Daemon
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.curve import Keys
from edge_ad.delivery.scores import ScoreSubscriber
from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.errors import CaptureError
from edge_ad.frame import Frame, Image

# Scripts show the same part again and again, or a black frame for a bad one.
STILL = {"dark": 0, "bright": 255, "frozen": 0}


def good(index: int, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """A good part."""
    return render_part(1, index, width, height, 0.0)[0]


class ScriptedSource:
    """A camera that does what is put into it: an image, a Frame, an exception, "hang" or None (end)."""

    live = True
    skipped = 0
    pixel_rule_name = "auto8"

    def __init__(self, name: str, script: SimpleQueue[Any], live: bool = True) -> None:
        self.name = name
        self.live = live
        self.count = 0
        self._script = script
        self._closed = threading.Event()

    def open(self) -> None:
        self._closed.clear()

    def read(self) -> Frame | None:
        while True:
            if self._closed.is_set():
                return None
            if not self._script.empty():
                break
            time.sleep(0.002)
        item = self._script.get()
        if isinstance(item, str):  # "hang"
            time.sleep(3600)
        if item is None or isinstance(item, Frame):
            return item
        if isinstance(item, Exception):
            raise item
        index = self.count
        self.count += 1
        return Frame(self.name, index, item, time.monotonic_ns(), time.time_ns(), f"P{index}")

    def close(self) -> None:
        self._closed.set()


class AskedSource(ScriptedSource):
    """One that takes a picture when it is asked: what is in the script, else a good part."""

    def take(self, key: str, shot: int) -> Frame | None:
        item = good(0) if self._script.empty() else self._script.get()
        if isinstance(item, str):  # "hang"
            time.sleep(3600)
        if isinstance(item, Exception):
            raise item
        if item is None or isinstance(item, Frame):
            return item
        self.count += 1
        return Frame(self.name, self.count - 1, item, time.monotonic_ns(), time.time_ns(), key)


class Line:
    """Context manager around a running daemon; `cameras` maps names to scripts."""

    def __init__(
        self,
        state: Path,
        *,
        live: bool = False,
        asked: bool = False,
        cameras: Iterable[str] = ("top",),
        options: dict[str, Any] | None = None,
        camera_options: dict[str, Any] | None = None,
        keys: Keys | None = None,
        **daemon_options: Any,
    ) -> None:
        self.scripts: dict[str, SimpleQueue[Any]] = {name: SimpleQueue() for name in cameras}
        self.opened: list[ScriptedSource] = []
        table: dict[str, Any] = {
            "schema": 1,
            "station": "line1",
            "state_dir": str(state),
            "deadline_ms": 5000.0,  # ten times the default: a busy test machine is not late
            "camera": [
                {"name": n, "uri": "fake://", **STILL, **(camera_options or {})} for n in self.scripts
            ],
            "scores": {"endpoint": "tcp://127.0.0.1:0"},
            "metrics": {"port": 0},
            **(options or {}),
        }
        # A nearly full disk of the machine that runs the tests changes nothing.
        table["evidence"] = {"min_free": 0.0, **table.get("evidence", {})}
        self.station: Station = parse_station(table)

        def make(camera: Camera, base: Path) -> ScriptedSource:
            kind = AskedSource if asked else ScriptedSource
            source = kind(camera.name, self.scripts[camera.name], live)
            self.opened.append(source)
            return source

        daemon_options = {"make_source": make, "backoff_s": (0.02, 0.05), **daemon_options}
        self.daemon = Daemon(self.station, **daemon_options)
        self.code: int | None = None
        self._keys = keys

    def __enter__(self) -> Line:
        self.daemon.start()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        endpoint = self.station.control_endpoint
        keys = self._keys if endpoint.startswith("tcp://") else None
        self.control = ControlClient(endpoint, keys=keys)
        endpoint = self.daemon.channels.scores.endpoint.replace("0.0.0.0", "127.0.0.1")
        self.scores = ScoreSubscriber(endpoint, keys=self._keys)
        self.scores.sync(self.control)
        return self

    def _run(self) -> None:
        self.code = self.daemon.run()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.daemon.stop()
        self._thread.join(20)
        self.control.close()
        self.scores.close()

    def feed(self, *items: Any, camera: str = "top") -> None:
        """Put items into a camera's script."""
        for item in items:
            self.scripts[camera].put(item)

    def verdict(self, timeout_s: float = 10.0) -> tuple[Header, ScoreBody]:
        """The next published part."""
        message = self.scores.receive(timeout_s)
        assert message is not None, "no verdict came"
        return message[1], message[2]

    def verdicts(self, count: int) -> list[str]:
        """`count` verdicts as "PASS" or "FAULT late" and so on."""
        bodies = [self.verdict()[1] for _ in range(count)]
        return [f"{b.verdict} {b.reason}".strip() for b in bodies]

    def metric(self, name: str, **labels: str) -> float | None:
        """A metric's value now."""
        return self.daemon.metrics.registry.get_sample_value(name, labels)


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Poll until true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


LOST = CaptureError("fake: unplugged")
BLACK = np.zeros((HEIGHT, WIDTH), np.uint8)
