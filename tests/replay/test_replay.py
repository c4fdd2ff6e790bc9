"""Archived parts through another bundle: what changes, what cannot be said, and what a verdict saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from daemon_line import BLACK, Line, good, wait_for
from tiny_bundle import HEIGHT, WIDTH, make_bundle
from tiny_station import edge_ad, write_station

from edge_ad.bundle import activate
from edge_ad.bundle.store import product_directory
from edge_ad.config import Station
from edge_ad.errors import ArtifactError, CheckFailed, ConfigError
from edge_ad.evidence.entry import Entry, EntryRecord, read_entries
from edge_ad.evidence.writer import NOT_LOOKED_AT
from edge_ad.frame import Frame, Image
from edge_ad.replay import draw_entry, kept_overlay, replay
from edge_ad.replay.run import NOT_OF_THE_PICTURES
from edge_ad.verdict import Reason


def defective() -> Image:
    """A good part with a dark square."""
    image = good(3).copy()
    image[20:44, 60:84] = 0
    return image


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """What a line kept that judged by bundle b1, which localises: "lax" rejects less, "strict" more,
    without a map."""
    station = write_station(tmp_path_factory.mktemp("replay"))
    state = station.state_path
    make_bundle(state, product="disc", profile="default")
    make_bundle(state, product="disc", profile="default", name="lax", threshold=1e6, use=False)
    make_bundle(state, product="disc", name="strict", threshold=1e-6, use=False)
    options = {"product": "disc", "evidence": {"near": 0.0, "sample": 1, "queue": 64}}
    with Line(state, options=options) as line:
        line.feed(good(0), good(1), defective(), BLACK)
        line.feed(Frame("top", 9, good(2), 1, 2, "gone", "no_frame"))
        said = line.verdicts(5)
        assert said == ["PASS", "PASS", "REJECT score", "REJECT score", "FAULT no_frame"]
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="rejects") == 3)
    return station


def bundle(station: Station, name: str) -> Path:
    return product_directory(station.state_path, "disc") / name


def entries(station: Station) -> list[Entry]:
    return read_entries(station.state_path, "disc")[0]


def copied(station: Station, tmp_path: Path) -> Station:
    """So that a test may spoil it."""
    without = shutil.ignore_patterns("*.sock")
    shutil.copytree(Path(station.path).parent, tmp_path / "copy", symlinks=True, ignore=without)
    return msgspec.structs.replace(station, path=str(tmp_path / "copy" / "line.toml"))


def alter(entry: Entry, change: Callable[[EntryRecord], EntryRecord]) -> None:
    record = change(entry.record)
    (entry.path / "verdict.json").write_bytes(msgspec.json.encode(record))


def test_the_bundle_that_judged_says_the_same_again_with_the_same_scores(archived: Station) -> None:
    result = replay(archived, bundle(archived, "current"), "disc")
    assert (result.bundle, result.same, result.changed) == ("b1", 4, [])
    assert [(one.number, one.key, one.why) for one in result.skipped] == [
        (5, "gone", "FAULT no_frame says nothing of its pictures")
    ]
    # A REJECT that becomes a PASS by the threshold alone has the score that it had.
    changed = replay(archived, bundle(archived, "lax"), "disc").changed
    assert [one.now_score for one in changed] == [pytest.approx(one.was_score) for one in changed]


def test_parts_whose_verdict_changes_are_named_with_both(archived: Station) -> None:
    lax = replay(archived, bundle(archived, "lax"), "disc")
    assert [(one.number, one.was, one.now, one.kind) for one in lax.changed] == [
        (3, "REJECT score", "PASS", "rejects"), (4, "REJECT score", "PASS", "rejects"),
    ]  # fmt: skip
    assert lax.changed[0].now_threshold == 1e6
    assert lax.text() == (
        "2 of 4 verdicts change by bundle lax, 2 from REJECT to PASS; 1 parts could not be replayed"
    )
    strict = replay(archived, bundle(archived, "strict"), "disc")
    assert [(one.number, one.was, one.now) for one in strict.changed] == [
        (1, "PASS", "REJECT score"), (2, "PASS", "REJECT score"),
    ]  # fmt: skip


def test_kinds_and_a_limit_choose_the_newest(archived: Station) -> None:
    path, heard = bundle(archived, "lax"), []
    sample = replay(archived, path, "disc", ("sample",), told=lambda *n: heard.append(n))
    assert (sample.same, sample.changed, heard) == (2, [], [(1, 2), (2, 2)])
    assert [one.number for one in replay(archived, path, "disc", limit=2).changed] == [4]


def test_what_cannot_be_replayed_is_said_and_changes_nothing(archived: Station, tmp_path: Path) -> None:
    station = copied(archived, tmp_path)
    first, second, third, fourth, _ = entries(station)
    (first.path / "top.png").unlink()
    (second.path / "top.png").write_bytes((second.path / "top.png").read_bytes()[:50])
    picture = third.record.pictures["top"]
    other = msgspec.structs.replace(picture, pixel_rule="bayerrg8")
    alter(third, lambda record: msgspec.structs.replace(record, pictures={"top": other}))
    cv2.imwrite(str(fourth.path / "top.png"), np.zeros((HEIGHT + 8, WIDTH), np.uint8))
    larger = msgspec.structs.replace(picture, shape=(HEIGHT + 8, WIDTH, 1))
    alter(fourth, lambda record: msgspec.structs.replace(record, pictures={"top": larger}))
    shutil.copytree(first.path, first.path.with_name("000077-bad"))
    result = replay(station, bundle(station, "b1"), "disc")
    assert (result.replayed, len(result.damaged)) == (0, 1)
    why = {one.number: one.why for one in result.skipped}
    assert "top.png cannot be read" in why[1]
    assert "top.png: not a readable image" in why[2]
    assert why[3] == "camera 'top' had pixel rule 'bayerrg8', the bundle has 'auto8'"
    assert f"frame is {WIDTH} x {HEIGHT + 8} px" in why[4]
    alter(fourth, lambda record: msgspec.structs.replace(record, pictures={}))
    why = {one.number: one.why for one in replay(station, bundle(station, "b1"), "disc").skipped}
    assert why[4] == "has no picture of camera 'top' (there is none)"


def test_the_map_shows_the_defect_where_it_is(archived: Station) -> None:
    entry = entries(archived)[2]
    drawn = draw_entry(archived, entry)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    change = np.abs(drawn.astype(int) - defective()[..., None]).sum(axis=2)
    assert change[24:40, 64:80].mean() > 4 * change[:, :40].mean()
    good_one = draw_entry(archived, entries(archived)[0])
    changed = np.abs(good_one.astype(int) - good(0)[..., None]).sum(axis=2)
    assert changed[24:40, 64:80].mean() < change[24:40, 64:80].mean() / 2


def test_the_map_that_was_kept_is_the_one_that_would_be_made(archived: Station) -> None:
    """It was drawn beside the inspection; the frames are judged again here."""
    for entry in entries(archived)[:4]:
        kept = kept_overlay(entry)
        assert kept is not None
        difference = np.abs(kept.astype(int) - draw_entry(archived, entry))
        assert difference.mean() < 2 and difference.max() < 40  # of a JPEG
    assert kept_overlay(entries(archived)[4]) is None  # FAULT


def test_a_map_that_was_kept_is_shown_without_the_bundle_that_judged(
    archived: Station, tmp_path: Path
) -> None:
    station = copied(archived, tmp_path)
    activate(station.state_path, "disc", "lax")
    shutil.rmtree(bundle(station, "b1"))
    entry, out = entries(station)[2], tmp_path / "map.png"
    show = ("evidence", "show", "-c", station.path, "3", "--overlay", out)
    shown = edge_ad(*show)
    assert shown.returncode == 0, shown.stderr
    assert str(entry.path / "top.overlay.jpg") in shown.stdout
    kept = cv2.imread(str(out))
    np.testing.assert_array_equal(kept, cv2.imread(str(entry.path / "top.overlay.jpg")))
    assert edge_ad(*show, "--bundle", "lax").returncode == 0  # of a threshold that nothing comes near
    change = np.abs(cv2.imread(str(out)).astype(int) - defective()[..., None])
    assert change.max() < 5 < np.abs(kept.astype(int) - defective()[..., None]).max()
    (entry.path / "top.overlay.jpg").write_bytes(b"torn")
    assert kept_overlay(entry) is None
    gone = edge_ad(*show)
    assert gone.returncode == 3 and "which is not among those of 'disc'" in gone.stderr


def test_a_map_needs_a_bundle_that_is_there_and_localises(archived: Station, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only the default profile has"):
        draw_entry(archived, entries(archived)[2], bundle(archived, "strict"))
    station = copied(archived, tmp_path)
    activate(station.state_path, "disc", "lax")
    shutil.rmtree(bundle(station, "b1"))
    entry = entries(station)[2]
    with pytest.raises(ArtifactError, match=r"which is not among those of 'disc'; .*bundle list"):
        draw_entry(station, entry)
    assert draw_entry(station, entry, bundle(station, "lax")).shape == (HEIGHT, WIDTH, 3)
    cv2.imwrite(str(entry.path / "top.png"), np.zeros((HEIGHT + 8, WIDTH), np.uint8))
    picture = msgspec.structs.replace(entry.record.pictures["top"], shape=(HEIGHT + 8, WIDTH, 1))
    alter(entry, lambda record: msgspec.structs.replace(record, pictures={"top": picture}))
    with pytest.raises(CheckFailed, match="FAULT frame_size"):
        draw_entry(station, entries(station)[2], bundle(station, "lax"))


def test_the_commands_report_and_ask_by_their_exit_code(archived: Station, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    same = edge_ad("replay", "-c", archived.path, "current", "--json", out)
    assert same.returncode == 0, same.stderr
    assert "0 of 4 verdicts change by bundle b1; 1 parts could not be replayed" in same.stdout
    assert "5 gone: not replayed: FAULT no_frame" in same.stderr
    assert json.loads(out.read_text())["replayed"] == 4
    other = edge_ad("replay", "-c", archived.path, "lax", "--kind", "rejects", "--json")
    assert other.returncode == 1 and "2 verdicts change by bundle lax" in other.stderr
    assert [one["now"] for one in json.loads(other.stdout)["changed"]] == ["PASS", "PASS"]
    picture = tmp_path / "map.png"
    shown = edge_ad("evidence", "show", "-c", archived.path, "3", "--overlay", picture)
    assert shown.returncode == 0, shown.stderr
    assert str(picture) in shown.stdout and "finding" in shown.stdout
    assert cv2.imread(str(picture)).shape == (HEIGHT, WIDTH, 3)


def test_every_reason_is_a_bundles_or_is_left_out() -> None:
    """A new one has to be put somewhere: what no bundle judged would be a change by every bundle."""
    of_a_bundle = {
        Reason.NONE, Reason.SCORE, Reason.NOT_FINITE, Reason.FRAME_SIZE, Reason.NOT_FOUND,
        Reason.OUT_OF_RANGE, Reason.EMPTY, Reason.TWO_PARTS, Reason.ORIENTATION, Reason.MIRRORED,
    }  # fmt: skip
    left_out = NOT_OF_THE_PICTURES | NOT_LOOKED_AT
    assert of_a_bundle | left_out == set(Reason)
    assert not of_a_bundle & left_out
