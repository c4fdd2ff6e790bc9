"""The outbox: what is committed is there again, in order, and what fails is said."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from channel_line import open_box, record, until
from small_disk import Mount, fill

from edge_ad import failpoints
from edge_ad.delivery.outbox import PRUNE_ROWS, Hole, Outbox
from edge_ad.delivery.outbox_file import OutboxError, OutboxFull
from edge_ad.delivery.verdicts import slowness

HOUR_NS = 3_600_000_000_000


def positions(outbox: Outbox, after: tuple[int, int] = (0, 0)) -> list[tuple[str, int]]:
    return [(kept.epoch, kept.position[1]) for kept in outbox.read(after, 100_000)]


def test_verdicts_are_there_again_in_the_order_of_starts_whatever_the_epochs_are_called(
    tmp_path: Path,
) -> None:
    for epoch in ("ffff", "0001", "7777"):  # as with a clock that jumps back and forth
        outbox = open_box(tmp_path, epoch)
        outbox.add([record(1), record(2, "REJECT")])
        outbox.add([record(3)])
        outbox.close()
    outbox = open_box(tmp_path, "last")
    assert positions(outbox) == [(e, s) for e in ("ffff", "0001", "7777") for s in (1, 2, 3)]
    second = outbox.position("0001", 2)
    assert second is not None
    assert positions(outbox, second) == [("0001", 3), ("7777", 1), ("7777", 2), ("7777", 3)]
    assert outbox.position("unheard of", 1) is None
    assert outbox.read(second, 1)[0].header == b'{"seq":3}'
    assert outbox.depth("gate") == 9
    outbox.close()


def test_commit_is_full_where_one_of_the_verdicts_needs_it(tmp_path: Path) -> None:
    outbox = open_box(tmp_path, "e1")
    assert outbox.add([record(1), record(2)]) == "normal"
    assert outbox.add([record(3), record(4, "FAULT")]) == "full"
    assert outbox.add([record(5)]) == "normal"
    outbox.close()


def test_an_epoch_is_never_used_twice(tmp_path: Path) -> None:
    open_box(tmp_path, "e1").close()
    with pytest.raises(OutboxError, match="has had epoch 'e1' before; start again"):
        open_box(tmp_path, "e1")


def test_what_everyone_has_and_is_old_goes(tmp_path: Path) -> None:
    now = [0]
    options = {"clock": lambda: now[0], "wall": time.time_ns, "retention_ns": HOUR_NS}
    outbox = Outbox(tmp_path / "o.db", "e1", ("gate", "mes"), **options)  # type: ignore[arg-type]
    outbox.add([record(seq) for seq in (1, 2, 3)])
    now[0] = 2 * HOUR_NS
    outbox.add([record(4)])
    outbox.acknowledge("gate", (outbox.epoch_id, 4))
    assert outbox.tidy() == 0  # mes has none of them
    assert (outbox.depth("gate"), outbox.depth("mes")) == (0, 4)
    assert outbox.oldest_s("mes") == pytest.approx(7200)
    outbox.acknowledge("mes", (outbox.epoch_id, 4))
    assert outbox.tidy() == 3
    assert positions(outbox) == [("e1", 4)]
    assert outbox.evicted == 0
    outbox.close()


def test_clock_that_jumps_takes_nothing(tmp_path: Path) -> None:
    for number, wall_s in enumerate((1_800_000_000, 1, 3_000_000_000)):
        outbox = Outbox(
            tmp_path / "o.db", f"e{number}", ("gate",), time.monotonic_ns, lambda s=wall_s: s * 10**9,
            HOUR_NS,
        )  # fmt: skip
        outbox.add([record(1), record(2, "REJECT")])
        outbox.acknowledge("gate", (outbox.epoch_id, 2))
        assert outbox.tidy() == 0
        assert outbox.oldest_s("gate") < 60
        outbox.close()
    outbox = open_box(tmp_path, "unused")
    outbox.close()
    outbox = Outbox(tmp_path / "o.db", "e3", ("gate",), time.monotonic_ns, time.time_ns, HOUR_NS)
    assert positions(outbox) == [(f"e{n}", s) for n in range(3) for s in (1, 2)]
    outbox.close()


def test_the_oldest_go_for_room_and_what_went_is_known(tmp_path: Path) -> None:
    outbox = open_box(tmp_path, "e1", max_bytes=1_000_000)
    size = 40 * PRUNE_ROWS
    outbox.add([record(seq, body=b"x" * 1000) for seq in range(1, size + 1)])
    start = (outbox.epoch_id, 0)
    assert outbox.consumers["gate"] == start
    while outbox.tidy():
        pass
    left = positions(outbox)
    assert left[-1] == ("e1", size)
    assert 0 < len(left) < size
    gone = size - len(left)
    assert (outbox.evicted, outbox.evicted_unfetched) == (gone, gone)
    assert outbox.holes(start, (outbox.epoch_id, gone + 1)) == [Hole("e1", 1, gone)]
    assert outbox.depth("gate") == len(left)
    outbox.close()
    assert (tmp_path / "outbox.db").stat().st_size < 6_000_000


def test_holes_over_several_starts(tmp_path: Path) -> None:
    for epoch in ("a", "b"):
        outbox = open_box(tmp_path, epoch)
        outbox.add([record(seq) for seq in range(1, 5)])
        outbox.close()
    outbox = open_box(tmp_path, "c")
    outbox.add([record(3), record(4)])  # the first two were not to be encoded
    outbox.acknowledge("gate", (2, 2))
    assert outbox.tidy() == 6
    assert outbox.holes((1, 1), (2, 3)) == [Hole("a", 2, 4), Hole("b", 1, 2)]
    assert outbox.holes((2, 4), (3, 3)) == [Hole("c", 1, 2)]
    assert outbox.holes((2, 3), (2, 4)) == []
    outbox.close()


def test_positions_survive(tmp_path: Path) -> None:
    outbox = open_box(tmp_path, "e1")
    outbox.add([record(1), record(2), record(3)])
    outbox.acknowledge("gate", (outbox.epoch_id, 2))
    outbox.acknowledge("gate", (outbox.epoch_id, 1))  # never back
    outbox.tidy()
    outbox.close()
    outbox = open_box(tmp_path, "e2", retention_ns=HOUR_NS)
    assert outbox.depth("gate") == 1
    outbox.close()


def test_an_acknowledgement_that_was_not_written_down_costs_a_repetition_and_no_verdict(
    tmp_path: Path,
) -> None:
    outbox = open_box(tmp_path, "e1", retention_ns=HOUR_NS)
    outbox.add([record(1), record(2)])
    outbox.acknowledge("gate", (outbox.epoch_id, 2))
    outbox.add([record(3)])
    outbox.close()  # as a killed process: without `tidy`
    outbox = open_box(tmp_path, "e2", retention_ns=HOUR_NS)
    kept = outbox.read(outbox.consumers["gate"], 10)
    assert [one.position[1] for one in kept] == [1, 2, 3]
    outbox.close()


@pytest.mark.parametrize("damage", ["header", "page", "empty header"])
def test_damaged_outbox_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    outbox = open_box(tmp_path, "e1")
    outbox.add([record(seq, body=b"x" * 500) for seq in range(1, 200)])
    outbox.close()
    path = tmp_path / "outbox.db"
    data = bytearray(path.read_bytes())
    if damage == "page":
        data[4096 * 3 : 4096 * 6] = b"\xa5" * 4096 * 3
    else:
        data[:100] = (b"\xa5" if damage == "header" else b"\0") * 100
    path.write_bytes(data)
    outbox = open_box(tmp_path, "e2")
    (aside,) = tmp_path.glob("outbox.corrupt-*")
    assert aside.read_bytes() == bytes(data)
    assert aside.name in outbox.quarantined
    assert "Check the disk" in outbox.quarantined
    outbox.add([record(1)])
    assert positions(outbox) == [("e2", 1)]
    outbox.close()


def test_damage_found_at_work_is_set_aside_too_and_the_next_start_is_clean(tmp_path: Path) -> None:
    outbox = open_box(tmp_path, "e1")
    outbox.add([record(seq, "REJECT", b"x" * 500) for seq in range(1, 200)])
    outbox.close()
    outbox = open_box(tmp_path, "e2")
    path = tmp_path / "outbox.db"
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xa5" * (path.stat().st_size - 4096 * 2))
    outbox._database.execute("PRAGMA shrink_memory")  # as of an outbox larger than its cache
    with pytest.raises(OutboxError, match=r"set aside as outbox\.corrupt-"):
        outbox.read((0, 0), 1000)
    outbox.close()
    outbox = open_box(tmp_path, "e3")
    assert positions(outbox) == []
    assert outbox.quarantined == ""
    outbox.close()


def test_another_schema_is_refused_and_kept(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as database, database:
        database.execute("CREATE TABLE verdicts (x)")
        database.execute("PRAGMA user_version=7")
    database.close()
    with pytest.raises(OutboxError, match="schema version 7, this program knows 1"):
        open_box(tmp_path, "e1")
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_a_place_that_cannot_be_written_is_refused_with_the_remedy() -> None:
    with pytest.raises(OutboxError, match="make its directory writable"):
        open_box(Path("/proc"), "e1")


def test_a_commit_that_fails_is_the_end_of_the_outbox(tmp_path: Path) -> None:
    outbox = open_box(tmp_path, "e1")
    outbox.add([record(1)])
    failpoints.activate(["outbox.commit.before=raise:5@1"])
    try:
        with pytest.raises(OutboxError, match="cannot be kept"):
            outbox.add([record(2)])
    finally:
        failpoints.activate([])
    assert positions(outbox) == [("e1", 1)]
    outbox.close()


def test_full_disk_is_told_with_its_remedy(tmp_path: Path) -> None:
    outbox = open_box(tmp_path, "e1")
    pages = outbox._one("PRAGMA page_count")  # as with no block left on the disk
    assert pages is not None
    outbox._database.execute(f"PRAGMA max_page_count={pages[0]}")
    with pytest.raises(OutboxFull, match=r"full\); free some space"):
        outbox.add([record(seq, body=b"x" * 1000) for seq in range(1, 50)])
    outbox.close()


def test_on_a_full_disk_nothing_is_half_kept_and_it_goes_on_once_there_is_room(
    tmp_path: Path, small_disk: Mount
) -> None:
    disk = small_disk(tmp_path / "disk")
    outbox = open_box(disk, "e1", max_bytes=40_000)  # and old verdicts ought to go
    outbox.add([record(seq, body=b"x" * 1000) for seq in range(1, 101)])
    others = fill(disk, 40_000)
    seq = 101
    with pytest.raises(OutboxFull, match=r"full\); free some space"):
        while seq < 1000:
            outbox.add([record(seq, "REJECT", b"x" * 1000), record(seq + 1, body=b"x" * 1000)])
            seq += 2
    outbox.acknowledge("gate", (outbox.epoch_id, 50))
    depth = outbox.depth("gate")
    for _ in range(3):
        with pytest.raises(OutboxFull):
            outbox.add([record(seq, body=b"x" * 1000), record(seq + 1, body=b"x" * 1000)])
        with pytest.raises(OutboxFull):
            outbox.tidy()
    assert [at for _, at in positions(outbox)] == list(range(1, seq))
    assert (outbox.depth("gate"), outbox.evicted) == (depth, 0)
    others.unlink()
    outbox.add([record(seq), record(seq + 1)])
    assert outbox.tidy() == PRUNE_ROWS == outbox.evicted
    assert [at for _, at in positions(outbox)] == list(range(PRUNE_ROWS + 1, seq + 2))
    outbox.close()
    others = fill(disk, 0)
    with pytest.raises(OutboxError, match="free some space"):
        open_box(disk, "e2")
    others.unlink()
    again = open_box(disk, "e2")
    assert again.consumers == {"gate": (1, 50)}  # written down by the second attempt
    again.close()


def test_a_log_that_cannot_be_moved_for_want_of_room_is_no_failure(
    tmp_path: Path, small_disk: Mount
) -> None:
    disk = small_disk(tmp_path / "disk")
    outbox = open_box(disk, "e1")
    outbox.add([record(seq, body=b"x" * 1000) for seq in range(1, 101)])  # all of it in the log
    others = fill(disk, 0)
    for _ in range(3):
        outbox._unmoved = 1
        outbox.checkpoint()
        time.sleep(0.2)
    assert not everything_moved(outbox.path)
    others.unlink()
    outbox.add([record(101)])
    outbox.checkpoint()
    until(lambda: everything_moved(outbox.path))
    assert len(positions(outbox)) == 101
    outbox.close()


def everything_moved(database: Path) -> bool:
    """Whether the database has all that was committed: by the log's index, as SQLite documents it."""
    index = database.with_name(f"{database.name}-shm").read_bytes()
    frames, moved = (int.from_bytes(index[at : at + 4], sys.byteorder) for at in (16, 96))
    return frames == moved > 0


def test_log_of_what_was_committed_is_moved_away_beside_the_commits(tmp_path: Path) -> None:
    """Every 256 commits, by nobody who commits: then the log begins anew, and grows no further."""
    outbox = open_box(tmp_path, "e1")
    sizes = []
    for start in range(1, 2561, 256):
        for seq in range(start, start + 256):
            outbox.add([record(seq, body=b"x" * 600)])
        until(lambda: everything_moved(tmp_path / "outbox.db"))
        sizes.append((tmp_path / "outbox.db-wal").stat().st_size)
    assert max(sizes) < 2 * sizes[0]
    assert (tmp_path / "outbox.db").stat().st_size > 1_000_000
    outbox.add([record(2561), record(2562, "REJECT")])
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("outbox.db", "outbox.db-wal"):
        shutil.copy(tmp_path / name, copy / name)
    outbox.close()
    again = open_box(copy, "e2")
    assert len(positions(again)) == 2562
    again.close()


def test_slow_commits_are_named_with_the_remedy() -> None:
    assert slowness(0.004, 500) == ""
    assert "faster disk" in slowness(0.2, 500)
    assert "deadline_ms = 500" in slowness(0.2, 500)
