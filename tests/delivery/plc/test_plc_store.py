from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from plc_program import until

from edge_ad import failpoints
from edge_ad.delivery.plc.store import Heard, Recorder, Told
from edge_ad.errors import DeviceError


def heard(seq: int, epoch: str = "e1") -> Heard:
    return Heard(epoch, seq, f"part{seq}", "PASS", "", "plate", True, True)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def recorder(keep: int = 1000, start: bool = True) -> Recorder:
        made.append(Recorder(tmp_path, keep))
        if start:
            made[-1].start()
        return made[-1]

    yield recorder
    failpoints.activate(())
    for one in made:
        one.close()


def rows(path: Path, what: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as base:
        return base.execute(what).fetchall()


def test_what_is_committed_may_be_acknowledged_and_is_where_one_goes_on(
    make: Callable[..., Recorder],
) -> None:
    first = make()
    assert first.position is None and first.committed() is None
    for seq in (1, 2, 2, 3):  # one is told again
        first.put(heard(seq))
    first.put(Told("part3", 3, 1, 0, True, 17))
    last = None

    def done() -> bool:
        nonlocal last
        last = first.committed() or last
        return last == ("e1", 3)

    until(done)
    first.close()
    assert rows(first.path, "SELECT seq FROM verdicts") == [(1,), (2,), (3,)]
    assert rows(first.path, "SELECT part, verdict, acknowledged FROM results") == [("part3", 1, 1)]
    assert make().position == ("e1", 3)


def test_nothing_is_acknowledged_while_the_disk_fails_and_everything_after(
    make: Callable[..., Recorder],
) -> None:
    failpoints.activate(["plc.record=raise:28"])  # no space left
    recorder = make()
    recorder.put(heard(1))
    until(lambda: not recorder.works)
    assert recorder.committed() is None
    recorder.put(heard(2))
    failpoints.activate(())
    until(lambda: recorder.works and recorder.path.exists())
    until(lambda: rows(recorder.path, "SELECT count(*) FROM verdicts") == [(2,)])
    recorder.close()


def test_a_damaged_file_is_put_aside(make: Callable[..., Recorder], tmp_path: Path) -> None:
    recorder = make()
    for seq in range(1, 400):
        recorder.put(heard(seq))
    until(lambda: rows(recorder.path, "SELECT count(*) FROM verdicts") == [(399,)])
    recorder.close()
    data = bytearray(recorder.path.read_bytes())
    data[4096 : 4096 + 3000] = b"\xa5" * 3000
    recorder.path.write_bytes(data)
    again = make()
    assert again.position is None and again.put_aside == tmp_path / "plc.db.damaged-1"
    again.put(heard(1))
    until(lambda: again.committed() == ("e1", 1))
    again.close()
    again.path.write_bytes(b"no database at all, and longer than a header" * 100)
    assert make().put_aside == tmp_path / "plc.db.damaged-2"


def test_the_oldest_records_go(make: Callable[..., Recorder]) -> None:
    recorder = make(keep=1000)
    for seq in range(1, 3001):
        recorder.put(heard(seq))
    until(lambda: rows(recorder.path, "SELECT max(seq) FROM verdicts") == [(3000,)])
    recorder.close()
    [(count, oldest)] = rows(recorder.path, "SELECT count(*), min(seq) FROM verdicts")
    assert 1000 <= count < 2500 and oldest > 500


def test_a_directory_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="state_dir"):
        Recorder(tmp_path / "file" / "below", 1000)
