"""Every part's score is kept on disk, whatever its verdict, and nobody waits for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from daemon_line import BLACK, Line, good, wait_for
from tiny_bundle import make_bundle

from edge_ad.evidence.score_file import Row
from edge_ad.evidence.score_log import day_files


def kept(state: Path) -> list[Row]:
    rows = []
    for file in day_files(state):
        with closing(sqlite3.connect(f"file:{file.path}?mode=ro", uri=True)) as database, database:
            rows += [Row(*row) for row in database.execute("SELECT * FROM scores ORDER BY epoch, seq")]
    return rows


def test_every_part_is_kept_with_what_was_published(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    with Line(tmp_path) as line:
        line.feed(good(0), BLACK, None)
        said = [line.verdict() for _ in range(2)]
    rows = kept(tmp_path)
    assert [(row.part, row.verdict, row.reason) for row in rows] == [
        ("P0", "PASS", ""), ("P1", "REJECT", "score"),
    ]  # fmt: skip
    for row, (header, body) in zip(rows, said, strict=True):
        assert (row.epoch, row.seq, row.t_wall_ns) == (header.epoch, header.seq, header.t_wall_ns)
        assert (row.product, row.bundle, row.engine) == ("default", header.bundle, body.engine)
        assert (row.score, row.threshold, row.view) == (body.score, body.threshold, body.view)
        assert row.latency_ms == pytest.approx(body.latency_ms)
    assert rows[0].bundle in (bundle / "manifest.sha256").read_text()


def test_it_is_measured_and_a_disk_that_refuses_changes_no_verdict(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    (tmp_path / "scores").write_text("no directory")
    with Line(tmp_path) as line:
        line.feed(BLACK, good(0))
        assert line.verdicts(2) == ["REJECT score", "PASS"]
        wait_for(lambda: line.metric("edge_ad_score_log_dropped_total", reason="disk") == 2)
        assert line.daemon.status()["scores_not_kept"] == 2
        (tmp_path / "scores").unlink()
        line.feed(good(1))
        assert line.verdicts(1) == ["PASS"]
        wait_for(lambda: line.metric("edge_ad_score_log_parts_total") == 1)
        assert line.metric("edge_ad_score_log_files") == 1
        size = line.metric("edge_ad_score_log_bytes")
        assert size is not None and size > 0
    assert [row.part for row in kept(tmp_path)] == ["P2"]
