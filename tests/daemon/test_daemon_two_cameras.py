"""Two cameras that see the same parts from two sides, in one picture or two each, missing some."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_station import edge_ad, write_station

from edge_ad.capture.parts import part_defect, part_key, part_lost, part_side
from edge_ad.delivery.wire import read_journal_line

PARTS, RATE, LOST, GOOD = 80, 0.4, 0.15, 40


def uri(camera: int, more: str) -> str:
    return (
        f"synthetic://?seed=3&width=96&height=72&defect_rate={RATE}&good_first={GOOD}&cameras=2"
        f"&camera={camera}{more}"
    )


def two(directory: Path, more: tuple[str, str], shots: tuple[str, ...] = ()) -> Path:
    taken = f"shots = {list(shots)}\n"
    side = f'[[camera]]\nname = "side"\nuri = "{uri(1, more[1])}"\n'
    write_station(directory, uri(0, more[0]), taken + side + taken)
    line = directory / "line.toml"
    line.write_text(line.read_text().replace('station = "line1"', 'station = "line1"\njoin_by = "key"'))
    return line


@pytest.mark.parametrize("shots", [(), ("bright", "dark")], ids=["one picture", "two shots"])
def test_every_part_gets_one_verdict_of_both_sides_or_none(
    tmp_path: Path, shots: tuple[str, ...]
) -> None:
    pictures = len(shots) or 1
    line = two(tmp_path, ("", ""), shots)
    done = edge_ad("calibrate", "-c", line, "--parts", GOOD)
    assert done.returncode == 0, done.stderr
    # As on a line, both are triggered by the same part; opening takes them less than its time.
    lost = f"&parts={PARTS}&lose={LOST / pictures}&fps={12 * pictures}"
    two(tmp_path, (lost, lost), shots)
    journal = tmp_path / "verdicts.jsonl"
    done = edge_ad("run", "-c", line, "--journal", journal)
    assert done.returncode == 0, done.stderr
    lines = [read_journal_line(line) for line in journal.read_bytes().splitlines()]
    found = {header.part: body for header, body in lines}
    assert len(found) == len(lines)
    caught = defective = 0
    for index in range(PARTS):
        missed = [
            part_lost(3, index, camera, LOST / pictures, shot)
            for camera in (0, 1)
            for shot in range(pictures)
        ]
        if all(missed):
            assert part_key(index) not in found
            continue
        body = found[part_key(index)]
        if any(missed):
            assert (body.verdict, body.reason) == ("FAULT", "missing_view")
        elif part_defect(3, index, RATE, GOOD):
            defective += 1
            side = ("top", "side")[part_side(3, index, 2)]
            caught += body.verdict == "REJECT" and body.view.split(".")[0] == side
        else:
            assert body.verdict in ("PASS", "REJECT")
    assert defective >= 6
    assert caught >= 1  # what the tiny network sees, on the side where it is
    assert sum(body.verdict == "PASS" for body in found.values()) >= 25


def test_parts_that_do_not_belong_together_are_not_collected(tmp_path: Path) -> None:
    line = two(tmp_path, ("&lose=0.3", ""))
    done = edge_ad("calibrate", "-c", line, "--parts", 30)
    assert done.returncode == 4
    assert "the cameras show different parts" in done.stderr
    assert "start the daemon" in done.stderr
