"""Every score on disk: a file a day, the oldest going by number, whatever the clock and the disk do."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_evidence import PASS, PATIENCE_S, outcome, settings

from edge_ad.config import Evidence
from edge_ad.evidence import score_keeper
from edge_ad.evidence.score_file import Row
from edge_ad.evidence.score_keeper import ScoreKeeper
from edge_ad.evidence.score_log import NoRoom, ScoreLog, day_files
from edge_ad.verdict import Reason

DAY_NS = 86_400 * 10**9
NOON_NS = 1_700_049_600 * 10**9  # 2023-11-15


def row(part: str, day: float = 0, seq: int = 1, epoch: str = "e1") -> Row:
    when = NOON_NS + round(day * DAY_NS)
    return Row(
        part, when, "disc", "ab" * 32, "openvino-f32", "PASS", "", 1.0, 2.0, "top", 5.5, epoch, seq
    )


def roomy(_: Path) -> SimpleNamespace:
    return SimpleNamespace(total=10**12, free=10**12)


_OPENED: list[ScoreLog] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What a test leaves open is closed after it."""
    yield
    while _OPENED:
        _OPENED.pop().close()


def opened(state: Path, usage: Callable[[Path], Any] = roomy) -> ScoreLog:
    _OPENED.append(ScoreLog(state, usage))
    return _OPENED[-1]


def add(log: ScoreLog, *rows: Row, **limits: float) -> None:
    for one in rows:
        log.add([one], settings(**limits))


def kept(state: Path) -> dict[str, list[str]]:
    """The parts of each file."""
    found = {}
    for file in day_files(state):
        if not file.damaged:
            with closing(sqlite3.connect(f"file:{file.path}?mode=ro", uri=True)) as database, database:
                rows = database.execute("SELECT part FROM scores ORDER BY rowid").fetchall()
            found[file.path.name] = [part for (part,) in rows]
    return found


def test_a_file_a_day_with_all_that_was_said(tmp_path: Path) -> None:
    log = opened(tmp_path)
    rows = [row("a", seq=1), row("b", 0.4, 2), row("c", 0.6, 3), row("d", 0.7, 4, "e2")]
    rows[2] = rows[2]._replace(
        score=float("nan"), threshold=float("nan"), verdict="FAULT", reason="late"
    )
    add(log, *rows)
    log.close()
    assert kept(tmp_path) == {
        "000001-2023-11-15.sqlite": ["a", "b"],
        "000002-2023-11-16.sqlite": ["c", "d"],
    }
    directory = tmp_path / "scores"
    assert [path.name for path in directory.iterdir() if not path.name.endswith(".sqlite")] == []
    with closing(sqlite3.connect(directory / "000002-2023-11-16.sqlite")) as database, database:
        found = database.execute("SELECT * FROM scores ORDER BY seq").fetchall()
        names = [column[0] for column in database.execute("SELECT * FROM scores").description]
    assert names == list(Row._fields)
    assert Row(*found[0]) == rows[2]._replace(score=None, threshold=None)
    assert Row(*found[1]) == rows[3]
    assert (log.days, log.size) == (2, sum(path.stat().st_size for path in directory.iterdir()))


def test_days_go_by_the_number_of_files_the_oldest_first(tmp_path: Path) -> None:
    log = opened(tmp_path)
    add(log, *(row(f"P{day}", day) for day in range(5)), scores_days=3)
    assert [file.number for file in day_files(tmp_path)] == [3, 4, 5]
    assert (log.days, log.evicted) == (3, 2)
    again = opened(tmp_path)
    add(again, row("later", 4.2), row("next", 5), scores_days=3)
    assert list(kept(tmp_path).values()) == [["P3"], ["P4", "later"], ["next"]]
    again.trim(settings(scores_days=1))
    assert list(kept(tmp_path).values()) == [["next"]]


@pytest.mark.parametrize("jump", [1 / 24, -1 / 24, 3652, -3652, -19000])
def test_a_clock_that_jumps_removes_one_day_at_most(tmp_path: Path, jump: float) -> None:
    """By an hour over midnight, ten years, and back to 1971: and back again after a few parts."""
    log = opened(tmp_path)
    add(log, *(row(f"P{day}", day + 0.49) for day in range(5)), scores_days=5)
    for _ in range(3):
        add(log, row("jumped", 4.49 + jump), row("back", 4.49), scores_days=5)
    log.close()
    assert log.evicted <= 1
    files = kept(tmp_path)
    everything = [part for parts in files.values() for part in parts]
    assert {"P1", "P2", "P3", "P4"} <= set(everything)
    assert (everything.count("jumped"), everything.count("back")) == (3, 3)


def test_the_quota_removes_whole_days_and_never_the_one_in_use(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for day in range(4):
        log.add([row(f"{day}-{n}", day, n) for n in range(1000)], settings())
        log.close()
    size = log.size / 4
    assert size < 1000 * 200  # what is reckoned for a part is enough
    limits = settings(scores_megabytes=3.2 * size / 1e6)
    log.add([row("one more", 3)], limits)
    assert [file.number for file in day_files(tmp_path)] == [2, 3, 4]
    with pytest.raises(NoRoom, match=r"evidence\.scores_megabytes"):
        log.add([row("too much", 3)], settings(scores_megabytes=0.5 * size / 1e6))
    assert [file.number for file in day_files(tmp_path)] == [2, 3, 4]  # no older day goes for nothing
    assert list(kept(tmp_path).values())[-1][-1] == "one more"


def test_scores_leave_half_of_what_pictures_leave_free_and_begin_again(tmp_path: Path) -> None:
    free = 30.0
    log = opened(tmp_path, lambda _: SimpleNamespace(total=1e6, free=free * 1e4))
    limits = settings(min_free=0.1)
    log.add([row("a")], limits)
    free = 7
    log.add([row("b")], limits)
    free = 4
    with pytest.raises(NoRoom, match=r"evidence\.min_free"):
        log.add([row("c")], limits)
    free = 6
    log.add([row("d")], limits)
    assert list(kept(tmp_path).values()) == [["a", "b", "d"]]


@pytest.mark.parametrize("when", ["between two starts", "while it is open"])
@pytest.mark.parametrize("damage", ["garbage", "a page"])
def test_a_damaged_day_is_set_aside_and_a_new_file_begun(tmp_path: Path, damage: str, when: str) -> None:
    log = opened(tmp_path)
    log.add([row(f"P{n}", seq=n) for n in range(500)], settings())
    log.close()
    path = day_files(tmp_path)[0].path
    if when == "while it is open":
        log.add([row("before")], settings())
        assert log._database is not None
        log._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        log = opened(tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data[:] = b"\x5a" * len(data)
    else:
        for page in range(4096, len(data), 4096):
            data[page : page + 64] = b"\x5a" * 64
    with path.open("r+b") as handle:
        handle.write(data)
    if when == "while it is open":
        assert log._database is not None
        log._database.execute("PRAGMA cache_size=0")
        log._database.execute("PRAGMA shrink_memory")
    said = log.add([row("after")], settings())
    assert f"{path} is damaged" in said and f"set aside as {path.name}.damaged" in said
    assert log.damaged == 1
    assert kept(tmp_path) == {"000002-2023-11-15.sqlite": ["after"]}
    assert (tmp_path / "scores" / f"{path.name}.damaged").stat().st_size == len(data)
    assert log.days == 2
    add(log, row("next", 1), scores_days=2)
    assert list(kept(tmp_path).values()) == [["after"], ["next"]]  # what was set aside goes in its turn


def test_the_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    add(opened(tmp_path), row("a"))
    path = day_files(tmp_path)[0].path
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version=7")
    for part in ("b", "c"):
        add(opened(tmp_path), row(part))
    assert [file.number for file in day_files(tmp_path)] == [1, 2]
    assert list(kept(tmp_path).values()) == [["a"], ["b", "c"]]


def test_someone_who_reads_holds_up_nobody(tmp_path: Path) -> None:
    log = opened(tmp_path)
    add(log, row("a"))
    with (
        closing(sqlite3.connect(f"file:{day_files(tmp_path)[0].path}?mode=ro", uri=True)) as reader,
        reader,
    ):
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM scores").fetchone() == (1,)
        start = time.monotonic()
        add(log, row("b"))
        assert time.monotonic() - start < 1
        assert reader.execute("SELECT count(*) FROM scores").fetchone() == (1,)
    assert list(kept(tmp_path).values()) == [["a", "b"]]


class Told(list[str]):
    def __call__(self, level: str, text: str) -> None:
        self.append(f"{level}: {text}")


def keeper(
    state: Path, told: Told | None = None, log: ScoreLog | None = None, **options: object
) -> ScoreKeeper:
    told = Told() if told is None else told
    return ScoreKeeper(state, settings(**options), "e1", told, log, every_s=0.01)


def test_what_is_handed_over_is_kept_also_at_the_end(tmp_path: Path) -> None:
    one = keeper(tmp_path)
    one.start()
    for seq in range(1, 301):
        one.offer(outcome(PASS, f"P{seq}", seq=seq))
    one.offer(outcome(Reason.NO_FRAME, "unseen", seq=301))
    one.close(PATIENCE_S)
    assert (one.kept, one.dropped) == (301, {"queue": 0, "disk": 0, "space": 0})
    (parts,) = kept(tmp_path).values()
    assert parts == [*(f"P{seq}" for seq in range(1, 301)), "unseen"]


def test_none_is_kept_where_none_is_asked_for_and_what_was_kept_stays(tmp_path: Path) -> None:
    add(opened(tmp_path), row("a"))
    one = keeper(tmp_path, scores_days=0)
    one.start()
    one.offer(outcome(PASS))
    one.close(PATIENCE_S)
    assert (one.kept, list(kept(tmp_path).values())) == (0, [["a"]])


def test_a_disk_that_refuses_is_counted_told_once_and_taken_up_again(tmp_path: Path) -> None:
    (tmp_path / "scores").write_text("a file where the directory should be")
    told = Told()
    one = keeper(tmp_path, told)
    one.start()
    for seq in range(3):
        one.offer(outcome(PASS, seq=seq))
        wait_until(lambda seq=seq: one.dropped["disk"] == seq + 1)  # type: ignore[misc]
    assert len(told) == 1 and str(tmp_path / "scores") in told[0]
    (tmp_path / "scores").unlink()
    one.offer(outcome(PASS, "again"))
    wait_until(lambda: one.kept == 1)
    one.close(PATIENCE_S)
    assert list(kept(tmp_path).values()) == [["again"]]


def test_a_disk_that_hangs_fills_the_backlog_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_keeper, "BACKLOG", 10)
    stuck, release = threading.Event(), threading.Event()

    class Slow(ScoreLog):
        def add(self, rows: Sequence[Row], limits: Evidence) -> str:
            stuck.set()
            release.wait(60)
            return super().add(rows, limits)

    told = Told()
    one = keeper(tmp_path, told, Slow(tmp_path))
    one.start()
    one.offer(outcome(PASS, "first"))
    assert stuck.wait(60)
    start = time.monotonic()
    for seq in range(25):
        one.offer(outcome(PASS, seq=seq))
    one.close(timeout_s=0.1)
    assert time.monotonic() - start < 2
    assert one.dropped["queue"] == 25
    assert told == ["warning: scores of 10 parts not written within 0.1 s"]
    release.set()
    one._thread.join(60)
    assert list(kept(tmp_path).values()) == [["first"]]


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_a_day_that_cannot_be_removed_costs_no_score(tmp_path: Path) -> None:
    add(opened(tmp_path), *(row(f"P{day}", day) for day in range(3)), scores_days=5)
    oldest = day_files(tmp_path)[0].path
    oldest.unlink()
    oldest.mkdir()  # a person's; nothing may remove it
    log = opened(tmp_path)
    assert "cannot be removed" in log.add([row("P3", 3)], settings(scores_days=2))
    assert log.add([row("P4", 3)], settings(scores_days=2)) == ""  # said once
    oldest.rmdir()
    assert kept(tmp_path)["000004-2023-11-18.sqlite"] == ["P3", "P4"]
