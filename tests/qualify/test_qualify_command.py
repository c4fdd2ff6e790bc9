"""`edge-ad qualify` as a person calls it: exit codes, JSON, a running daemon that exports it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tiny_station import ENTRY, edge_ad, part_image, write_parts, write_station

from edge_ad.bundle import current_path, open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.config import Station
from edge_ad.daemon.loading import build_inspector
from edge_ad.daemon.readings import describe
from edge_ad.delivery.control import ControlClient
from edge_ad.metrics import Metrics
from edge_ad.qualify.statistics import lower_bound

KEY = "openvino-f32"


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """Calibrated on 40 parts; beside it nine parts with a hole and one whose defect nobody sees."""
    directory = tmp_path_factory.mktemp("line")
    station = write_station(directory)
    write_parts(directory / "good", 40)
    write_parts(directory / "line", 3, first=50)
    calibrate(station, Request(directory=directory / "good"))
    for number in range(9):
        image = part_image(500 + number)
        image[10:30, 20:44] = 255
        (directory / "bad" / "hole").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(directory / "bad" / "hole" / f"{number}.png"), image)
    write_parts(directory / "bad" / "[faint]", 1, first=600)
    return station


def place(station: Station) -> Path:
    return Path(station.path).parent


def series(station: Station) -> str:
    """What a scrape would say of the bundle at hand."""
    metrics = Metrics(CollectorRegistry(), 500.0)
    inspector = build_inspector(station)
    assert inspector is not None

    class Active:
        def __init__(self) -> None:
            self.inspector = inspector

    describe(metrics, Active())  # type: ignore[arg-type]
    inspector.close()
    return generate_latest(metrics.registry).decode()


def test_result_exit_codes_and_where_it_is_shown(station: Station) -> None:
    bad, out = place(station) / "bad", place(station) / "out.json"
    assert "edge_ad_detection_ratio{" not in series(station)
    done = edge_ad("qualify", "-c", station.path, "--bad", bad, "--json", out)
    assert (done.returncode, done.stderr.count("edge-ad:")) == (0, 0), done.stderr
    assert "[faint]" in done.stdout  # a name that rich would take for markup
    assert "10 known-bad parts of 2 kinds: 90 % detected, at least 60.5 %" in done.stdout
    assert "no daemon is running here" in done.stdout
    data = json.loads(out.read_text())
    assert (data["ok"], data["below"]) == (True, [])
    assert data["qualification"]["engines"][KEY]["kinds"]["hole"]["detected"] == 9
    # The gate is shut by a kind, not by the mean, and the result is kept all the same.
    gate = ("qualify", "-c", station.path, "--bad", bad, "--min-detection")
    done = edge_ad(*gate, "0.5", "--json")
    assert done.returncode == 1
    assert "--min-detection 50 %: [faint] 0 % (0 of 1);" in done.stderr.splitlines()[-1]
    assert json.loads(done.stdout)["below"] == ["[faint]"]
    path = current_path(station.state_path, station.product)
    assert path is not None
    assert open_bundle(path).detection.engines[KEY].overall.parts == 10
    text = edge_ad("bundle", "show", "-c", station.path).stdout
    assert "hole: 9 parts: 100 % detected, at least 71.6 % with 95 % confidence" in text
    shown = json.loads(edge_ad("bundle", "show", "-c", station.path, "--json").stdout)
    assert shown["detection"][KEY]["kinds"]["hole"]["detected"] == 9
    assert len(shown["qualification"][KEY]["parts"]) == 10
    (row,) = json.loads(edge_ad("bundle", "list", "-c", station.path, "--json").stdout)
    assert row["detection"][KEY]["overall"]["confident"] == pytest.approx(lower_bound(9, 10))
    found = edge_ad("check", "-c", station.path).stdout
    assert "90 % detected" in next(line for line in found.splitlines() if " bundle " in line)
    page = series(station)
    assert 'edge_ad_detection_ratio{bound="measured",kind="hole"} 1.0' in page
    assert 'edge_ad_detection_ratio{bound="measured",kind=""} 0.9' in page
    assert f'edge_ad_detection_ratio{{bound="confident",kind="hole"}} {lower_bound(9, 9)}' in page
    assert 'edge_ad_detection_parts{kind="[faint]"} 1.0' in page


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--bad", "none"], 4, "no such directory"),
        (["--bad", "line", "--bundle", "nope"], 3, "no bundle here"),
        (["--bad", "line", "--min-detection", "1.5"], 2, "1.5"),
        (["--bad", "line", "--min-detection", "nan"], 2, "nan"),
        ([], 2, "--bad"),
    ],
)
def test_wrong_use_ends_in_words(station: Station, options: list[str], code: int, message: str) -> None:
    done = subprocess.run(
        [*ENTRY, "qualify", "-c", "line.toml", *options],
        cwd=place(station), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_running_daemon_exports_it(tmp_path: Path) -> None:
    station = write_station(tmp_path, "synthetic://?seed=3&width=64&height=48&defect_rate=0&fps=20")
    write_parts(tmp_path / "good", 30)
    calibrate(station, Request(directory=tmp_path / "good"))
    for number in range(3):
        image = np.full((48, 64), 255 - number, np.uint8)
        (tmp_path / "bad").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "bad" / f"{number}.png"), image)
    daemon = subprocess.Popen([*ENTRY, "run", "-c", station.path], stderr=subprocess.PIPE, text=True)
    try:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            if "RUNNING" in line:
                break
        with ControlClient(station.control_endpoint) as client:
            url = client.request("status")["metrics"]

        def scrape() -> str:
            with urlopen(url, timeout=10) as answer:
                return str(answer.read().decode())

        assert "edge_ad_detection_ratio{" not in scrape()
        done = edge_ad("qualify", "-c", station.path, "--bad", tmp_path / "bad")
        assert done.returncode == 0, done.stderr
        assert f"the daemon with pid {daemon.pid} has taken it (RUNNING)" in done.stdout
        assert 'edge_ad_detection_ratio{bound="measured",kind="defect"} 1.0' in scrape()
        assert 'edge_ad_detection_parts{kind=""} 3.0' in scrape()
    finally:
        daemon.terminate()
        daemon.communicate(timeout=60)
