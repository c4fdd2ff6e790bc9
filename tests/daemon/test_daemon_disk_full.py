"""A disk that is full, read-only or another one, and a clock that jumps: pictures give way, then scores,
then nothing passes until there is room for verdicts."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from daemon_line import BLACK, Line, good, wait_for
from small_disk import Mount, fill
from tiny_bundle import HEIGHT, WIDTH, make_bundle

from edge_ad.cli.status import command as status_command
from edge_ad.evidence.entry import read_entries
from edge_ad.evidence.find import Query, find_parts
from edge_ad.evidence.score_log import day_files
from edge_ad.frame import Frame, Image

REJECT = "REJECT score"
GATE = {"verdicts": {"consumers": ["gate"]}}


def noise(seed: int) -> Image:
    """A part that is rejected and takes 7 KB."""
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def settled(line: Line) -> bool:
    """Whether the pictures of every rejected part are on the disk, or were shed."""
    evidence = line.daemon.evidence
    return sum(evidence.kept.values()) + sum(evidence.dropped.values()) == line.daemon.loop.rejects


def committed(state: Path) -> int:
    """Verdicts in the outbox."""
    with closing(sqlite3.connect(f"file:{state / 'outbox.db'}?mode=ro", uri=True)) as database, database:
        count: int = database.execute("SELECT count(*) FROM verdicts").fetchone()[0]
    database.close()
    return count


def told_of(state: Path, file: Path) -> list[str]:
    """What `edge-ad status` prints, but for its first line."""
    file.write_text(
        f'schema = 1\nstation = "line1"\nstate_dir = "{state}"\n'
        '[[camera]]\nname = "top"\nuri = "folder:///x"\n'
    )
    asked = CliRunner().invoke(status_command, ["-c", str(file)])
    assert asked.exit_code == 0, asked.exception
    return asked.output.splitlines()[1:]


def test_evidence_on_a_full_disk_of_its_own_gives_way_and_begins_again(
    tmp_path: Path, small_disk: Mount
) -> None:
    make_bundle(tmp_path)
    disk = small_disk(tmp_path / "evidence")
    with Line(
        tmp_path, options={**GATE, "evidence": {"near": 0.0, "min_free": 0.1, "queue": 256}}
    ) as line:

        def dropped(reason: str) -> float:
            return line.metric("edge_ad_evidence_dropped_total", reason=reason) or 0

        line.feed(*map(noise, range(200)))  # more than it holds
        assert set(line.verdicts(200)) == {REJECT}
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="rejects") == 200, 60)
        evicted = line.metric("edge_ad_evidence_evicted_total", kind="rejects")
        assert evicted is not None and 20 < evicted < 150
        assert shutil.disk_usage(disk).free >= 0.1 * shutil.disk_usage(disk).total
        assert dropped("space") == dropped("disk") == 0
        numbers = [entry.number for entry in read_entries(tmp_path, "default")[0]]
        assert numbers == list(range(numbers[0], 201))  # the oldest went
        while not dropped("space"):  # others take what it gives up
            others = fill(disk, 0)
            line.feed(noise(0))
            assert line.verdicts(1) == [REJECT]
            wait_for(lambda: settled(line))
        assert read_entries(tmp_path, "default") == ([], [])
        others.unlink()
        line.feed(noise(1))
        assert line.verdicts(1) == [REJECT]
        wait_for(lambda: settled(line))
        assert len(read_entries(tmp_path, "default")[0]) == 1
        wait_for(lambda: committed(tmp_path) == line.daemon.loop.seq)


def test_pictures_give_way_then_scores_then_nothing_passes(tmp_path: Path, small_disk: Mount) -> None:
    """The state directory on 2 MB, which others fill."""
    state = small_disk(tmp_path / "state")
    make_bundle(state)
    line = Line(state, options={**GATE, "evidence": {"near": 0.0, "min_free": 0.2, "queue": 256}})
    with line:
        space = {"reason": "space"}
        line.feed(*map(noise, range(30)))
        assert set(line.verdicts(30)) == {REJECT}
        wait_for(lambda: line.metric("edge_ad_score_log_parts_total") == 30)
        while not line.metric("edge_ad_evidence_dropped_total", **space):
            fill(state, 300_000)  # 14 %: enough for scores, not for pictures
            line.feed(noise(0))
            assert line.verdicts(1) == [REJECT]
            wait_for(lambda: settled(line))
        assert line.metric("edge_ad_score_log_dropped_total", **space) == 0
        assert shutil.disk_usage(state).free >= 0.1 * shutil.disk_usage(state).total
        fill(state, 150_000)
        line.feed(noise(1), good(1))
        assert line.verdicts(2) == [REJECT, "PASS"]
        wait_for(lambda: (line.metric("edge_ad_score_log_dropped_total", **space) or 0) >= 2)
        parts = line.daemon.loop.seq
        wait_for(lambda: committed(state) == parts)  # with none of both kept, every verdict is
        others = fill(state, 0)
        said = ["PASS"]
        while said != ["FAULT not_kept"]:  # the log of the outbox has room for a few
            assert said == ["PASS"]
            assert line.daemon.loop.seq < parts + 500
            line.feed(good(2))
            said = line.verdicts(1)
        line.feed(noise(2), good(3))
        assert line.verdicts(2) == [REJECT, "FAULT not_kept"]  # what is seen is shown all the same
        assert line.metric("edge_ad_state", state="FAILED") == 1
        status = line.daemon.status()
        assert "disk is full); free some space" in status["why"]
        assert status["verdicts"]["waiting"] >= 3
        why, waiting = told_of(state, tmp_path / "line.toml")[:2]
        assert why == f"FAILED   {status['why']}"
        assert re.fullmatch(r"verdicts \d+ wait for the disk", waiting)
        assert line.code is None
        kept = committed(state)
        assert parts <= kept < line.daemon.loop.seq  # whoever is told nothing rejects
        others.unlink()
        wait_for(lambda: committed(state) == line.daemon.loop.seq)  # none was lost
        wait_for(lambda: line.daemon.state == "RUNNING")
        scores = line.metric("edge_ad_score_log_parts_total") or 0
        line.feed(good(4), noise(4))
        assert line.verdicts(2) == ["PASS", REJECT]
        wait_for(lambda: (line.metric("edge_ad_score_log_parts_total") or 0) >= scores + 2)
        wait_for(lambda: committed(state) == line.daemon.loop.seq)
    assert line.code == 0
    with closing(sqlite3.connect(f"file:{state / 'outbox.db'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT seq, decision FROM verdicts ORDER BY seq").fetchall()
    assert [seq for seq, _ in rows] == list(range(1, line.daemon.loop.seq + 1))
    assert [decision for _, decision in rows[-5:]] == ["FAULT", "REJECT", "FAULT", "PASS", "REJECT"]


def test_a_read_only_disk_costs_evidence_and_scores_alone(tmp_path: Path, small_disk: Mount) -> None:
    make_bundle(tmp_path)
    disks = [small_disk(tmp_path / name) for name in ("evidence", "scores")]
    for disk in disks:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with Line(tmp_path, options=GATE) as line:
        line.feed(BLACK, good(0))
        assert line.verdicts(2) == [REJECT, "PASS"]
        wait_for(lambda: line.metric("edge_ad_evidence_dropped_total", reason="disk") == 1)
        wait_for(lambda: line.metric("edge_ad_score_log_dropped_total", reason="disk") == 2)
        for disk in disks:
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        line.feed(BLACK)
        assert line.verdicts(1) == [REJECT]
        wait_for(lambda: line.metric("edge_ad_evidence_parts_total", kind="rejects") == 1)
        wait_for(lambda: line.metric("edge_ad_score_log_parts_total") == 1)
    assert [entry.key for entry in read_entries(tmp_path, "default")[0]] == ["P2"]


def test_evidence_and_scores_may_be_links_to_another_disk(tmp_path: Path, small_disk: Mount) -> None:
    make_bundle(tmp_path / "state")
    disk = small_disk(tmp_path / "other")
    assert disk.stat().st_dev != (tmp_path / "state").stat().st_dev
    for name in ("evidence", "scores"):
        (disk / name).mkdir()
        (tmp_path / "state" / name).symlink_to(disk / name)
    for _ in range(2):
        with Line(tmp_path / "state") as line:
            line.feed(BLACK)
            assert line.verdicts(1) == [REJECT]
    assert len(list((disk / "evidence" / "default").iterdir())) == 2
    found = list(find_parts(tmp_path / "state", Query(), lambda _: None))
    assert [one.entry.number for one in found if one.entry] == [1, 2]


def test_a_clock_that_jumps_removes_no_evidence_and_hardly_a_day(tmp_path: Path) -> None:
    """By an hour over midnight and back, then by ten years and back."""
    make_bundle(tmp_path)
    midnight = 1_700_092_800  # 2023-11-16
    hour, years = 3600, 10 * 365 * 86_400
    offsets = (-60, hour - 60, -30, years, -hour, 0)
    with Line(tmp_path, options={"evidence": {"scores_days": 2, "queue": 16}}) as line:
        for number, offset in enumerate(offsets):
            wall_ns = (midnight + offset) * 10**9
            line.feed(Frame("top", number, BLACK, time.monotonic_ns(), wall_ns, f"J{number}"))
        assert line.verdicts(6) == [REJECT] * 6
        wait_for(lambda: line.metric("edge_ad_score_log_parts_total") == 6)
        evicted = line.metric("edge_ad_score_log_evicted_total")
    assert [entry.key for entry in read_entries(tmp_path, "default")[0]] == [f"J{n}" for n in range(6)]
    # Three days and room for two: each new file costs the oldest one, never more.
    assert evicted is not None and evicted <= 3
    assert len(day_files(tmp_path)) == 2
    found = [one.row.part for one in find_parts(tmp_path, Query(), lambda _: None)]
    assert sorted(found) == [f"J{n}" for n in range(6)]
