"""Parts found by what was said of them, in the scores and in the pictures."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_up_evidence import PATIENCE_S, frames, outcome, picture, settings
from tiny_station import write_station

from edge_ad.cli import evidence as cli
from edge_ad.delivery.outcome import Outcome
from edge_ad.errors import ConfigError
from edge_ad.evidence.entry import read_entries
from edge_ad.evidence.find import Query, find_parts, parse_time
from edge_ad.evidence.score_file import row_of
from edge_ad.evidence.score_log import ScoreLog, day_files
from edge_ad.evidence.writer import EvidenceWriter
from edge_ad.verdict import Decision, Reason, Verdict

NOON_NS = 1_700_049_600 * 10**9  # 2023-11-15T12:00:00Z
HOUR_NS = 3600 * 10**9


def scored(score: float, threshold: float = 2.0) -> Verdict:
    if score > threshold:
        return Verdict(Decision.REJECT, Reason.SCORE, score, threshold, "top")
    return Verdict(Decision.PASS, Reason.NONE, score, threshold, "top")


def part(key: str, verdict: Verdict | Reason, hour: float, seq: int, product: str = "disc") -> Outcome:
    one = outcome(verdict, key, product, seq)
    values = {name: getattr(one, name) for name in one.__slots__}
    return Outcome(**{**values, "t_wall_ns": NOON_NS + round(hour * HOUR_NS)})


PARTS = [
    part("A-1", scored(1.0), 0, 1),
    part("A-2", scored(1.9), 1, 2),
    part("B-1", scored(2.1), 2, 3),
    part("B-2", scored(9.0), 13, 4),
    part("B-3", Reason.LATE, 14, 5),
    part("C-1", scored(1.0), 15, 6, "ring"),
]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of all but one part, pictures of those that did not pass, nearly, or are of the other."""
    root = tmp_path_factory.mktemp("found")
    station = write_station(root)
    log = ScoreLog(station.state_path)
    for one in (PARTS[1], PARTS[0], *PARTS[3:]):  # not in the order of time
        log.add([row_of(one, "e1")], settings())
    log.close()
    writer = EvidenceWriter(
        station.state_path, settings(near=0.1, queue=32), "line1", "e1", {"top": lambda: "auto8"},
        lambda *_: None,
    )  # fmt: skip
    for one in PARTS:
        writer.offer(frames(picture(one.seq)), one)
    writer.start()
    writer.close(PATIENCE_S)
    assert [e.key for e in read_entries(station.state_path, "disc")[0]] == ["A-2", "B-1", "B-2", "B-3"]
    return root


def keys(state: Path, **query: Any) -> list[str]:
    told: list[str] = []
    found = [one.row.part for one in find_parts(state / "state", Query(**query), told.append)]
    assert told == []
    return found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["A-1", "A-2", "B-1", "B-2", "B-3", "C-1"]),
        ({"part": "B-*"}, ["B-1", "B-2", "B-3"]),
        ({"part": "?-1"}, ["A-1", "B-1", "C-1"]),
        ({"part": "b-*"}, []),
        ({"verdicts": ("REJECT", "FAULT")}, ["B-1", "B-2", "B-3"]),
        ({"reasons": ("late",)}, ["B-3"]),
        ({"product": "ring"}, ["C-1"]),
        ({"product": "disc", "verdicts": ("PASS",)}, ["A-1", "A-2"]),
        ({"since_ns": NOON_NS + HOUR_NS}, ["A-2", "B-1", "B-2", "B-3", "C-1"]),
        ({"until_ns": NOON_NS + 13 * HOUR_NS}, ["A-1", "A-2", "B-1"]),
        ({"since_ns": NOON_NS + 12 * HOUR_NS}, ["B-2", "B-3", "C-1"]),  # the next day
        ({"near": 0.05}, ["A-2", "B-1"]),
        ({"near": 0.5}, ["A-1", "A-2", "B-1", "C-1"]),
        ({"kinds": ("near",)}, ["A-2"]),
        ({"kinds": ("rejects",), "since_ns": NOON_NS + 12 * HOUR_NS}, ["B-2", "B-3"]),
        ({"part": "'; DROP TABLE parts; --"}, []),
    ],
)  # fmt: skip
def test_what_answers_a_query_comes_in_the_order_of_time(
    state: Path, query: dict[str, Any], found: list[str]
) -> None:
    assert keys(state, **query) == found


def test_a_part_without_a_score_is_found_by_its_pictures_once(state: Path) -> None:
    found = {one.row.part: one for one in find_parts(state / "state", Query(), lambda _: None)}
    assert found["B-1"].row == row_of(PARTS[2], "e1")
    assert [key for key, one in found.items() if one.entry] == ["A-2", "B-1", "B-2", "B-3"]
    assert found["B-1"].time == "2023-11-15T14:00:00.000Z"


def test_what_cannot_be_read_is_said_and_the_rest_is_found(state: Path, tmp_path: Path) -> None:
    log = ScoreLog(tmp_path)
    for one in PARTS:
        log.add([row_of(one, "e1")], settings())
    log.close()
    first, _ = day_files(tmp_path)
    first.path.write_bytes(b"\x5a" * 8192)
    first.path.with_name("000009-2023-11-14.sqlite.damaged").write_bytes(b"")
    with closing(sqlite3.connect(first.path.with_name("000010-2023-11-17.sqlite"))) as later, later:
        later.execute("PRAGMA user_version=9")
    told: list[str] = []
    found = [one.row.part for one in find_parts(tmp_path, Query(), told.append)]
    assert found == ["B-2", "B-3", "C-1"]
    assert len(told) == 3
    assert any(str(first.path) in line and "cannot be read" in line for line in told)
    assert any(".damaged: was damaged" in line for line in told)
    assert any("schema version 9, this program knows 1" in line for line in told)


def test_times_are_utc_where_they_have_no_zone() -> None:
    assert parse_time("2023-11-15T12:00:00Z", "--since") == NOON_NS
    assert parse_time("2023-11-15 12:00", "--since") == NOON_NS
    assert parse_time("2023-11-15T13:00:00.5+01:00", "--since") == NOON_NS + 5 * 10**8
    assert parse_time("2023-11-15", "--since") == NOON_NS - 12 * HOUR_NS
    with pytest.raises(ConfigError, match=r"--since: 'yesterday' is no time; give it as 2026-01-31"):
        parse_time("yesterday", "--since")


def run(state: Path, *arguments: str) -> str:
    command, *rest = arguments
    done = CliRunner().invoke(cli.command, [command, "-c", str(state / "line.toml"), *rest])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_shows_a_table_csv_and_json(state: Path, tmp_path: Path) -> None:
    table = run(state, "find", "--near", "0.1", "--product", "disc")
    assert "A-2" in table and "B-1" in table and "B-2" not in table
    assert "0.95 x" in table and "11-15 13:00:00" in table
    assert "no such part" in run(state, "find", "--part", "nothing*")
    assert "more than these 2" in run(state, "find", "--limit", "2")
    assert "more than" not in run(state, "find", "--limit", "6")
    out = tmp_path / "out.csv"
    run(state, "find", "--csv", str(out), "--verdict", "reject", "--verdict", "FAULT")
    with out.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["part"], r["reason"], r["score"], r["number"]) for r in rows] == [
        ("B-1", "score", "2.1", "2"), ("B-2", "score", "9.0", "3"), ("B-3", "late", "", "4"),
    ]  # fmt: skip
    assert Path(rows[0]["path"], "verdict.json").is_file()
    lines = [json.loads(line) for line in run(state, "find", "--limit", "1", "--json").splitlines()]
    assert [(one["part"], one["score"], one["path"]) for one in lines] == [("A-1", 1.0, None)]


def test_near_takes_a_share_or_the_station_files(state: Path) -> None:
    assert "B-2" in run(state, "find", "--near", "4")
    done = CliRunner().invoke(cli.command, ["find", "-c", str(state / "line.toml"), "--near", "close"])
    assert isinstance(done.exception, ConfigError) and "--near: 'close'" in str(done.exception)


def test_show_says_all_about_a_part(state: Path) -> None:
    text = run(state, "show", "B-2")
    for words in (
        "B-2, number 3, kept as rejects",
        "REJECT score",
        "9, 4.50 x the threshold",
        "top.png",
    ):
        assert words in text
    record = json.loads(run(state, "show", "3", "--json"))["record"]
    assert (record["header"]["part"], record["body"]["score"]) == ("B-2", 9.0)
    done = CliRunner().invoke(cli.command, ["show", "-c", str(state / "line.toml"), "A-1"])
    assert isinstance(done.exception, ConfigError)
    assert "evidence show: 'A-1' is neither" in str(done.exception)
