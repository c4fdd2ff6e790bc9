"""`edge-ad run` as a process: signals, exit codes, imports, memory, the format of the metrics."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest
from daemon_line import good, wait_for
from tiny_bundle import HEIGHT, WIDTH, make_bundle

from edge_ad.capture.parts import part_key
from edge_ad.delivery import wire
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.scores import ScoreSubscriber
from edge_ad.delivery.trigger import TriggerClient
from edge_ad.delivery.wire import Header, ScoreBody

RUN = [sys.executable, "-c", "from edge_ad.cli.main import main; main()", "run"]


def write_station(root: Path, uri: str, *, extra: str = "", ports: str = "") -> Path:
    path = root / "line.toml"
    path.write_text(
        f'schema = 1\nstation = "line1"\n{extra}\n[[camera]]\nname = "top"\nuri = "{uri}"\n'
        + (ports or '[scores]\nendpoint = "tcp://127.0.0.1:0"\n[metrics]\nport = 0\n')
    )
    return path


def synthetic(**parameters: Any) -> str:
    values = {"seed": 1, "width": WIDTH, "height": HEIGHT, "defect_rate": 0.05, **parameters}
    return "synthetic://?" + "&".join(f"{key}={value}" for key, value in values.items())


class Process:
    """A daemon process with its journal and log."""

    def __init__(self, station: Path) -> None:
        self.root = station.parent
        self.journal = self.root / "verdicts.jsonl"
        self._log = (self.root / "log").open("w+")
        self.process = subprocess.Popen(
            [*RUN, "-c", str(station), "--journal", str(self.journal)], stderr=self._log, cwd=self.root
        )
        self.control = ControlClient(f"ipc://{self.root / 'state' / 'control.sock'}", timeout_s=20)

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def wait_for_log(self, text: str) -> None:
        wait_for(lambda: text in self.log or self.process.poll() is not None, 30)
        assert text in self.log, self.log

    def end(self, timeout_s: float = 60) -> int:
        return self.process.wait(timeout_s)

    def verdicts(self) -> list[tuple[Header, ScoreBody]]:
        return [wire.read_journal_line(line) for line in self.journal.read_bytes().splitlines()]

    def close(self) -> None:
        self.control.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[Process] = []

    def start(uri: str, **options: Any) -> Process:
        started.append(Process(write_station(tmp_path, uri, **options)))
        return started[-1]

    yield start
    for process in started:
        process.close()


def run_once(station: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, "-c", str(station)], capture_output=True, text=True, timeout=60, check=False
    )


def test_finite_source_ends_with_a_verdict_for_every_part(start: Any, tmp_path: Path) -> None:
    make_bundle(tmp_path / "state")
    daemon = start(synthetic(parts=300))
    assert daemon.end() == 0
    verdicts = daemon.verdicts()
    assert [h.part for h, _ in verdicts] == [f"S{i:08d}" for i in range(300)]
    assert [h.seq for h, _ in verdicts] == list(range(1, 301))
    counts = collections.Counter(b.verdict for _, b in verdicts)
    assert counts["PASS"] > 200
    assert "Traceback" not in daemon.log


def test_folder_with_damaged_files_is_judged_to_its_end(start: Any, tmp_path: Path) -> None:

    make_bundle(tmp_path / "state")
    parts = tmp_path / "parts"
    parts.mkdir()
    cv2.imwrite(str(parts / "1.png"), good(1))
    (parts / "2.png").write_bytes(b"")
    (parts / "3.png").write_bytes((parts / "1.png").read_bytes()[:500])
    cv2.imwrite(str(parts / "4.png"), good(4)[:, :-8])
    cv2.imwrite(str(parts / "5.png"), good(5))
    daemon = start(f"folder://{parts}")
    assert daemon.end() == 0
    seen = [(h.part, b.verdict, b.reason) for h, b in daemon.verdicts()]
    assert seen == [
        ("1.png", "PASS", ""),
        ("2.png", "FAULT", "unreadable"),
        ("3.png", "FAULT", "unreadable"),
        ("4.png", "FAULT", "frame_size"),
        ("5.png", "PASS", ""),
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_drains_what_was_triggered(start: Any, tmp_path: Path, number: signal.Signals) -> None:
    make_bundle(tmp_path / "state")
    daemon = start(synthetic(fps=200))
    wait_for(lambda: daemon.journal.exists() and daemon.journal.stat().st_size > 5000, 30)
    daemon.process.send_signal(number)
    assert daemon.end() == 0
    verdicts = daemon.verdicts()
    assert [h.part for h, _ in verdicts] == [f"S{i:08d}" for i in range(len(verdicts))]
    assert f"stopped after {len(verdicts)} parts" in daemon.log
    assert all(b.verdict != "FAULT" for _, b in verdicts)


def test_hangup_with_a_broken_file_keeps_the_old_one(start: Any, tmp_path: Path) -> None:
    make_bundle(tmp_path / "state")
    daemon = start(synthetic(fps=100))
    daemon.wait_for_log("RUNNING")
    with (tmp_path / "line.toml").open("a") as file:
        file.write("\n[engine]\nthreads = -1\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("engine.threads")
    assert re.search(r"ERROR reload refused.*line\.toml: engine\.threads.*found -1", daemon.log)
    assert daemon.control.request("status")["state"] == "RUNNING"
    write_station(tmp_path, synthetic(fps=100))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("reloaded")
    daemon.control.request("stop")
    assert daemon.end() == 0


def test_second_daemon_is_refused_and_the_first_goes_on(start: Any, tmp_path: Path) -> None:
    daemon = start(synthetic(fps=50))
    daemon.wait_for_log("LEARNING")
    second = run_once(tmp_path / "line.toml")
    assert second.returncode == 5
    assert f"pid {daemon.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert daemon.control.request("status")["state"] == "LEARNING"


def test_bad_starts_end_in_one_line_and_the_documented_code(tmp_path: Path) -> None:
    def last_line(station: Path, code: int) -> str:
        done = run_once(station)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    assert "stattion" in last_line(write_station(tmp_path, synthetic(), extra='stattion = "x"'), 2)
    assert "ftp" in last_line(write_station(tmp_path, "ftp://x"), 2)
    assert "edge-ad init" in last_line(tmp_path / "none.toml", 2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = f'[scores]\nendpoint = "tcp://127.0.0.1:{port}"\n[metrics]\nport = 0\n'
        assert "scores.endpoint" in last_line(write_station(tmp_path, synthetic(), ports=ports), 5)
        ports = f'[scores]\nendpoint = "tcp://127.0.0.1:0"\n[metrics]\nport = {port}\n'
        assert "metrics.port" in last_line(write_station(tmp_path, synthetic(), ports=ports), 5)
    extra = 'state_dir = "/proc/edge_ad"'
    assert "state_dir" in last_line(write_station(tmp_path, synthetic(), extra=extra), 5)
    path = make_bundle(tmp_path / "state")
    (path / "gaussian.safetensors").chmod(0o644)
    (path / "gaussian.safetensors").write_bytes(b"\x80\x04junk")
    assert "gaussian.safetensors" in last_line(write_station(tmp_path, synthetic()), 3)


def test_camera_that_is_missing_at_the_start_is_waited_for(start: Any, tmp_path: Path) -> None:
    make_bundle(tmp_path / "state")
    daemon = start("folder://parts")
    daemon.wait_for_log("camera top: lost")
    assert daemon.control.request("status")["cameras"]["top"]["state"] == "lost"

    (tmp_path / "new").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "new" / f"{index}.png"), good(index))
    (tmp_path / "new").rename(tmp_path / "parts")
    assert daemon.end() == 0
    assert [b.verdict for _, b in daemon.verdicts()] == ["PASS"] * 3


def test_the_daemon_imports_nothing_heavy() -> None:
    code = (
        "import sys; import edge_ad.cli.run, edge_ad.cli.main, edge_ad.daemon;"
        "import edge_ad.backbone.openvino, edge_ad.capture.synthetic, edge_ad.capture.folder;"
        "import edge_ad.capture.opencv;"
        "heavy = {'torch','torchvision','timm','sklearn','scipy','matplotlib','onnx','rich'};"
        "print(sorted(heavy & {m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_scrape_is_clean_for_promtool(start: Any, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    make_bundle(tmp_path / "state")
    daemon = start(synthetic(fps=100))
    daemon.wait_for_log("RUNNING")
    url = daemon.control.request("status")["metrics"]
    wait_for(lambda: daemon.control.request("status")["parts"] > 20)
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read()
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def descriptors(process: int) -> int:
    """Open descriptors but for the day's scores, which are opened some time after the first of them."""
    places = []
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            places.append(descriptor.readlink())
    scores = [place for place in places if place.parent.name == "scores"]
    assert len(scores) <= 3, scores  # one file of SQLite, its log, the memory shared with it
    return len(places) - len(scores)


def soak(start: Any, tmp_path: Path, frames: int) -> None:
    """Every trigger has a verdict, nearly all of them scored; memory and descriptors stay flat."""
    make_bundle(tmp_path / "state")
    daemon = start(synthetic(parts=frames, pool=64))
    daemon.wait_for_log("RUNNING")
    process = psutil.Process(daemon.process.pid)
    samples: list[tuple[int, int, int]] = []
    with ScoreSubscriber(daemon.control.request("status")["scores"]) as scores:
        scores.sync(daemon.control)
        url = daemon.control.request("status")["metrics"]
        received, first, last, scraped = 0, 0, 0, 0.0
        while last < frames and (message := scores.receive(20.0)) is not None:
            received += 1
            first, last = first or message[1].seq, message[1].seq
            if time.monotonic() - scraped > 0.25 and last < frames - 200:
                scraped = time.monotonic()
                urllib.request.urlopen(url, timeout=10).read()
                samples.append((last, process.memory_info().rss, descriptors(process.pid)))
    assert daemon.end(120) == 0
    verdicts = daemon.verdicts()
    assert [h.part for h, _ in verdicts] == [f"S{i:08d}" for i in range(frames)]
    assert received == frames - first + 1  # nothing lost since the subscription was echoed
    scored = sum(b.verdict in ("PASS", "REJECT") for _, b in verdicts)
    assert scored >= 0.999 * frames
    settled = [sample for sample in samples[1:] if sample[0] > frames // 4]
    assert len(settled) >= 2
    assert settled[-1][1] - settled[0][1] < 4 * 2**20, samples
    half = len(settled) // 2
    early, late = (min(sample[2] for sample in some) for some in (settled[:half], settled[half:]))
    assert late <= early + 1, samples  # the least: a picture that is being written is open for a moment


def test_soak_of_5000_frames(start: Any, tmp_path: Path) -> None:
    soak(start, tmp_path, 5000)


@pytest.mark.slow
def test_soak_of_100000_frames(start: Any, tmp_path: Path) -> None:
    soak(start, tmp_path, 100_000)


def test_blas_threads_are_limited_before_numpy_is_imported() -> None:
    code = (
        "import sys; from os import environ as e; import edge_ad.cli.run;"
        "print('numpy' in sys.modules, e['OMP_NUM_THREADS'], e['OPENBLAS_NUM_THREADS'])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["False", "1", "1"]


def triggered(kind: str, more: str = "") -> dict[str, str]:
    ports = f'[trigger]\nkind = "{kind}"\nframe_ms = 20000.0\n{more}\n'
    ports += '[scores]\nendpoint = "tcp://127.0.0.1:0"\n[metrics]\nport = 0\n'
    return {"extra": "deadline_ms = 60000.0", "ports": ports}


def test_stop_gives_every_accepted_trigger_its_verdict(start: Any, tmp_path: Path) -> None:
    make_bundle(tmp_path / "state")
    daemon = start(synthetic(), **triggered("message", "queue = 8"))
    daemon.wait_for_log("RUNNING")
    judged: list[str] = []
    with TriggerClient(f"ipc://{tmp_path / 'state' / 'trigger.sock'}", 5.0) as client:
        for i in range(400):
            reply = client.send(part_key(i))
            if reply.accepted or reply.reason == "overflow":
                judged.append(part_key(i))
            else:
                break
            if i == 60:
                daemon.process.send_signal(signal.SIGTERM)
        assert reply.reason in ("not_ready", "no_answer")
    assert daemon.end() == 0
    verdicts = daemon.verdicts()
    assert [h.part for h, _ in verdicts] == judged
    assert [h.count for h, _ in verdicts] == list(range(1, len(judged) + 1))
    assert sum(b.verdict == "PASS" for _, b in verdicts) > 0


def test_trigger_command_has_a_part_judged_under_keys_that_never_come_again(
    start: Any, tmp_path: Path
) -> None:
    make_bundle(tmp_path / "state")
    parts = []
    for _ in range(2):
        daemon = start(synthetic(), **triggered("software"))
        wait_for(lambda daemon=daemon: "RUNNING" in daemon.log, 30)  # type: ignore[misc]
        for options in ([], ["--part", "mine"], ["--part", "mine"]):
            done = subprocess.run(
                [*RUN[:-1], "trigger", "-c", str(tmp_path / "line.toml"), *options],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            parts.append((done.returncode, done.stdout.strip() or done.stderr.strip()))
        daemon.process.kill()
        daemon.end()
    said = [(0, "accepted, trigger 1"), (0, "accepted, trigger 2")]
    again = (5, "edge-ad: trigger: key_reused: key 'mine' was announced twice")
    assert parts == [*said, again] * 2
    keys = [h.part for h, _ in daemon.verdicts()]
    own = [key for key in keys if key != "mine"]
    assert len(own) == len(set(own)) == 2
