"""A station with everything that a backup has: networks, bundles, kept parts, verdicts that wait,
evidence, keys, and the files of a gate and a bridge."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import cv2
from tiny_bundle import HEIGHT, WIDTH, make_bundle

from edge_ad.calibration_set import CalibrationSet, Record, save_set, set_directory, store_frame
from edge_ad.capture.parts import render_part
from edge_ad.config import Evidence, Station, load_station
from edge_ad.delivery.curve import write_pair
from edge_ad.delivery.outbox import Outbox
from edge_ad.delivery.outbox import Record as Verdict
from edge_ad.evidence.archive import Archive

LINE = """\
schema = 1
station = "line1"
state_dir = "{state}"
[[camera]]
name = "top"
uri = "synthetic://?seed=1&width={width}&height={height}&fps=20&defect_rate=0.3"
[[zone]]
name = "seal"
camera = "top"
kind = "ignore"
file = "drawings/zones.png"
label = 1
[engine]
backbone = "net"
threads = 1
[verdicts]
consumers = ["gate"]
[evidence]
min_free = 0.0
[curve]
secret = "keys/station.key_secret"
clients = "clients"
[scores]
endpoint = "tcp://127.0.0.1:0"
[metrics]
port = 0
"""
GATE = """\
schema = 1
station = "line1"
[[source]]
name = "line1"
endpoint = "ipc://state/verdicts.sock"
[belt]
travel_ms = 500.0
[present]
uri = "ipc://present.sock"
[output]
uri = "ipc://gate.sock"
"""


def make_line(root: Path, state: str = "state") -> Station:
    """Its station file is ROOT/line.toml; `state` as state_dir."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "line.toml").write_text(LINE.format(state=state, width=WIDTH, height=HEIGHT))
    (root / "gate.toml").write_text(GATE)
    (root / "plc.toml").write_text("schema = 1\n")
    (root / "unrelated.txt").write_text("not of the station")
    station = load_station(root / "line.toml")
    place = station.state_path
    make_bundle(place, name="b1")
    make_bundle(place, name="b2", seed=2, threshold=1e-3)  # which rejects every part
    shutil.move(place / "tiny", root / "net")
    (root / "drawings").mkdir()
    assert cv2.imwrite(
        str(root / "drawings" / "zones.png"), render_part(1, 0, WIDTH, HEIGHT, 0.0)[0] * 0
    )
    write_pair(root / "keys", "station")
    write_pair(root / "clients", "gate")
    (root / "clients" / "gate.key_secret").unlink()
    _add_parts(set_directory(place, "default"))
    add_verdicts(place, "e1", 5)
    archive = Archive(place, Evidence(min_free=0.0))
    for number in (1, 2):
        archive.write(number, "default", f"P{number}", {"top.png": bytes(50_000), "verdict.json": b"{}"})
    (root / "gate-state").mkdir()
    with closing(sqlite3.connect(root / "gate-state" / "station.db")) as base:
        base.execute("CREATE TABLE rows (one INTEGER)")
    for name in ("engines/f16.plan", "calibration/default/work-1/half", "daemon.lock"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("of this PC and moment")
    return station


def add_verdicts(state: Path, epoch: str, count: int) -> None:
    """Verdicts that the gate has not acknowledged."""
    outbox = Outbox(state / "outbox.db", epoch, ["gate"], time.monotonic_ns, time.time_ns)
    outbox.add([Verdict(n, f"P{n}", "REJECT", b"{}", b"{}", 0) for n in range(1, count + 1)])
    outbox.close()


def verdicts(state: Path) -> list[tuple[str, int]]:
    """What is in an outbox, epoch and number."""
    with closing(sqlite3.connect(state / "outbox.db")) as base:
        return base.execute(
            "SELECT epochs.name, seq FROM verdicts JOIN epochs ON epochs.id = epoch ORDER BY epoch, seq"
        ).fetchall()


def tree(directory: Path, without: tuple[str, ...] = ()) -> dict[str, str]:
    """Every file below, but for locks and what begins so: content and mode, or where a link leads."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and not name.startswith(without) and path.name != ".lock":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = f"{digest} {stat.S_IMODE(path.stat().st_mode):o}"
    return found


def _add_parts(directory: Path) -> None:
    parts = CalibrationSet()
    for number in range(3):
        stored = store_frame(directory, render_part(1, number, WIDTH, HEIGHT, 0.0)[0], "auto8")
        parts = parts.append(
            [Record(f"{number:06d}", "keep", "me", "", "2026-01-01T00:00:00Z", files={"top": stored})]
        )
    save_set(directory, parts)
