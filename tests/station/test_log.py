"""The station's log: on the disk before it is acknowledged, once each, and never in the gate's way."""

from __future__ import annotations

import select
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from made_up_verdicts import EPOCH, body, header

from edge_ad import failpoints
from edge_ad.delivery.consumer import Delivered
from edge_ad.delivery.station.events import Pass, Reject, Why
from edge_ad.delivery.station.log import StationLog
from edge_ad.errors import DeviceError


def open_log(directory: Path, **options: Any) -> StationLog:
    plain: dict[str, Any] = {"clock": time.monotonic_ns, "wall": time.time_ns}
    return StationLog(directory / "station.db", "run1", ["main"], **{**plain, **options})


def told(seq: int, part: str = "", live: bool = True, epoch: str = EPOCH) -> Delivered:
    return Delivered(header(part or f"p{seq}", seq, epoch=epoch), body(), live)


def until(log: StationLog, condition: Callable[[dict[str, tuple[str, int]]], bool]) -> None:
    seen: dict[str, tuple[str, int]] = {}
    end = time.monotonic() + 20
    while not condition(seen):
        assert time.monotonic() < end, f"it did not happen: {seen}"
        select.select([log.wake], [], [], 0.2)
        seen.update(log.committed())


def rows(directory: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(directory / "station.db")) as database, database:
        found = database.execute(query).fetchall()
    database.close()
    return found


@pytest.fixture(autouse=True)
def _no_failpoints() -> Iterator[None]:
    yield
    failpoints.activate(())


def test_what_is_told_as_committed_is_on_the_disk_and_is_where_the_next_start_goes_on(
    tmp_path: Path,
) -> None:
    log = open_log(tmp_path)
    assert log.positions == {"main": None}
    for seq in range(1, 6):
        log.verdict("main", told(seq), seq)
    log.action(Pass(1, "p1", 0, 9, (("main", EPOCH, 1),)), 7)
    log.action(Reject(2, "p2", Why.NOT_PASS, "score"), 8)
    until(log, lambda seen: seen.get("main") == (EPOCH, 5))
    assert len(rows(tmp_path, "SELECT * FROM verdicts")) == 5
    log.close()
    assert rows(tmp_path, "SELECT number, action, why, detail, verdicts FROM actions") == [
        (1, "pass", "", "", f'[["main","{EPOCH}",1]]'),
        (2, "reject", "not_pass", "score", "[]"),
    ]
    again = open_log(tmp_path)
    assert again.positions == {"main": (EPOCH, 5)}
    again.verdict("main", told(5, live=False), 1)
    again.verdict("main", told(1, epoch="0002-b"), 2)
    again.close()
    assert rows(tmp_path, "SELECT epoch, seq FROM verdicts ORDER BY epoch, seq")[-2:] == [
        (EPOCH, 5),
        ("0002-b", 1),
    ]
    assert len(rows(tmp_path, "SELECT * FROM verdicts")) == 6
    final = open_log(tmp_path)
    assert final.positions == {"main": ("0002-b", 1)}
    final.close()


def test_what_is_to_be_remembered_is(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    assert not log.line_stop
    log.event("line_stop", "on", 1, ("line_stop", "on"))
    log.close()
    log = open_log(tmp_path)
    assert log.line_stop
    log.event("line_stop", "off", 1, ("line_stop", "off"))
    log.close()
    log = open_log(tmp_path)
    assert not log.line_stop
    log.close()


@pytest.mark.parametrize("what", ["not a database", "a page overwritten"])
def test_a_damaged_log_is_set_aside_told_and_begun_anew(what: str, tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for seq in range(1, 300):
        log.verdict("main", told(seq), seq)
    log.close()
    path = tmp_path / "station.db"
    data = bytearray(path.read_bytes())
    if what == "not a database":
        data[:64] = b"x" * 64
    else:
        data[2 * 4096 : 6 * 4096] = b"\xa5" * (4 * 4096)
    path.write_bytes(data)
    log = open_log(tmp_path)
    assert log.quarantined == 1 and log.positions == {"main": None}
    ((kind, text),) = log.told()
    assert kind == "damaged" and "set aside" in text and str(path) in text
    log.verdict("main", told(300), 1)
    until(log, lambda seen: seen.get("main") == (EPOCH, 300))
    log.close()
    assert len(list(tmp_path.glob("station.damaged-*"))) == 1


def test_a_log_that_is_damaged_while_it_is_used_is_set_aside_and_forgets_no_position(
    tmp_path: Path,
) -> None:
    log = open_log(tmp_path)
    log.verdict("main", told(1), 1)
    until(log, lambda seen: seen.get("main") == (EPOCH, 1))
    with closing(sqlite3.connect(tmp_path / "station.db")) as database, database:
        database.execute("DROP TABLE actions")
    database.close()
    log.action(Reject(1, "p1", Why.NO_VERDICT), 1)
    until(log, lambda seen: log.quarantined == 1 and log.commits == 2)
    assert [kind for kind, _ in log.told()] == ["damaged"]
    log.close()
    assert rows(tmp_path, "SELECT key FROM actions") == [("p1",)]
    again = open_log(tmp_path)
    assert again.positions == {"main": (EPOCH, 1)}
    again.close()


@pytest.mark.parametrize("number", [5, 28])  # EIO, ENOSPC
def test_a_disk_that_refuses_is_told_once_and_nothing_is_acknowledged_until_it_takes_it(
    number: int, tmp_path: Path
) -> None:
    log = open_log(tmp_path)
    failpoints.activate([f"station.commit.before=raise:{number}"])
    log.verdict("main", told(1), 1)
    log.action(Reject(1, "p1", Why.NO_VERDICT), 1)
    until(log, lambda seen: log.failures >= 2)
    assert log.committed() == {} and [kind for kind, _ in log.told()] == ["disk"]
    failpoints.activate(())
    until(log, lambda seen: seen.get("main") == (EPOCH, 1))
    log.close()
    assert rows(tmp_path, "SELECT key FROM actions") == [("p1",)]


def test_the_wall_clock_says_nothing_about_what_is_old(tmp_path: Path) -> None:
    hour = 3600 * 10**9
    now = [0]
    wall = [2_000_000_000 * 10**9]
    options: dict[str, Any] = {
        "clock": lambda: now[0], "wall": lambda: wall[0], "retention_hours": 10.0,
    }  # fmt: skip
    log = open_log(tmp_path, **options)
    for seq in range(1, 200):
        log.verdict("main", told(seq), 1)
        until(log, lambda seen, seq=seq: seen.get("main") == (EPOCH, seq))  # type: ignore[misc]
        wall[0] += (-1) ** seq * 1000 * hour
    assert log.pruned == 0
    now[0] += 11 * hour  # eleven hours of running
    for seq in range(200, 330):
        log.verdict("main", told(seq), 1)
        until(log, lambda seen, seq=seq: seen.get("main") == (EPOCH, seq))  # type: ignore[misc]
    log.close()
    assert log.pruned == 199
    assert rows(tmp_path, "SELECT min(seq) FROM verdicts") == [(200,)]


def test_the_oldest_goes_where_the_log_is_too_large(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_megabytes=0.2)
    for seq in range(1, 1300):
        log.verdict("main", told(seq, part=f"part-{seq:0200d}"), 1)
        if seq % 10 == 0:
            until(log, lambda seen, seq=seq: seen.get("main") == (EPOCH, seq))  # type: ignore[misc]
    log.close()
    assert log.pruned > 0
    (kept,) = rows(tmp_path, "SELECT min(seq), max(seq) FROM verdicts")
    assert kept[0] > 1 and kept[1] == 1299
    again = open_log(tmp_path)
    assert again.positions == {"main": (EPOCH, 1299)}
    again.close()


def test_a_log_that_cannot_be_had_is_a_device_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "station.db").mkdir()
    with pytest.raises(DeviceError, match=r"station\.db.*state_dir"):
        open_log(tmp_path)
