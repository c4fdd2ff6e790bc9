from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_backbone import write_tiny_backbone
from tiny_bundle import make_bundle

from edge_ad.cli.check import command
from edge_ad.delivery.control import ControlServer
from edge_ad.delivery.lock import StateLock
from edge_ad.errors import CheckFailed, ConfigError


def write_line(
    directory: Path, camera: str = "synthetic://?seed=1&width=64&height=48", more: str = ""
) -> Path:
    write_tiny_backbone(directory / "net")
    path = directory / "line.toml"
    path.write_text(
        f'schema = 1\nstation = "s"\n[[camera]]\nname = "top"\nuri = "{camera}"\n{more}\n'
        '[engine]\nbackbone = "net"\nthreads = 1\n'
        '[scores]\nendpoint = "tcp://127.0.0.1:0"\n[metrics]\nport = 0\n'
    )
    return path


def check(path: Path, *options: str) -> tuple[Result, dict[str, tuple[str, str]]]:
    done = CliRunner().invoke(
        command, ["-c", str(path), "--json", str(path.parent / "out.json"), *options]
    )
    data = json.loads((path.parent / "out.json").read_text())
    return done, {c["name"]: (c["state"], c["text"]) for c in data["checks"]}


def test_a_new_line_has_everything_but_a_calibration(tmp_path: Path) -> None:
    done, found = check(write_line(tmp_path))
    assert done.exit_code == 0, done.output
    assert {name for name, (state, _) in found.items() if state != "ok"} == {"bundle"}
    assert "edge-ad calibrate" in found["bundle"][1]
    assert "64 x 48" in found["camera top"][1]
    assert not (tmp_path / "state").exists()  # nothing is changed


def test_json_on_standard_output_is_nothing_but_json(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["-c", str(write_line(tmp_path)), "--json"])
    assert json.loads(done.stdout)["ok"] is True


@pytest.mark.parametrize(
    ("camera", "message"),
    [("v4l2:///dev/video96", "cannot be opened"), ("folder://none", "no such directory")],
)
def test_a_camera_that_would_fail_fails_the_check(camera: str, message: str, tmp_path: Path) -> None:
    done, found = check(write_line(tmp_path, camera))
    assert isinstance(done.exception, CheckFailed) and "camera top" in str(done.exception)
    state, text = found["camera top"]
    assert state == "fail" and message in text
    assert found["view top"] == (
        "ok",
        "how finely it is seen is known once camera 'top' gives a frame",
    )
    assert found["engine"][0] == "ok"  # the other checks are made all the same


VIEW = '[[view]]\nname = "v"\ncamera = "top"\n'


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("roi = [50, 0, 20, 20]", "roi [50, 0, 20, 20] is outside of 64 x 48 px"),
        ("tiles = [2, 2]\noverlap = 40", "2 rows of tiles that overlap by 40 px do not fit into 48 px"),
        ("roi = [0, 0, 30, 30]\ntiles = [1, 8]", "view[0].tiles: 8 columns of tiles in 30 px are 4 px"),
    ],
)
def test_a_view_that_does_not_fit_fails_the_check(more: str, message: str, tmp_path: Path) -> None:
    done, found = check(write_line(tmp_path, "synthetic://?width=64&height=48", VIEW + more))
    state, text = found["view v"]
    assert isinstance(done.exception, CheckFailed) and "view v" in str(done.exception)
    assert state == "fail" and message in text


def test_how_finely_a_view_is_seen_and_what_would_be_enough(tmp_path: Path) -> None:
    """The tiny network takes 64 x 64."""
    camera = "synthetic://?width=640&height=480"
    _, found = check(write_line(tmp_path, camera))
    assert found["view top"] == (
        "ok",
        "640 x 480 px, 10 camera px per network px; a defect spans two of the network's from 20 px on; "
        "tiles = [8, 10] would show every camera pixel",
    )
    _, found = check(write_line(tmp_path, camera, VIEW + "tiles = [8, 10]"))
    assert found["view v"][1] == (
        "8 x 10 tiles of 64 x 60 px, 1 camera px per network px; a defect spans two of the network's "
        "from 2 px on"
    )


ZONE = """[[zone]]
name = "a"
camera = "top"
polygon = [[0, 0], [32, 0], [32, 48], [0, 48]]
[[zone]]
name = "b"
camera = "top"
kind = "ignore"
polygon = [[40, 0], [41, 0], [41, 24], [40, 24]]
"""


def test_zones_are_said_with_their_share_of_the_frame(tmp_path: Path) -> None:
    _, found = check(write_line(tmp_path, more=ZONE))
    assert found["zones top"] == ("ok", "of 64 x 48 px: a 50 %, b 0.781 % (ignored)")
    assert not any(name.startswith("zones") for name in check(write_line(tmp_path))[1])


def test_zones_that_do_not_fit_fail_the_check(tmp_path: Path) -> None:
    path = write_line(tmp_path, more=ZONE.replace("41, 24", "65, 24"))
    done, found = check(path)
    assert isinstance(done.exception, CheckFailed) and "zones top" in str(done.exception)
    state, text = found["zones top"]
    assert state == "fail"
    assert text.startswith(
        f"{path}: zone[1].polygon: corner 2 at 65, 24 is outside of the frame of 64 x"
    )
    _, found = check(write_line(tmp_path, "v4l2:///dev/video96", ZONE))
    assert found["zones top"] == ("ok", "they are read once camera 'top' gives a frame")


def test_a_blank_picture_is_a_warning(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    (tmp_path / "parts").mkdir()
    cv2.imwrite(str(tmp_path / "parts" / "a.png"), np.full((40, 40), 3, np.uint8))
    _, found = check(write_line(tmp_path, "folder://parts"))
    assert found["camera top"][0] == "warn" and "lens cap" in found["camera top"][1]


def test_a_missing_and_a_changed_backbone_fail(tmp_path: Path) -> None:
    path = write_line(tmp_path)
    with (tmp_path / "net" / "backbone.onnx").open("ab") as file:
        file.write(b"x")
    done, found = check(path)
    assert isinstance(done.exception, CheckFailed)
    assert found["backbone"][0] == "fail" and "sha256" in found["backbone"][1]
    (tmp_path / "net" / "backbone.json").unlink()
    _, found = check(path)
    assert found["backbone"][0] == found["engine"][0] == "fail"
    assert "edge-ad backbone export" in found["backbone"][1]


def test_a_backbone_that_the_profile_cannot_use_fails(tmp_path: Path) -> None:
    path = write_line(tmp_path)
    write_tiny_backbone(tmp_path / "net", local=False)
    state, text = check(path)[1]["backbone"]
    assert state == "fail"
    assert "needs features per position, which backbone tiny lacks; export it again" in text
    path.write_text(path.read_text() + '[calibration]\nprofile = "paper"\n')
    assert check(path)[1]["backbone"][0] == "ok"


def test_a_port_in_use_is_found(tmp_path: Path) -> None:
    path = write_line(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        path.write_text(path.read_text().replace("port = 0", f"port = {port}"))
        done, found = check(path)
    assert isinstance(done.exception, CheckFailed)
    assert found["metrics port"] == (
        "fail",
        f"127.0.0.1:{port} is in use by another program; stop it, or set another metrics.port",
    )


def test_beside_a_running_daemon_cameras_and_ports_are_left_alone(tmp_path: Path) -> None:
    path = write_line(tmp_path, "v4l2:///dev/video96")
    answer = {
        "pid": 7, "state": "RUNNING", "product": "default", "scores": "tcp://127.0.0.1:5570",
        "metrics": "http://127.0.0.1:9570/metrics", "cameras": {"top": {"state": "up", "age_s": 0.1}},
    }  # fmt: skip
    lock = StateLock(tmp_path / "state")
    server = ControlServer(f"ipc://{tmp_path}/state/control.sock", lambda command, args: dict(answer))
    server.start()
    try:
        done, found = check(path)
        answer["cameras"] = {"top": {"state": "lost", "age_s": 9.0}}
        lost, found_lost = check(path)
    finally:
        server.close()
        lock.release()
    assert done.exit_code == 0, done.output
    assert found["daemon"] == ("ok", "pid 7, RUNNING, product default")
    assert "up in the running daemon" in found["camera top"][1]
    assert "bound by the running daemon" in found["metrics port"][1]
    assert isinstance(lost.exception, CheckFailed) and found_lost["camera top"][0] == "fail"


def test_a_daemon_that_does_not_answer_fails(tmp_path: Path) -> None:
    path = write_line(tmp_path)
    lock = StateLock(tmp_path / "state")
    try:
        done, found = check(path)
    finally:
        lock.release()
    assert isinstance(done.exception, CheckFailed)
    assert found["daemon"][0] == "fail" and "does not answer" in found["daemon"][1]


def test_a_bad_station_file_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    path.write_text('schema = 1\nstation = "s"\ncamera = []\n')
    done = CliRunner().invoke(command, ["-c", str(path)])
    assert isinstance(done.exception, ConfigError)


def test_a_bundle_of_another_backbone_than_the_one_named_fails(tmp_path: Path) -> None:
    path = write_line(tmp_path, "synthetic://?seed=1&width=96&height=72")
    make_bundle(tmp_path / "state")
    state, text = check(path)[1]["bundle"]
    assert state == "warn" and "detection not measured: run 'edge-ad qualify'" in text
    named = write_tiny_backbone(tmp_path / "net", seed=7).sha256
    (used,) = (p.name for p in (tmp_path / "state" / "backbones").iterdir() if p.is_dir())
    state, text = check(path)[1]["bundle"]
    assert state == "fail"
    assert used[:12] in text and named[:12] in text and "--refit" in text


GATE = '[verdicts]\nconsumers = ["gate"]\n'


def test_an_outbox_that_can_be_kept_is_timed_and_one_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = write_line(tmp_path, more=GATE)
    text = path.read_text()
    path.write_text(text.replace("[[camera]]", "deadline_ms = 60_000\n[[camera]]", 1))  # any disk
    _, found = check(path)
    assert found["verdicts"][0] == "ok"
    assert "commit of a PASS" in found["verdicts"][1]
    assert not (tmp_path / "state").exists()
    assert not list(tmp_path.glob(".outbox-check-*"))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "outbox.db").write_bytes(b"no database" * 1000)
    done, found = check(path)
    assert isinstance(done.exception, CheckFailed)
    assert found["verdicts"][0] == "fail"
    assert "sets it aside" in found["verdicts"][1]
    path.write_text(text.replace("[[camera]]", "deadline_ms = 0.001\n[[camera]]", 1))
    (tmp_path / "state" / "outbox.db").unlink()
    _, found = check(path)
    assert found["verdicts"][0] == "warn"
    assert "faster disk" in found["verdicts"][1]


def test_an_outbox_of_another_version_is_named(tmp_path: Path) -> None:
    path = write_line(tmp_path, more=GATE)
    (tmp_path / "state").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "outbox.db")) as database:
        database.execute("PRAGMA user_version=9")
    done, found = check(path)
    assert isinstance(done.exception, CheckFailed)
    assert "schema version 9, this program knows 1" in found["verdicts"][1]


def test_consumers_of_a_running_daemon_are_asked_after(tmp_path: Path) -> None:
    path = write_line(tmp_path, "v4l2:///dev/video96", more=GATE)
    consumers = {"gate": {"state": "up", "depth": 3}}
    answer = {
        "pid": 7, "state": "RUNNING", "product": "default", "scores": "tcp://127.0.0.1:5570",
        "metrics": "http://127.0.0.1:9570/metrics", "cameras": {"top": {"state": "up", "age_s": 0.1}},
        "verdicts": {"consumers": consumers},
    }  # fmt: skip
    lock = StateLock(tmp_path / "state")
    server = ControlServer(f"ipc://{tmp_path}/state/control.sock", lambda command, args: dict(answer))
    server.start()
    try:
        _, found = check(path)
        consumers["gate"] = {"state": "down", "depth": 70}
        _, found_down = check(path)
    finally:
        server.close()
        lock.release()
    assert found["verdicts"] == ("ok", "gate up, 3 verdicts wait")
    assert found_down["verdicts"][0] == "warn"
    assert "start gate: its gate rejects everything" in found_down["verdicts"][1]


@pytest.mark.parametrize(
    ("camera", "trigger", "state", "words"),
    [
        ("synthetic://?width=64&height=48", "", "ok", "advisory"),
        ("synthetic://?width=64&height=48", 'kind = "message"', "ok", "trigger.sock"),
        ("synthetic://?width=64&height=48", 'kind = "line"', "ok", "16 may wait"),
        ("v4l2:///dev/video96", 'kind = "line"', "warn", "counter"),
        ("v4l2:///dev/video96", 'kind = "message"', "warn", "hardware trigger"),
        ("v4l2:///dev/video96", 'kind = "software"', "fail", "cannot be triggered"),
        (
            "synthetic://?width=64&height=48",
            'kind = "message"\nframe_ms = 900.0',
            "warn",
            "deadline_ms = 500",
        ),
    ],
)
def test_what_the_kind_of_trigger_asks_of_the_cameras(
    camera: str, trigger: str, state: str, words: str, tmp_path: Path
) -> None:
    _, found = check(write_line(tmp_path, camera, f"[trigger]\n{trigger}"))
    assert found["trigger"][0] == state
    assert words in found["trigger"][1]
