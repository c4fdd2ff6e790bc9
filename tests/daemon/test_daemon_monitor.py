"""The daemon watches its own inspection: it warns, judges on, and passes nothing that it cannot see."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from daemon_line import BLACK, Line, good, wait_for
from tiny_bundle import HEIGHT, WIDTH, make_bundle
from tiny_station import write_station

from edge_ad.audit import Event, read_events
from edge_ad.config import load_station
from edge_ad.frame import Image

QUICK = {"monitor": {"sample_ms": 10.0, "rejects_in_row": 4, "reject_window": 10}}


def on_record(state: Path, what: str) -> list[Event]:
    return [event for event in read_events(state)[0] if event.what == what]


def darker(index: int) -> Image:
    return np.asarray(cv2.convertScaleAbs(good(index), alpha=0.7), np.uint8)


def moved(index: int) -> Image:
    by = np.array([[1, 0, 0.05 * WIDTH], [0, 1, 0]], np.float64)
    return np.asarray(
        cv2.warpAffine(good(index), by, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def drift(line: Line, statistic: str, camera: str = "top") -> float:
    found = line.metric("edge_ad_drift_ratio", camera=camera, statistic=statistic)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("change", "statistic", "way"), [(darker, "grey", "lower"), (moved, "x", "higher")]
)
def test_light_and_place_that_changed_are_told_and_change_no_threshold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: object, statistic: str, way: str
) -> None:
    caplog.set_level(logging.INFO, "edge_ad")
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s", options=QUICK) as line:
        threshold = line.metric("edge_ad_threshold")
        line.feed(*(good(1000 + i) for i in range(20)))
        assert line.verdicts(20).count("PASS") >= 17
        assert drift(line, statistic) < 1
        index = 0
        while drift(line, statistic) < 1:
            line.feed(change(2000 + index))  # type: ignore[operator]
            line.verdict()
            index += 1
            assert index < 2000
        wait_for(lambda: any("drift:" in text for text in caplog.messages))
        alarms = line.metric("edge_ad_drift_alarms_total", camera="top", statistic=statistic)
        assert alarms == 1
        assert line.metric("edge_ad_threshold") == threshold
        assert line.metric("edge_ad_picture", camera="top", statistic=statistic)
    told = f"drift: {statistic} of camera top is {way}"
    assert [text for text in caplog.messages if text.startswith(told)]


def test_scores_that_rise_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge_ad")
    make_bundle(tmp_path / "s", threshold=1e6)
    with Line(tmp_path / "s", options={"monitor": {"sample_ms": 60_000.0}}) as line:
        line.feed(*(darker(i) for i in range(30)))
        assert line.verdicts(30) == ["PASS"] * 30
        wait_for(lambda: drift(line, "score", "") == 1.0)
        wait_for(lambda: drift(line, "distance_level1", "") == 1.0)
    assert any(text.startswith("drift: score is higher") for text in caplog.messages)


def test_another_product_is_so_many_rejects_in_a_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edge_ad")
    make_bundle(tmp_path / "s")
    other = np.random.default_rng(0).integers(0, 255, (10, HEIGHT, WIDTH)).astype(np.uint8)
    with Line(tmp_path / "s", options=QUICK) as line:
        line.feed(*other[:3])
        assert line.verdicts(3) == ["REJECT score"] * 3
        assert line.metric("edge_ad_rejects_alarm", kind="row") == 0
        line.feed(*other)
        assert line.verdicts(10) == ["REJECT score"] * 10
        wait_for(lambda: line.metric("edge_ad_rejects_in_row") == 13)
        assert line.metric("edge_ad_rejects_alarm", kind="row") == 1
        assert line.metric("edge_ad_rejects_alarm", kind="share") == 1
        line.feed(good(0))
        assert line.verdicts(1) == ["PASS"]
        wait_for(lambda: line.metric("edge_ad_rejects_alarm", kind="row") == 0)
    told = [text for text in caplog.messages if text.startswith("rejects: 4 parts in a row")]
    assert len(told) == 1


def test_pictures_that_cannot_be_of_a_part_are_fault(tmp_path: Path) -> None:
    """A threshold that passes all: what is refused is refused before it is scored."""
    make_bundle(tmp_path / "s", threshold=1e9)
    white = np.full((HEIGHT, WIDTH), 255, np.uint8)
    defaults = {"dark": 8, "bright": 248, "frozen": "auto"}
    with Line(tmp_path / "s", live=True, camera_options={**defaults, "queue": 16}) as line:
        line.feed(good(0), BLACK, good(1), white, good(2), good(2), good(2), good(3))
        assert line.verdicts(8) == [
            "PASS", "FAULT dark", "PASS", "FAULT saturated", "PASS", "FAULT frozen", "FAULT frozen",
            "PASS",
        ]  # fmt: skip
        assert line.metric("edge_ad_parts_total", verdict="FAULT", reason="frozen") == 2
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="rejects") == 4)


def test_a_reload_changes_what_is_watched_and_is_on_record(tmp_path: Path) -> None:
    station = write_station(tmp_path, uri="fake://", extra="dark = 0\nbright = 255")
    make_bundle(station.state_path, product="disc")
    file = Path(station.path)
    with Line(station.state_path, options={"product": "disc"}) as line:
        line.daemon.station = load_station(file)
        line.daemon.beside.note_config(line.daemon.station, {})
        line.daemon.beside.records.submit(lambda: None).result(10)
        line.feed(*[BLACK] * 5)
        line.verdicts(5)
        wait_for(lambda: line.metric("edge_ad_rejects_alarm", kind="row") == 1)
        file.write_text(file.read_text() + "[monitor]\nrejects_in_row = 50\n")
        line.control.request("reload", timeout_s=30, who="ana", reason="noisy")
        assert line.metric("edge_ad_rejects_alarm", kind="row") == 0
        line.control.request("reload", timeout_s=30)
    wait_for(lambda: len(on_record(station.state_path, "config")) == 2)
    first, second = on_record(station.state_path, "config")
    assert set(first.detail) == {"file", "sha256"}
    assert second.detail["monitor.rejects_in_row"] == "5 -> 50"
    assert (second.who, second.reason) == ("ana", "noisy")


def test_what_was_changed_in_the_station_file_while_nothing_ran_is_on_record(tmp_path: Path) -> None:
    station = write_station(tmp_path, uri="fake://", extra="dark = 0")
    file, state = Path(station.path), station.state_path

    def run() -> None:
        with Line(state, options={"product": "disc"}) as line:
            line.daemon.station = load_station(file)
            before = len(on_record(state, "config"))
            line.daemon.beside.note_config(line.daemon.station)
            line.daemon.beside.records.submit(lambda: None).result(10)
            told.append(len(on_record(state, "config")) - before)

    told: list[int] = []
    run()
    run()
    file.write_text(file.read_text().replace("fake://", "rtsp://me:secret@10.0.0.9/1"))
    run()
    assert told == [1, 0, 1]
    detail = on_record(state, "config")[1].detail
    assert detail["camera[0].uri"] == "fake:// -> rtsp://***@10.0.0.9/1"
    assert "secret" not in (state / "audit.jsonl").read_text()


def test_a_bundle_that_was_put_in_use_by_hand_is_on_record(tmp_path: Path) -> None:
    station = write_station(tmp_path, uri="fake://", extra="dark = 0\nbright = 255")
    names = [make_bundle(station.state_path, product="disc", name=name).name for name in ("b1", "b2")]
    with Line(station.state_path, options={"product": "disc"}) as line:
        line.daemon.station = load_station(Path(station.path))
        wait_for(lambda: len(on_record(station.state_path, "in use")) == 1)
        line.control.request("reload", timeout_s=30)  # the same
        current = station.state_path / "bundles" / "disc" / "current"
        current.unlink()
        current.symlink_to(names[0])
        line.control.request("reload", timeout_s=30)
        wait_for(lambda: len(on_record(station.state_path, "in use")) == 2)
    found = [(event.product, event.detail) for event in on_record(station.state_path, "in use")]
    assert found == [
        ("disc", {"bundle": names[1], "on record": "none"}),
        ("disc", {"bundle": names[0], "on record": names[1]}),
    ]


def test_a_bundle_that_knows_nothing_of_its_good_parts_is_not_watched(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s", options={"monitor": {"drift_parts": 0, "sample_ms": 10.0}}) as line:
        line.feed(*(darker(i) for i in range(20)))
        line.verdicts(20)
        assert line.metric("edge_ad_drift_ratio", camera="top", statistic="grey") is None
        assert not line.daemon.beside.monitor.wants
