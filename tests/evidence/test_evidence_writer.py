"""The evidence thread: what it keeps, what it sheds, and that nobody waits for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from encoder_processes import encoders, patient_encoder
from made_up_evidence import PASS, PATIENCE_S, REJECT, frames, outcome, picture, settings

from edge_ad.bundle import ViewRule
from edge_ad.config import Evidence
from edge_ad.evidence.archive import Archive
from edge_ad.evidence.entry import REJECTS, read_entries
from edge_ad.evidence.writer import EvidenceWriter
from edge_ad.frame import Frame
from edge_ad.report.heat import PartDrawer
from edge_ad.verdict import Decision, Maps, Reason, Verdict, fault

__all__ = ["patient_encoder"]
RULES = {"top": lambda: "top-rule", "side": lambda: "side-rule"}


class Told(list[str]):
    def __call__(self, level: str, text: str) -> None:
        self.append(f"{level}: {text}")


def writer(
    state: Path,
    limits: Evidence | None = None,
    told: Told | None = None,
    archive: Archive | None = None,
) -> EvidenceWriter:
    told = Told() if told is None else told
    return EvidenceWriter(state, limits or settings(), "line1", "e1", RULES, told, archive)


def keys(state: Path) -> list[str]:
    entries, damaged = read_entries(state, "disc")
    assert damaged == []
    return [entry.key for entry in entries]


def test_an_entry_is_the_pictures_and_the_verdict(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.start()
    grey, colour = picture(1), picture(2, colour=True)
    one.offer(frames(grey, colour), outcome(key="a/b 7"))
    one.close(PATIENCE_S)
    (entry,), _ = read_entries(tmp_path, "disc")
    assert entry.path == tmp_path / "evidence" / "disc" / "000001-a_b_7"
    record = entry.record
    assert (record.number, record.header.part, record.header.station) == (1, "a/b 7", "line1")
    assert (record.header.epoch, record.header.product, record.header.bundle) == (
        "e1",
        "disc",
        "ab" * 32,
    )
    assert (record.body.verdict, record.body.reason) == ("REJECT", "score")
    assert (record.body.score, record.body.threshold, record.body.box) == (3.0, 2.0, (0, 0, 8, 6))
    assert record.body.findings is not None
    assert record.body.findings[0].zone == "seal"
    assert record.cameras == ["top"]
    for camera, image in (("top", grey), ("side", colour)):
        kept = record.pictures[camera]
        assert (kept.pixel_rule, kept.shape[:2]) == (f"{camera}-rule", (24, 32))
        read = cv2.imread(str(entry.path / kept.file), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read, image)
    assert (one.kept["rejects"], one.archive.size) == (
        1,
        sum(f.stat().st_size for f in entry.path.iterdir()),
    )


def test_only_parts_that_were_looked_at_and_did_not_pass_are_kept(tmp_path: Path) -> None:
    one = writer(tmp_path, settings(queue=len(Reason) + 2))
    one.start()
    one.offer(frames(picture(0)), outcome(PASS, "good"))
    for reason in Reason:
        if reason not in (Reason.NONE, Reason.SCORE):
            one.offer(frames(picture(0)), outcome(reason, reason.value))
    one.offer(frames(None, picture(1)), outcome(Reason.MISSING_VIEW, "side only"))
    unreadable = Frame("top", 0, None, 1, 2, fault="unreadable")
    one.offer([unreadable], outcome(Reason.UNREADABLE, "nothing to see"))
    one.close(PATIENCE_S)
    never = {
        "uncalibrated",
        "calibrating",
        "unknown_product",
        "changeover",
        "stopped",
        "overflow",
        "challenge",
        "not_kept",
    }
    every = {reason.value for reason in Reason} - {"", "score"}
    assert set(keys(tmp_path)) == (every - never) | {"side only"}
    assert sum(one.dropped.values()) == 0


def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    one = writer(tmp_path, settings(queue=3))
    for i in range(5):  # the thread has not been started
        one.offer(frames(picture(i)), outcome(key=f"P{i}"))
    assert one.dropped == {"queue": 2, "disk": 0, "space": 0, "passed": 0}
    one.start()
    one.close(PATIENCE_S)
    assert keys(tmp_path) == ["P0", "P1", "P2"]


def test_pictures_that_wait_take_no_more_memory_than_they_may(tmp_path: Path) -> None:
    size = 24 * 32
    one = writer(tmp_path, settings(near=0.1, queue_megabytes=5.5 * size / 1e6))
    for i in range(4):  # the thread has not been started
        one.offer(frames(picture(i)), outcome(passed(1.9), f"P{i}"))
    one.offer(frames(picture(4), picture(5, colour=True)), outcome(key="R4"))
    for i in range(5, 9):
        one.offer(frames(picture(i)), outcome(key=f"R{i}"))
    assert one.dropped == {"queue": 2, "disk": 0, "space": 0, "passed": 2}
    one.start()
    wait_until(lambda: sum(one.kept.values()) == 5)
    one.configure(settings(queue=1, queue_megabytes=5.5 * size / 1e6))  # is no part that waits
    one.offer(frames(picture(9, colour=True), picture(10, colour=True)), outcome(key="larger than all"))
    one.close(PATIENCE_S)
    assert keys(tmp_path) == ["P0", "P1", "R5", "R6", "R7", "larger than all"]
    assert one._put == one._taken and one._put.size == 11 * size


def test_a_disk_that_refuses_is_counted_and_told_once(tmp_path: Path) -> None:
    told = Told()
    (tmp_path / "evidence").write_text("a file where the directory should be")
    one = writer(tmp_path, told=told)
    one.start()
    for i in range(3):
        one.offer(frames(picture(i)), outcome(key=f"P{i}"))
    wait_until(lambda: one.dropped["disk"] == 3)
    assert len(told) == 1
    assert str(tmp_path / "evidence") in told[0]
    assert "parts are judged as before" in told[0]
    (tmp_path / "evidence").unlink()
    one.offer(frames(picture(4)), outcome(key="P4"))
    one.close(PATIENCE_S)
    assert keys(tmp_path) == ["P4"]
    assert one.kept["rejects"] == 1


def test_what_has_no_room_is_shed_and_counted(tmp_path: Path) -> None:
    told = Told()
    one = writer(tmp_path, settings(max_megabytes=0.0001), told)
    one.start()
    for i in range(2):
        one.offer(frames(picture(i)), outcome(key=f"P{i}"))
    one.close(PATIENCE_S)
    assert one.dropped == {"queue": 0, "disk": 0, "space": 2, "passed": 0}
    assert keys(tmp_path) == []
    assert len(told) == 1
    assert "evidence.max_megabytes" in told[0]


def test_other_settings_hold_at_once(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.start()
    for i in range(4):
        one.offer(frames(picture(i)), outcome(key=f"P{i}"))
        wait_until(lambda i=i: one.kept["rejects"] == i + 1)  # type: ignore[misc]
    one.configure(settings(max_megabytes=2.5 * one.archive.size / 4 / 1e6))
    wait_until(lambda: one.archive.evicted["rejects"] == 2)
    one.configure(settings(keep="none"))
    one.offer(frames(picture(9)), outcome(key="P9"))
    one.close(PATIENCE_S)
    assert keys(tmp_path) == ["P2", "P3"]


def test_closing_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    stuck, release = threading.Event(), threading.Event()

    class Slow(Archive):
        def write(
            self, number: int, product: str, key: str, files: Mapping[str, bytes], kind: str = REJECTS
        ) -> Path:
            stuck.set()
            release.wait(60)
            return super().write(number, product, key, files, kind)

    told = Told()
    one = writer(tmp_path, told=told, archive=Slow(tmp_path))
    one.start()
    for i in range(3):
        one.offer(frames(picture(i)), outcome(key=f"P{i}"))
    assert stuck.wait(60)
    before = time.monotonic()
    one.close(timeout_s=0.1)
    assert time.monotonic() - before < 2
    assert told == ["warning: evidence: 2 parts not written within 0.1 s, one is being written"]
    assert one.dropped["queue"] == 2
    release.set()
    one._thread.join(60)
    assert keys(tmp_path) == ["P0"]


@pytest.mark.parametrize("verdict", [PASS, Reason.CALIBRATING])
def test_what_is_not_kept_does_not_even_ask_for_the_pixel_rule(tmp_path: Path, verdict: object) -> None:
    def never() -> str:
        raise AssertionError("top")

    one = EvidenceWriter(tmp_path, settings(), "line1", "e1", {"top": never}, Told())
    one.offer(frames(picture(0)), outcome(verdict))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="top"):
        one.offer(frames(picture(0)), outcome(REJECT))


def wait_until(condition: object, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def passed(score: float, threshold: float = 2.0) -> Verdict:
    return Verdict(Decision.PASS, Reason.NONE, score, threshold, "top")


def test_passed_parts_near_the_threshold_are_kept_whatever_its_sign(tmp_path: Path) -> None:
    one = writer(tmp_path, settings(near=0.1, queue=32))
    one.start()
    for key, verdict in {
        "far": passed(1.79), "near": passed(1.81), "at": passed(2.0), "excused": passed(2.4),
        "far below": passed(-2.3, -2.0), "near below": passed(-2.1, -2.0),
    }.items():  # fmt: skip
        one.offer(frames(picture(0)), outcome(verdict, key))
    one.close(PATIENCE_S)
    assert keys(tmp_path) == ["near", "at", "excused", "near below"]
    (entry, *_), _ = read_entries(tmp_path, "disc")
    assert (entry.record.kind, entry.verdict, entry.record.body.score) == ("near", "PASS", 1.81)
    assert one.kept == {"sample": 0, "near": 4, "rejects": 0}


def test_one_in_so_many_of_the_other_passed_parts_is_kept(tmp_path: Path) -> None:
    one = writer(tmp_path, settings(near=0.1, sample=3, queue=32))
    one.start()
    for number in range(8):
        one.offer(frames(picture(0)), outcome(passed(1.9 if number == 1 else 1.0), f"P{number}"))
        one.offer(frames(picture(0)), outcome(REJECT, f"R{number}")) if number == 4 else None
    one.close(PATIENCE_S)
    entries, _ = read_entries(tmp_path, "disc")
    assert [(entry.key, entry.record.kind) for entry in entries] == [
        ("P1", "near"), ("P3", "sample"), ("R4", "rejects"), ("P6", "sample"),
    ]  # fmt: skip


def test_passed_parts_leave_half_of_the_queue_to_those_that_did_not(tmp_path: Path) -> None:
    one = writer(tmp_path, settings(near=0.1, queue=4))
    for number in range(3):  # the thread has not been started
        one.offer(frames(picture(0)), outcome(passed(1.9), f"P{number}"))
    for number in range(3):
        one.offer(frames(picture(0)), outcome(REJECT, f"R{number}"))
    assert one.dropped == {"queue": 1, "disk": 0, "space": 0, "passed": 1}
    one.start()
    one.close(PATIENCE_S)
    assert keys(tmp_path) == ["P0", "P1", "R0", "R1"]


def test_a_quota_too_small_for_passed_parts_is_told_once_and_no_alarm(tmp_path: Path) -> None:
    told = Told()
    one = writer(tmp_path, settings(near=0.1, near_megabytes=0.0001), told)
    one.start()
    for number in range(3):
        one.offer(frames(picture(0)), outcome(passed(1.9)))
        one.offer(frames(picture(0)), outcome(REJECT, f"R{number}"))
        wait_until(lambda n=number: one.kept["rejects"] == n + 1)  # type: ignore[misc]
    one.close(PATIENCE_S)
    assert one.dropped == {"queue": 0, "disk": 0, "space": 0, "passed": 3}
    assert len(told) == 1 and "evidence.near_megabytes" in told[0]


WHOLE = ViewRule(name="top", camera="top")
SPOT = np.zeros((2, 2), np.float32)
SPOT[0, 1] = 9.0


def drawer(*views: ViewRule) -> PartDrawer:
    cameras = tuple(dict.fromkeys(view.camera for view in views))
    return PartDrawer(cameras, views, {})


def offer_drawn(
    one: EvidenceWriter, key: str, verdict: Verdict = REJECT, draws: PartDrawer | None = None
) -> None:
    draws = drawer(WHOLE) if draws is None else draws
    verdict = replace(verdict, poses=(None,) * len(draws.cameras))
    maps = (SPOT,) * len(draws.views)
    images = [np.full((24, 32), 90, np.uint8)] * len(draws.cameras)
    one.offer(frames(*images), outcome(verdict, key), lambda: maps, draws)


def heat(path: Path) -> np.ndarray:
    """By pixel how much a frame of 90s has changed."""
    drawn = cv2.imread(str(path))
    assert drawn.shape == (24, 32, 3)
    return np.asarray(np.abs(drawn.astype(int) - 90).sum(axis=2))


def test_beside_each_picture_lies_the_same_under_its_map(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.start()
    offer_drawn(one, "both", draws=drawer(WHOLE, ViewRule(name="side", camera="side")))
    one.close(PATIENCE_S)
    (entry,), _ = read_entries(tmp_path, "disc")
    assert entry.record.overlays == {"top": "top.overlay.jpg", "side": "side.overlay.jpg"}
    for camera, file in entry.record.overlays.items():
        change = heat(entry.path / file)
        assert change[:8, 22:].mean() > 8 * change[16:, :10].mean()
        kept = cv2.imread(str(entry.path / entry.record.pictures[camera].file), cv2.IMREAD_UNCHANGED)
        assert (kept == 90).all()
    assert len(list(entry.path.iterdir())) == 5
    assert one.archive.size == sum(file.stat().st_size for file in entry.path.iterdir())
    reopened = Archive(tmp_path)
    reopened.open()
    assert reopened.size == one.archive.size


def test_a_fault_has_no_map_and_nobody_gets_one_who_asks_for_none(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.start()
    offer_drawn(one, "late", fault(Reason.LATE))
    one.offer(frames(picture(0)), outcome(key="paper"))
    wait_until(lambda: one.kept["rejects"] == 2)
    one.configure(settings(overlay=False))
    offer_drawn(one, "off")
    wait_until(lambda: one.kept["rejects"] == 3)
    one.configure(settings())
    offer_drawn(one, "on")
    one.close(PATIENCE_S)
    entries, _ = read_entries(tmp_path, "disc")
    drawn = {entry.key: len(list(entry.path.glob("*.jpg"))) for entry in entries}
    assert drawn == {"late": 0, "paper": 0, "off": 0, "on": 1}
    assert one.undrawn == {"queue": 0, "drawing": 0}


def test_a_map_that_cannot_be_drawn_costs_no_picture_and_is_told_once(tmp_path: Path) -> None:
    def damaged() -> Maps:
        raise ValueError("no such position")

    told = Told()
    one = writer(tmp_path, told=told)
    one.start()
    verdict = replace(REJECT, poses=(None,))
    for number in range(2):
        one.offer(frames(picture(number)), outcome(verdict, f"P{number}"), damaged, drawer(WHOLE))
    beyond = ViewRule(name="top", camera="top", roi=(0, 0, 33, 24))
    offer_drawn(one, "P2", draws=drawer(beyond))
    wait_until(lambda: one.kept["rejects"] == 3)
    assert one.undrawn == {"queue": 0, "drawing": 3}
    assert len(told) == 1 and "no such position" in told[0]
    offer_drawn(one, "P3")
    wait_until(lambda: one.kept["rejects"] == 4)
    offer_drawn(one, "P4", draws=drawer(beyond))
    one.close(PATIENCE_S)
    assert len(told) == 2  # once more, as one was drawn in between
    entries, damage = read_entries(tmp_path, "disc")
    assert damage == [] and sum(one.dropped.values()) == 0
    assert [bool(entry.record.overlays) for entry in entries] == [False, False, False, True, False]
    for entry in entries:
        assert cv2.imread(str(entry.path / "top.png")) is not None


def test_a_process_that_ends_costs_maps_and_no_picture(tmp_path: Path) -> None:
    told = Told()
    one = writer(tmp_path, told=told)
    one.start()
    offer_drawn(one, "P0")
    wait_until(lambda: one.kept["rejects"] == 1)
    (process,) = encoders()
    process.kill()
    for number in (1, 2):
        offer_drawn(one, f"P{number}")
        wait_until(lambda n=number: one.kept["rejects"] == n + 1)  # type: ignore[misc]
    assert (one.undrawn, len(told)) == ({"queue": 0, "drawing": 2}, 1)
    assert "ended with code -9" in told[0]
    one.close(PATIENCE_S)
    entries, _ = read_entries(tmp_path, "disc")
    assert [bool(entry.record.overlays) for entry in entries] == [True, False, False]
    for entry in entries:
        kept = cv2.imread(str(entry.path / "top.png"), cv2.IMREAD_UNCHANGED)
        assert (kept == 90).all()
    assert sum(one.dropped.values()) == 0


def test_while_parts_wait_their_pictures_go_first(tmp_path: Path) -> None:
    one = writer(tmp_path, settings(queue=4))
    for number in range(4):  # the thread has not been started
        offer_drawn(one, f"P{number}")
    one.start()
    wait_until(lambda: one.kept["rejects"] == 4)
    one.close(PATIENCE_S)
    entries, _ = read_entries(tmp_path, "disc")
    assert [bool(entry.record.overlays) for entry in entries] == [False, True, True, True]
    assert one.undrawn == {"queue": 1, "drawing": 0}
    assert sum(one.dropped.values()) == 0


def test_a_part_that_waits_is_drawn_as_the_bundle_saw_it_that_judged_it(tmp_path: Path) -> None:
    one = writer(tmp_path)
    left = ViewRule(name="top", camera="top", roi=(0, 0, 16, 24))
    right = ViewRule(name="top", camera="top", roi=(16, 0, 16, 24))
    offer_drawn(one, "before", draws=drawer(left))
    offer_drawn(one, "after", draws=drawer(right))
    one.start()
    one.close(PATIENCE_S)
    before, after = (heat(e.path / "top.overlay.jpg") for e in read_entries(tmp_path, "disc")[0])
    assert before[:8, 10:14].min() > 50 > before[:8, 24:].max()
    assert after[:8, 26:30].min() > 50 > after[:8, :16].max()


def test_a_record_of_before_there_were_maps_is_read(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.start()
    offer_drawn(one, "P0")
    one.close(PATIENCE_S)
    (entry,), _ = read_entries(tmp_path, "disc")
    path = entry.path / "verdict.json"
    record = json.loads(path.read_text())
    assert record.pop("overlays") == {"top": "top.overlay.jpg"}
    path.write_text(json.dumps(record))
    ((old,), damaged) = read_entries(tmp_path, "disc")
    assert (old.record.overlays, damaged) == ({}, [])
    assert old.record.pictures == entry.record.pictures
