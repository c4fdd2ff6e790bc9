"""Power cuts: whatever of the unsynced writes the disk took, no REJECT or FAULT that was committed is
lost, and no number is given twice."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import power_cut
import pytest
from power_cut import Action

from edge_ad.delivery.outbox import Outbox

Verdict = tuple[str, int, str]


def record(directory: Path, trace: Path, seed: int) -> list[Action]:
    """Run the program under strace."""
    strace = shutil.which("strace")
    assert strace is not None, "strace is not installed"
    subprocess.run(
        [
            strace, "-f", "-y", "-xx", "-e", "quiet=all", "-s", "1000000", "-o", str(trace),
            "-e", f"trace={power_cut.TRACE}",
            sys.executable, power_cut.__file__, str(directory), str(seed),
        ],
        check=True, stdout=subprocess.DEVNULL, timeout=240,
    )  # fmt: skip
    return power_cut.read_trace(trace, directory)


def said(actions: list[Action]) -> tuple[list[Verdict], list[Verdict], list[str]]:
    """What was given, what was committed for good, and the epochs that were begun, up to here."""
    given: list[Verdict] = []
    safe: list[Verdict] = []
    epochs: list[str] = []
    for action in actions:
        if action.kind != "say":
            continue
        word, *rest = action.data.decode().split()
        if word == "begun":
            epochs += rest
            continue
        verdicts = [(e, int(s), d) for e, s, d in (text.split(":") for text in rest if ":" in text)]
        if word == "given":
            given += verdicts
        elif any(d != "PASS" for _, _, d in verdicts):
            # What was committed before it lies before it in the log: that is safe as well.
            safe = given[: given.index(verdicts[-1]) + 1]
    return given, safe, epochs


def check(directory: Path, files: dict[str, bytes], actions: list[Action]) -> int:
    """Start on what a cut left; returns how many verdicts are there."""
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    given, safe, epochs = said(actions)
    outbox = Outbox(directory / "outbox.db", "after", ("gate",), time.monotonic_ns, time.time_ns)
    try:
        assert outbox.quarantined == ""
        rows = outbox.read((0, 0), 10_000)
        have = [(kept.epoch, kept.position[1]) for kept in rows]
        assert have == [(e, s) for e, s, _ in given][: len(have)] or _ends_only(have, given)
        assert set(have) >= {(e, s) for e, s, _ in safe}
        assert set(epochs) <= set(outbox._ids)  # so that none is begun again
        assert outbox.epoch_id == max(outbox._ids.values())
        assert len(have) == len(set(have))
    finally:
        outbox.close()
    shutil.rmtree(directory)
    return len(have)


def _ends_only(have: list[tuple[str, int]], given: list[Verdict]) -> bool:
    """Whether of each epoch nothing but its end is missing, and all is in order."""
    order = {(e, s): i for i, (e, s, _) in enumerate(given)}
    places = [order[verdict] for verdict in have]
    seqs: dict[str, list[int]] = {}
    for epoch, seq in have:
        seqs.setdefault(epoch, []).append(seq)
    return places == sorted(places) and all(s == list(range(1, len(s) + 1)) for s in seqs.values())


def _cut(tmp_path: Path, cuts: int, seed: int) -> None:
    work = tmp_path / "work"
    work.mkdir()
    actions = record(work, tmp_path / "trace", seed)
    kinds = [action.kind for action in actions]
    assert kinds.count("sync") > 100
    assert kinds.count("say") > 300
    rng = random.Random(seed)
    counts = []
    for number in range(cuts):
        until = actions[: rng.randrange(1, len(actions) + 1)]
        counts.append(check(tmp_path / f"cut{number}", power_cut.image(until, rng), until))
    assert max(counts) > 200
    lost = [len(said(actions)[0]) - count for count in counts]
    assert min(lost) >= 0


def test_240_power_cuts_lose_no_reject_and_reuse_no_number(tmp_path: Path) -> None:
    _cut(tmp_path, 240, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_5000_power_cuts(tmp_path: Path, seed: int) -> None:
    _cut(tmp_path, 1000, seed)


def test_a_cut_takes_what_was_not_synced() -> None:
    """The simulation itself: it can lose, tear and keep."""
    actions = [
        Action("create", "a"), Action("directory", ""), Action("write", "a", 0, b"1" * 1024),
        Action("sync", "a"),
        Action("write", "a", 0, b"2" * 1024), Action("write", "a", 1024, b"3" * 1024),
    ]  # fmt: skip
    found = {power_cut.image(actions, random.Random(seed))["a"] for seed in range(2000)}
    assert b"1" * 1024 in found
    assert b"2" * 1024 + b"3" * 1024 in found
    assert b"1" * 1024 + b"3" * 1024 in found
    assert b"2" * 512 + b"1" * 512 in found
    assert all(len(data) >= 1024 for data in found)
