"""Whether a candidate bundle that judges beside the one in use makes verdicts later.

    python calibration/studies/shadow.py --rounds 6 --seconds 40

A daemon inspects a rendered line; in turn a candidate judges its parts too, and none does. The latencies
of all parts, from the trigger to the verdict, are those that the daemon keeps.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from edge_ad.capture.parts import render_part
from edge_ad.evidence.score_log import day_files

WIDTH, HEIGHT, PARTS = 640, 480, 60
SETTLE_S = 5.0  # after a change, which is not measured
LINE = """schema = 1
station = "line1"
state_dir = "state"
[[camera]]
name = "top"
uri = "synthetic://?width={width}&height={height}&defect_rate=0&fps={fps}"
[metrics]
port = 0
[evidence]
min_free = 0.0
"""


def edge_ad(*arguments: str) -> None:
    """A command that must end well."""
    subprocess.run([sys.executable, "-m", "edge_ad", *arguments], check=True, stdout=subprocess.DEVNULL)


def latencies(state: Path, phases: list[tuple[int, int]]) -> list[float]:
    """Milliseconds of the parts that were triggered within the phases, wall time in ns."""
    found: list[float] = []
    for file in day_files(state):
        with closing(sqlite3.connect(f"file:{file.path}?mode=ro", uri=True)) as database:
            for begin, end in phases:
                rows = database.execute(
                    "SELECT latency_ms FROM scores WHERE t_wall_ns BETWEEN ? AND ?", (begin, end)
                )
                found += [row[0] for row in rows]
    return found


def main() -> int:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each way in each round")
    parser.add_argument("--fps", type=float, default=10.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        file, good = home / "line.toml", home / "good"
        file.write_text(LINE.format(width=WIDTH, height=HEIGHT, fps=arguments.fps))
        good.mkdir()
        for index in range(PARTS):
            cv2.imwrite(str(good / f"{index}.png"), render_part(1, index, WIDTH, HEIGHT, 0.0)[0])
        edge_ad("calibrate", "-c", str(file), "--from", str(good))
        edge_ad("calibrate", "-c", str(file), "--refit", "--shadow")
        candidate = (home / "state" / "bundles" / "default" / "candidate").readlink().name
        phases: dict[str, list[tuple[int, int]]] = {"alone": [], "with a candidate": []}
        daemon = subprocess.Popen(
            [sys.executable, "-m", "edge_ad", "run", "-c", str(file)], stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(SETTLE_S)
            for _ in range(arguments.rounds):
                for way, order in (("alone", "--stop"), ("with a candidate", candidate)):
                    edge_ad("bundle", "shadow", order, "-c", str(file))
                    time.sleep(SETTLE_S)
                    begin = time.time_ns()
                    time.sleep(arguments.seconds)
                    phases[way].append((begin, time.time_ns()))
        finally:
            daemon.terminate()
            daemon.wait()
        print("| | parts | p50 | p90 | p99 | largest |\n|---|---|---|---|---|---|")
        for way, those in phases.items():
            took = latencies(home / "state", those)
            marks = " | ".join(f"{np.percentile(took, p):.1f} ms" for p in (50, 90, 99, 100))
            print(f"| {way} | {len(took)} | {marks} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
