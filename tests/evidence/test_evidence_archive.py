"""The archive on disk: whole entries, the oldest removed for room, numbers that are never used twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ad.config import Evidence
from edge_ad.evidence.archive import MEGABYTE, Archive
from edge_ad.evidence.entry import entry_name, read_entries
from edge_ad.evidence.find import Query, find_parts

QUOTA = Evidence(max_megabytes=0.001, min_free=0.0)  # 1,000 bytes


def roomy(_: Path) -> SimpleNamespace:
    return SimpleNamespace(total=10**12, free=10**12)


def opened(state: Path) -> Archive:
    archive = Archive(state, roomy)
    archive.open()
    return archive


def put(archive: Archive, size: int, product: str = "disc", limits: Evidence = QUOTA) -> int | None:
    """The number of an entry of so many bytes; None where there was no room."""
    number = archive.new_number()
    if not archive.make_room(size, limits):
        return None
    archive.write(number, product, f"P{number}", {"top.png": bytes(size - 1), "verdict.json": b"{"})
    return number


def numbers(state: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[0]) for path in (state / "evidence").glob("*/0*"))


def test_the_oldest_goes_first_over_all_products(tmp_path: Path) -> None:
    archive = opened(tmp_path)
    for product in ("disc", "ring", "disc", "ring"):
        put(archive, 250, product)
    assert numbers(tmp_path) == [1, 2, 3, 4]
    assert archive.size == 1000
    put(archive, 300, "ring")
    assert numbers(tmp_path) == [3, 4, 5]
    assert (archive.size, archive.evicted["rejects"]) == (800, 2)


def test_what_is_larger_than_the_quota_removes_nothing(tmp_path: Path) -> None:
    archive = opened(tmp_path)
    put(archive, 900)
    assert put(archive, 1001) is None
    assert numbers(tmp_path) == [1]


def test_the_disk_keeps_its_share_free(tmp_path: Path) -> None:
    """A disk of 10,000 bytes that others fill: a tenth stays free."""
    others = 0
    archive = Archive(
        tmp_path, lambda _: SimpleNamespace(total=10_000, free=10_000 - others - archive.size)
    )
    archive.open()
    limits = Evidence(max_megabytes=1.0, min_free=0.1)
    for _ in range(10):
        put(archive, 900, limits=limits)
    assert numbers(tmp_path) == list(range(1, 11))
    others = 3000
    assert put(archive, 900, limits=limits) == 11
    assert numbers(tmp_path) == list(range(6, 12))
    others = 9500
    assert put(archive, 900, limits=limits) is None
    assert numbers(tmp_path) == []


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    archive = opened(tmp_path)
    for _ in range(5):
        put(archive, 400)
    assert numbers(tmp_path) == [4, 5]
    again = opened(tmp_path)
    assert again.size == 800
    assert put(again, 400) == 6
    assert numbers(tmp_path) == [5, 6]


def test_what_was_left_half_done_is_removed_and_nobodys(tmp_path: Path) -> None:
    archive = opened(tmp_path)
    put(archive, 100)
    for name in (".new-000007-P7", ".old-000000-P0"):
        (tmp_path / "evidence" / "disc" / name).mkdir()
        (tmp_path / "evidence" / "disc" / name / "top.png").write_bytes(b"half")
    again = opened(tmp_path)
    assert again.size == 100
    assert [path.name for path in (tmp_path / "evidence" / "disc").iterdir()] == ["000001-P1"]
    assert put(again, 100) == 2


def test_an_entry_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    archive = opened(tmp_path)
    with pytest.raises(OSError):
        archive.write(1, "disc", "P1", {"top.png": b"whole", 300 * "x": b""})
    assert list((tmp_path / "evidence" / "disc").iterdir()) == []
    assert archive.size == 0


def test_an_entry_that_a_person_removed_does_not_hold_up_the_others(tmp_path: Path) -> None:
    archive = opened(tmp_path)
    put(archive, 500)
    put(archive, 500)
    (first,) = (tmp_path / "evidence" / "disc").glob("000001-*")
    first.rename(tmp_path / "elsewhere")
    assert put(archive, 500) == 3
    assert numbers(tmp_path) == [2, 3]
    assert archive.size == 1000


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(2, 1500), max_size=12), key=st.text(max_size=80))
def test_the_quota_holds_whatever_comes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], key: str
) -> None:
    state = tmp_path_factory.mktemp("archive")
    archive = opened(state)
    for size in sizes:
        number = put(archive, size)
        assert (number is None) == (size > 1000)
        assert number is None or number == max(numbers(state))
        left = [file.stat().st_size for file in (state / "evidence").glob("*/*/*")]
        assert sum(left) == archive.size <= QUOTA.max_megabytes * MEGABYTE
    name = entry_name(1, key)
    assert "/" not in name and name.startswith("000001-") and len(name) <= 71 and name.isascii()


def test_numbers_go_on_though_all_entries_are_gone(tmp_path: Path) -> None:
    """Whoever has an old list must not get another part by its number; strange files are left alone."""
    first = Archive(tmp_path)
    first.open()
    path = first.write(first.new_number(), "disc", "P1", {"verdict.json": b"{}"})
    shutil.rmtree(path)
    (path.parent / ".DS_Store").write_bytes(b"x")
    again = Archive(tmp_path)
    again.open()
    assert again.new_number() == 2
    assert (path.parent / ".DS_Store").is_file()


def put_kind(archive: Archive, kind: str, size: int, limits: Evidence) -> int | None:
    """As `put`, of a kind."""
    number, record = archive.new_number(), f'{{"kind":"{kind}"}}'.encode()
    if not archive.make_room(size, limits, kind):
        return None
    files = {"top.png": bytes(size - len(record)), "verdict.json": record}
    archive.write(number, "disc", f"P{number}", files, kind)
    return number


def test_each_kind_has_a_quota_of_its_own_also_after_a_restart(tmp_path: Path) -> None:
    limits = Evidence(max_megabytes=0.001, near_megabytes=0.0005, sample_megabytes=0.0003, min_free=0)
    archive = opened(tmp_path)
    for kind in ("rejects", "near", "sample", "near", "near"):
        assert put_kind(archive, kind, 250, limits) is not None
    assert numbers(tmp_path) == [1, 3, 4, 5]  # the oldest of those near had to go, nothing else
    again = opened(tmp_path)
    assert again.sizes == {"sample": 250, "near": 500, "rejects": 250}
    assert put_kind(again, "sample", 301, limits) is None
    assert put_kind(again, "sample", 250, limits) == 7
    assert numbers(tmp_path) == [1, 4, 5, 7]
    assert again.evicted == {"sample": 1, "near": 0, "rejects": 0}


def test_where_the_disk_is_full_passed_parts_give_way_and_never_a_reject_to_them(tmp_path: Path) -> None:
    others = 0
    archive = Archive(
        tmp_path, lambda _: SimpleNamespace(total=10_000, free=10_000 - others - archive.size)
    )
    archive.open()
    limits = Evidence(max_megabytes=1, near_megabytes=1, sample_megabytes=1, min_free=0.1)
    for kind in ("rejects", "sample", "near", "rejects"):
        put_kind(archive, kind, 1000, limits)
    others = 5000
    assert put_kind(archive, "rejects", 1000, limits) == 5
    assert numbers(tmp_path) == [1, 3, 4, 5]
    assert put_kind(archive, "rejects", 1000, limits) == 6
    assert numbers(tmp_path) == [1, 4, 5, 6]
    assert put_kind(archive, "near", 1000, limits) is None
    assert numbers(tmp_path) == [1, 4, 5, 6]
    assert put_kind(archive, "rejects", 1000, limits) == 8
    assert numbers(tmp_path) == [4, 5, 6, 8]


@pytest.mark.parametrize("record", [b"", b'{"kind":"gold"}', b'{"number":1}', b"\xff"])
def test_an_entry_that_does_not_say_its_kind_gives_way_last(tmp_path: Path, record: bytes) -> None:
    (tmp_path / "evidence" / "disc" / "000001-P1").mkdir(parents=True)
    (tmp_path / "evidence" / "disc" / "000001-P1" / "verdict.json").write_bytes(record)
    assert opened(tmp_path).sizes == {"sample": 0, "near": 0, "rejects": len(record)}


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """`tmp_path` is for its owner only."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


SOMEBODY = """if os.geteuid() == 0:
    for path in (state, state / 'evidence', state / 'evidence' / 'disc'):
        os.chown(path, 54321, 54321)
    os.setgroups([]); os.setgid(54321); os.setuid(54321)
"""
LOOK = """import os, sys
from pathlib import Path
from edge_ad.evidence.archive import Archive
from edge_ad.evidence.find import Query, find_parts
state = Path(sys.argv[1])
""" + SOMEBODY + """
archive = Archive(state)
archive.open()
print(*archive.told, sep="\\n")
print(archive.size)
list(find_parts(state, Query(), print))
"""  # fmt: skip


def test_a_directory_that_may_not_be_read_is_left_out_and_told(open_tmp: Path) -> None:
    """Copied there by root, where the service runs as another user."""
    state = open_tmp / "state"
    put(opened(state), 100)
    old, seventh = (state / "evidence" / one for one in ("old", "disc/000007-P7"))
    for path in (old, seventh):
        path.mkdir()
        path.chmod(0)
    looked = subprocess.run(
        [sys.executable, "-c", LOOK, str(state)], capture_output=True, text=True, check=True
    )
    for path in (old, seventh):
        path.chmod(0o755)
    foreign, size, told = looked.stdout.partition("100\n")
    assert size
    assert [line.split(":")[0] for line in foreign.splitlines()] == [str(seventh), str(old)]
    for line in (
        f"{seventh}/verdict.json: cannot be read (Permission denied)\n",
        f"{old}: is left out, it cannot be read (Permission denied); give the right to read it\n",
    ):
        assert line in told
    assert "000001" in told  # which is no verdict


KEEP = """import os, sys
from pathlib import Path
from edge_ad.config import Evidence
from edge_ad.evidence.archive import Archive
state = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(54321); os.setuid(54321)
archive = Archive(state)
archive.open()
limits = Evidence(max_megabytes=0.001, min_free=0.0)
print(archive.make_room(1000, limits), archive.size, *archive.told, sep="\\n")
archive = Archive(state)
archive.open()
print(archive.size, *archive.told, sep="\\n")
"""


def test_an_entry_that_may_not_be_removed_holds_up_nobody(open_tmp: Path) -> None:
    state = open_tmp / "state"
    put(opened(state), 100)
    first, disc = state / "evidence" / "disc" / "000001-P1", state / "evidence" / "disc"
    first.chmod(0o555)  # as root's are to others
    for path in (state, state / "evidence", disc):
        path.chmod(0o777)
    kept = subprocess.run(
        [sys.executable, "-c", KEEP, str(state)], capture_output=True, text=True, check=True
    )
    room, size, told, again, left = kept.stdout.splitlines()
    assert (room, size, again) == ("True", "0", "0")
    remedy = "cannot be removed (Permission denied); remove it, or give the right to"
    assert told == f"{first}: {remedy}"
    assert left == f"{disc}/.old-000001-P1: {remedy}"
    for path in disc.iterdir():
        path.chmod(0o755)


def test_what_is_nobodys_costs_no_evidence(tmp_path: Path) -> None:
    """A disk of its own has lost+found; people leave files."""
    put(opened(tmp_path), 100)
    evidence = tmp_path / "evidence"
    (evidence / "lost+found" / "#12").mkdir(parents=True)
    (evidence / "disc" / "000001-P1.zip").write_bytes(b"sent to the supplier")
    (evidence / "000009-stray.zip").write_bytes(b"x")
    again = opened(tmp_path)
    assert again.size == 100
    assert put(again, 100) == 2
    told: list[str] = []
    assert list(find_parts(tmp_path, Query(), told.append)) == []
    read_entries(tmp_path, "disc")
    assert not any("lost+found" in line or ".zip" in line for line in told)
