"""Who changed what parts are judged by: on record before it is done, and what is on record stays."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from tiny_bundle import make_bundle
from tiny_station import edge_ad, write_station

from edge_ad.audit import FILE, note_config, note_in_use, read_events, record
from edge_ad.bundle import current_path
from edge_ad.errors import ArtifactError, DeviceError


def many(state: Path, who: str) -> None:
    for number in range(20):
        record(state, "activate", who=who, detail={"number": str(number)})


def test_events_are_kept_in_order(tmp_path: Path) -> None:
    assert read_events(tmp_path) == ([], [])
    record(tmp_path, "calibrate", product="disc", who="ana", reason="new tool", detail={"bundle": "b1"})
    record(tmp_path, "rollback")
    (first, second), problems = read_events(tmp_path)
    assert problems == []
    assert (first.what, first.who, first.product, first.reason) == (
        "calibrate",
        "ana",
        "disc",
        "new tool",
    )
    assert (first.detail, first.before) == ({"bundle": "b1"}, "")
    assert second.who
    assert first.time <= second.time
    assert first.time.endswith("+00:00")


def test_programs_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=many, args=(tmp_path, name)) for name in "abc"]
    for one in writers:
        one.start()
    for one in writers:
        one.join(60)
    events, problems = read_events(tmp_path)
    assert problems == []
    for name in "abc":
        own = [event.detail["number"] for event in events if event.who == name]
        assert own == [str(number) for number in range(20)]


@pytest.mark.parametrize("damage", ["changed", "taken out", "no event"])
def test_what_was_done_to_the_file_is_seen(tmp_path: Path, damage: str) -> None:
    for who in ("ana", "ben", "cem"):
        record(tmp_path, "activate", who=who)
    path = tmp_path / FILE
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = {"changed": lines[1].replace("ben", "eva"), "taken out": "", "no event": "x\n"}[damage]
    path.write_text("".join(lines))
    events, problems = read_events(tmp_path)
    assert events[-1].who == "cem"
    place = 2 if damage == "taken out" else 3
    assert any(f"{FILE}:{place}: a line before it was changed or taken out" in one for one in problems)


def test_half_a_line_of_a_power_cut_stays_and_is_seen(tmp_path: Path) -> None:
    record(tmp_path, "activate", who="ana")
    record(tmp_path, "activate", who="ben")
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-20])
    record(tmp_path, "activate", who="cem")
    events, problems = read_events(tmp_path)
    assert [event.who for event in events] == ["ana", "cem"]
    assert len(problems) == 1
    assert f"{FILE}:2: not an event" in problems[0]


def test_what_cannot_be_recorded_is_not_done(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    state = station.state_path
    make_bundle(state, product="disc", name="b1")
    make_bundle(state, product="disc", name="b2", use=False)
    (state / FILE).mkdir()
    with pytest.raises(DeviceError, match="nothing was changed"):
        record(state, "activate")
    with pytest.raises(ArtifactError, match="give the right"):
        read_events(state)
    done = edge_ad("bundle", "activate", "b2", "-c", station.path)
    assert done.returncode == 5
    assert current_path(state, "disc") == state / "bundles" / "disc" / "b1"


def test_a_station_file_is_recorded_when_it_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "line.toml"
    for text, changed in (("a", {}), ("a", {}), ("b", {"deadline_ms": "500.0 -> 900.0"})):
        file.write_text(text)
        note_config(file, tmp_path, changed, "ana", "slower belt")
    events, _ = read_events(tmp_path)
    assert [event.what for event in events] == ["config", "config"]
    assert events[1].detail["deadline_ms"] == "500.0 -> 900.0"
    assert (events[1].who, events[1].reason) == ("ana", "slower belt")
    assert events[0].detail["sha256"] != events[1].detail["sha256"]


def test_a_bundle_that_no_event_made_current_is_recorded_once(tmp_path: Path) -> None:
    def found() -> list[tuple[str, str]]:
        events = read_events(tmp_path)[0]
        return [(e.detail["bundle"], e.detail["on record"]) for e in events if e.what == "in use"]

    note_in_use(tmp_path, "disc", "b1")  # of before there was a list
    note_in_use(tmp_path, "disc", "b1")
    assert found() == [("b1", "none")]
    record(tmp_path, "activate", product="disc", detail={"bundle": "b2"})
    record(tmp_path, "activate", product="ring", detail={"bundle": "b9"})
    note_in_use(tmp_path, "disc", "b2")
    record(tmp_path, "activate", product="disc", detail={"bundle": "b3"})
    record(tmp_path, "activate refused", product="disc", detail={"bundle": "b3"})
    record(tmp_path, "calibrate shadow", product="disc", detail={"bundle": "b4"})
    record(tmp_path, "shadow", product="disc", detail={"bundle": "b5"})
    note_in_use(tmp_path, "disc", "b2")
    assert found() == [("b1", "none")]
    note_in_use(tmp_path, "disc", "b1")  # by hand
    record(tmp_path, "rollback", product="disc", detail={"bundle": "b2"})
    note_in_use(tmp_path, "disc", "b2")
    assert found() == [("b1", "none"), ("b1", "b2")]


def test_the_command_shows_what_was_done_and_by_whom(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    state = station.state_path
    make_bundle(state, product="disc", name="b1")
    make_bundle(state, product="disc", name="b2", use=False)
    assert "nothing was changed yet" in edge_ad("audit", "-c", station.path).stdout
    told = edge_ad("bundle", "activate", "b2", "-c", station.path, "--reason", "after service")
    assert told.returncode == 0, told.stderr
    assert edge_ad("bundle", "rollback", "-c", station.path).returncode == 0
    assert edge_ad("bundle", "activate", "b9", "-c", station.path).returncode == 3
    shown = edge_ad("audit", "-c", station.path, "--json")
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(one["what"], one["detail"]["bundle"], one["reason"]) for one in lines] == [
        ("activate", "b2", "after service"), ("rollback", "b1", ""), ("activate", "b9", ""),
        ("activate refused", "b9", ""),
    ]  # fmt: skip
    table = edge_ad("audit", "-c", station.path, "--last", "3").stdout
    assert "rollback" in table
    assert "after service" not in table
    path = state / FILE
    path.write_text(path.read_text().replace("after service", "because"))
    spoilt = edge_ad("audit", "-c", station.path)
    assert spoilt.returncode == 1
    assert "was changed or taken out" in spoilt.stderr
