"""The daemon keeps what it did not pass, and judges on whatever the archive's disk does."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from daemon_line import BLACK, Line, good, wait_for
from encoder_processes import PATIENCE_S, encoders, patient_encoder
from tiny_bundle import make_bundle
from tiny_station import edge_ad, write_station

from edge_ad.config import Station, load_station
from edge_ad.evidence.archive import Archive
from edge_ad.evidence.entry import Entry, read_entries
from edge_ad.frame import Frame

__all__ = ["patient_encoder"]


def entries(state: Path, product: str = "default") -> list[Entry]:
    found, damaged = read_entries(state, product)
    assert damaged == []
    return found


def test_what_did_not_pass_is_kept_with_its_verdict(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s") as line:
        line.feed(good(0), BLACK, good(1))
        line.feed(Frame("top", 3, None, 1, 2, "P3", "unreadable"))
        said = [line.verdict() for _ in range(4)]
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="rejects") == 1)
        held = line.metric("edge_ad_evidence_bytes", kind="rejects")
        for reason in ("queue", "disk", "space"):
            assert line.metric("edge_ad_evidence_dropped_total", reason=reason) == 0
    (entry,) = entries(tmp_path / "s")
    assert (entry.number, entry.key, entry.verdict) == (1, "P1", "REJECT score")
    assert (entry.record.header, entry.record.body) == said[1]
    assert entry.record.pictures["top"].pixel_rule == "auto8"
    kept = cv2.imread(str(entry.path / "top.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(kept, BLACK)
    assert held == sum(file.stat().st_size for file in entry.path.iterdir())


def test_passed_parts_near_the_threshold_and_a_sample_are_kept(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s", threshold=1e6)
    near = {"near": 0.999999, "sample": 0}
    with Line(tmp_path / "s", options={"evidence": near}) as line:
        line.feed(good(0), good(1))
        scores = [body.score for _, body in (line.verdict(), line.verdict())]
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="near") == 2)
    with Line(tmp_path / "s", options={"evidence": {"near": 0.1, "sample": 2}}) as line:
        line.feed(*map(good, range(5)))
        line.verdicts(5)
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="sample") == 2)
        assert line.metric("edge_ad_evidence_bytes", kind="sample") > 0
    kept = [(entry.key, entry.record.kind, entry.verdict) for entry in entries(tmp_path / "s")]
    assert kept == [
        ("P0", "near", "PASS"), ("P1", "near", "PASS"),
        ("P1", "sample", "PASS"), ("P3", "sample", "PASS"),
    ]  # fmt: skip
    assert [entry.record.body.score for entry in entries(tmp_path / "s")][:2] == scores


def overlays(state: Path, product: str = "default") -> list[list[str]]:
    """Names by entry, as the records and the disk have them alike."""
    found = []
    for entry in entries(state, product):
        found.append(sorted(file.name for file in entry.path.glob("*.jpg")))
        assert sorted(entry.record.overlays.values()) == found[-1]
    return found


def test_two_cameras_are_kept_under_their_maps_as_well(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s", cameras=("top", "side"), profile="default")
    spoilt = good(1).copy()
    spoilt[20:44, 60:84] = 0
    with Line(tmp_path / "s", cameras=("top", "side")) as line:
        line.feed(good(0))
        line.feed(spoilt, camera="side")
        assert line.verdicts(1) == ["REJECT score"]
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="rejects") == 1)
        held = line.metric("edge_ad_evidence_bytes", kind="rejects")
        for reason in ("queue", "drawing"):
            assert line.metric("edge_ad_evidence_overlays_dropped_total", reason=reason) == 0
    assert overlays(tmp_path / "s") == [["side.overlay.jpg", "top.overlay.jpg"]]
    (entry,) = entries(tmp_path / "s")
    assert held == sum(file.stat().st_size for file in entry.path.iterdir())
    change = {
        name: np.abs(cv2.imread(str(entry.path / f"{name}.overlay.jpg")).astype(int) - image[..., None])
        for name, image in (("top", good(0)), ("side", spoilt))
    }
    assert change["side"][24:40, 64:80].mean() > 2 * change["top"][24:40, 64:80].mean()


def test_what_encodes_gives_way_and_goes_with_the_daemon(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s", profile="default")

    with Line(tmp_path / "s") as line:
        (one,) = encoders()
        for number in range(2):
            line.feed(BLACK)
            assert line.verdicts(1) == ["REJECT score"]
            wait_for(
                lambda n=number: (  # type: ignore[misc]
                    line.metric("edge_ad_evidence_parts_total", kind="rejects") == n + 1
                )
            )
        assert encoders() == [one]
        assert (os.sched_getscheduler(one.pid), one.nice()) == (os.SCHED_IDLE, 19)
    one.wait(PATIENCE_S)
    assert overlays(tmp_path / "s") == [["top.overlay.jpg"]] * 2


def test_who_keeps_no_pictures_has_no_process_for_them(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s", options={"evidence": {"keep": "none"}}) as line:
        line.feed(BLACK)
        assert line.verdicts(1) == ["REJECT score"]
        assert encoders() == []


def test_a_bundle_without_maps_keeps_none(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s") as line:
        line.feed(BLACK)
        assert line.verdicts(1) == ["REJECT score"]
    assert overlays(tmp_path / "s") == [[]]


def test_a_part_that_waits_through_a_changeover_is_drawn_by_the_bundle_that_judged_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(tmp_path / "s", product="maps", profile="default")
    make_bundle(tmp_path / "s", product="none")
    release, write = threading.Event(), Archive.write

    def hang(self: Archive, *args: Any) -> Path:
        release.wait(60)
        return write(self, *args)

    monkeypatch.setattr(Archive, "write", hang)
    with Line(tmp_path / "s", options={"product": "maps", "products": ["none"]}) as line:
        line.feed(BLACK, BLACK)
        assert line.verdicts(2) == ["REJECT score"] * 2
        assert line.daemon.change_product("none").result(20)["product"] == "none"
        line.feed(BLACK)
        assert line.verdicts(1) == ["REJECT score"]
        wait_for(lambda: line.daemon.evidence._queue.qsize() == 2)
        release.set()
    assert overlays(tmp_path / "s", "maps") == [["top.overlay.jpg"]] * 2
    assert overlays(tmp_path / "s", "none") == [[]]


def test_numbers_go_on_and_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    for round_ in range(2):
        with Line(tmp_path / "s", options={"evidence": {"queue": 64}}) as line:
            line.feed(*[BLACK] * 10)
            assert set(line.verdicts(10)) == {"REJECT score"}
        assert [entry.number for entry in entries(tmp_path / "s")] == list(range(1, 11 + 10 * round_))


def test_without_a_bundle_nothing_is_evidence(tmp_path: Path) -> None:
    with Line(tmp_path / "s") as line:
        line.feed(good(0), BLACK)
        assert line.verdicts(2) == ["FAULT uncalibrated"] * 2
    assert entries(tmp_path / "s") == []


def test_a_part_that_one_camera_missed_is_kept_as_far_as_it_was_seen(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s", cameras=("top", "side"))
    with Line(tmp_path / "s", cameras=("top", "side"), live=True, options={"join_ms": 50.0}) as line:
        line.feed(good(0), camera="top")
        line.feed(BLACK, camera="side")
        assert line.verdicts(1) == ["REJECT score"]
        line.feed(good(1), camera="side")
        assert line.verdicts(1) == ["FAULT missing_view"]
    both, one = entries(tmp_path / "s")
    assert sorted(both.record.pictures) == ["side", "top"]
    assert both.record.body.view == "side"
    assert (sorted(one.record.pictures), one.verdict) == (["side"], "FAULT missing_view")


def test_verdicts_go_on_while_the_disk_refuses(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    (tmp_path / "s" / "evidence").write_text("no directory")
    with Line(tmp_path / "s") as line:
        line.feed(BLACK, good(0), BLACK)
        assert line.verdicts(3) == ["REJECT score", "PASS", "REJECT score"]
        wait_for(lambda: line.metric("edge_ad_evidence_dropped_total", reason="disk") == 2)
        assert line.metric("edge_ad_evidence_parts_total", kind="rejects") == 0


def test_evidence_that_a_person_removed_is_begun_anew(tmp_path: Path) -> None:
    """As who is told that the disk is full may do; numbers are not given twice for it."""
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s") as line:
        line.feed(BLACK)
        line.verdicts(1)
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="rejects") == 1)
        shutil.rmtree(tmp_path / "s" / "evidence")
        wait_for(lambda: line.metric("edge_ad_score_log_parts_total") == 1)
        shutil.rmtree(tmp_path / "s" / "scores")
        for name, labels in (("evidence", {"kind": "rejects"}), ("score_log", {})):
            while line.metric(f"edge_ad_{name}_parts_total", **labels) == 1:
                line.feed(BLACK)
                line.verdicts(1)
                time.sleep(0.02)
    numbers = [entry.number for entry in entries(tmp_path / "s")]
    assert numbers and min(numbers) > 1


def test_verdicts_go_on_while_the_disk_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path / "s")
    release = threading.Event()
    write = Archive.write

    def hang(
        self: Archive, number: int, product: str, key: str, files: Mapping[str, bytes], kind: str
    ) -> Path:
        release.wait(60)
        return write(self, number, product, key, files, kind)

    monkeypatch.setattr(Archive, "write", hang)
    with Line(tmp_path / "s", options={"evidence": {"queue": 2}}) as line:
        line.feed(BLACK)
        line.verdicts(1)
        wait_for(lambda: line.daemon.evidence._queue.qsize() == 0)
        line.feed(*[BLACK] * 5)
        assert set(line.verdicts(5)) == {"REJECT score"}
        wait_for(lambda: line.metric("edge_ad_evidence_dropped_total", reason="queue") == 3)
        release.set()
    assert len(entries(tmp_path / "s")) == 3


def test_a_reload_takes_other_settings_over(tmp_path: Path) -> None:
    def reconfigured(extra: str) -> Station:
        write_station(tmp_path, "folder:///nowhere")
        line = tmp_path / "line.toml"
        line.write_text(line.read_text() + extra)
        return load_station(line)

    station = reconfigured("")
    make_bundle(station.state_path, product="disc")
    line = Line(station.state_path)
    line.daemon.station = station
    line.station = station
    with line:
        line.feed(*[BLACK] * 4)
        line.verdicts(4)
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="rejects") == 4)
        held = line.metric("edge_ad_evidence_bytes", kind="rejects")
        assert held is not None
        reconfigured(f'keep = "none"\nmax_megabytes = {0.6 * held / 1e6:.9f}\n')
        assert line.daemon.reload().result(30)["state"] == "RUNNING"
        wait_for(lambda: line.metric("edge_ad_evidence_evicted_total", kind="rejects") == 2)
        line.feed(BLACK)
        line.verdicts(1)
    assert [entry.number for entry in entries(station.state_path, "disc")] == [3, 4]


def test_the_list_shows_them_to_people_and_programs(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    empty = edge_ad("evidence", "list", "-c", station.path)
    assert (empty.returncode, "no evidence of product 'disc'" in empty.stdout) == (0, True)
    make_bundle(station.state_path, product="ring")
    with Line(station.state_path, options={"product": "ring"}) as line:
        line.feed(BLACK, good(0), BLACK)
        line.verdicts(3)
    arguments = ("evidence", "list", "-c", station.path, "--product", "ring")
    lines = [json.loads(one) for one in edge_ad(*arguments, "--json").stdout.splitlines()]
    assert [(one["number"], one["key"], one["verdict"], one["reason"]) for one in lines] == [
        (1, "P0", "REJECT", "score"), (2, "P2", "REJECT", "score"),
    ]  # fmt: skip
    assert lines[0]["score"] > lines[0]["threshold"]
    assert lines[0]["cameras"] == ["top"]
    shown = edge_ad(*arguments).stdout
    assert all(word in shown for word in ("no.", "P0", "P2", "REJECT", "score"))
    assert f"{lines[0]['score'] / lines[0]['threshold']:.2f}" in shown
    (Path(lines[0]["path"]) / "verdict.json").write_text("{")
    damaged = edge_ad(*arguments)
    assert "000001-P0/verdict.json: is no verdict" in damaged.stderr
    assert "P2" in damaged.stdout
