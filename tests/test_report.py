from __future__ import annotations

import re
from io import StringIO

import numpy as np
import pytest

from edge_ad.calibrate.progress import Plain
from edge_ad.report.histogram import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, histogram_svg


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [
        ([5.0] * 30, 5.0),
        ([1e-9, 2e-9, 3e-9], 2.5e-9),
        ([0.0, 1e6], 3.0),
        ([7.0], 100.0),
        (list(np.random.default_rng(0).gamma(9, 10, 700)), 150.0),
    ],
)
def test_every_part_is_in_the_picture(scores: list[float], threshold: float) -> None:
    svg = histogram_svg(scores, threshold)
    ticks = [int(t) for t in re.findall(r'text-anchor="end">(\d+)</text>', svg)]
    scale = (HEIGHT - TOP - BOTTOM) / max(ticks)
    bars = re.findall(r'class="(\w+)" x="([\d.]+)" width="([\d.]+)" y="[\d.]+" height="([\d.]+)"', svg)
    for side, above in (("pass", False), ("reject", True)):
        drawn = sum(float(height) / scale for name, _, _, height in bars if name == side)
        assert drawn == pytest.approx(sum((s > threshold) == above for s in scores), abs=0.1 * len(bars))
    assert all(float(x) >= LEFT and float(x) + float(w) <= WIDTH - RIGHT + 1 for _, x, w, _ in bars)
    assert f"threshold {threshold:.5g}" in svg


def test_plain_progress_says_rate_and_time_left_now_and_then() -> None:
    now = [0.0]
    out = StringIO()
    progress = Plain(out, lambda: now[0])
    for done in range(101):
        progress.update("features", done, 100)
        now[0] += 0.125
    progress.update("fitting", 0, 1)
    progress.note("a note")
    lines = out.getvalue().splitlines()
    assert lines == [
        "features   40/100  8.0/s, 8 s left",
        "features   80/100  8.0/s, 2 s left",
        "features   100/100  8.0/s",
        "a note",
    ]
