"""How often the monitor raises a false alarm, and how soon it notices.

    python calibration/studies/drift.py --parts 100000

A synthetic line is calibrated on 120 good parts, then makes good parts only, each scored by the
inspector and measured as the daemon does it; every part is measured here, a daemon takes samples. Then
come parts that are darker, blurred or shifted, 20 times anew, until the first alarm of any statistic.

At last, over many fits of few parts: how often good parts' distances at a level, which one fit moves all
alike, are taken for drift from those of the fitted parts, each by a fit without it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone
from edge_ad.bundle import current_path
from edge_ad.calibrate import Request, calibrate
from edge_ad.capture.parts import render_part
from edge_ad.config import Monitor, parse_station
from edge_ad.frame import Image
from edge_ad.gaussian.view import Features, FitSettings, fit_view
from edge_ad.inspector import Inspector, load
from edge_ad.monitor.cusum import Cusum, limit, slack
from edge_ad.monitor.levels import distance_of, level_means
from edge_ad.monitor.looks import STATISTICS, look
from edge_ad.monitor.reference import Reference, thinned
from edge_ad.monitor.watch import SCORE, Followed
from edge_ad.preprocess import Preprocessor

WIDTH, HEIGHT = 320, 240
PARTS = 120
STATED = (1_000, 10_000, 100_000, 1_000_000)
TURNS = 20
AFTER = 50_000_000  # parts of the stream from which the disturbed ones are taken
FITTED = (20, 30, 60, 120)
POOL = 4_000  # good parts that fits, and further parts, are drawn from
FURTHER = 2_000  # parts after each fit


def darker(image: Image) -> Image:
    """Gain -10 %."""
    return np.asarray(cv2.convertScaleAbs(image, alpha=0.9), np.uint8)


def blurred(image: Image) -> Image:
    """Sigma 1 pixel."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.uint8)


def shifted(image: Image) -> Image:
    """By 5 % of the frame's width."""
    by = np.array([[1, 0, 0.05 * WIDTH], [0, 1, 0]], np.float64)
    return np.asarray(
        cv2.warpAffine(image, by, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


DISTURBED: dict[str, Callable[[Image], Image]] = {
    "gain -10 %": darker, "blur sigma 1": blurred, "shift 5 %": shifted
}  # fmt: skip


def measured(inspector: Inspector, image: Image) -> dict[tuple[str, str], float]:
    """What the monitor takes of a part."""
    verdict = inspector.inspect(image)
    assert verdict.distances is not None
    distances = level_means(verdict.distances).tolist()
    levels = (("", distance_of(level.name)) for level in inspector.bundle.manifest.levels)
    found = {SCORE: verdict.score} | dict(zip(levels, distances, strict=True))
    return found | {("top", one): v for one, v in zip(STATISTICS, look(image), strict=True)}


def stream(first: int, count: int) -> Iterator[Image]:
    """Good parts."""
    for index in range(first, first + count):
        yield render_part(1, index, WIDTH, HEIGHT, 0.0)[0]


def follow(inspector: Inspector, parts: int) -> Followed:
    """The product's own sums for a stated rate."""
    return Followed(Monitor(drift_parts=parts), inspector.bundle, inspector.identity.key, ("top",))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=100_000)
    parser.add_argument("--fits", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        station = parse_station(
            {
                "schema": 1, "station": "study", "state_dir": state,
                "camera": [
                    {
                        "name": "top",
                        "uri": f"synthetic://?seed=1&width={WIDTH}&height={HEIGHT}&defect_rate=0",
                    }
                ],
            }
        )  # fmt: skip
        calibrate(station, Request(parts=PARTS))
        path = current_path(station.state_path, station.product)
        assert path is not None
        inspector = load(path)
        pool = pooled(inspector.bundle.backbone())
    watched = {parts: follow(inspector, parts) for parts in STATED}
    for number, image in enumerate(stream(PARTS, options.parts), 1):
        found = measured(inspector, image)
        for one in watched.values():
            for of, value in found.items():
                one.add(of, value)
        if number % 5_000 == 0:
            print(number, {p: alarms(one) for p, one in watched.items()}, file=sys.stderr, flush=True)
    result: dict[str, object] = {
        "parts": options.parts,
        "false_alarms": {str(parts): alarms(one) for parts, one in watched.items()},
        "parts_to_notice": {name: noticed(inspector, change) for name, change in DISTURBED.items()},
        "levels": {str(n): by_level(pool, inspector, n, options.fits) for n in FITTED},
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def alarms(one: Followed) -> dict[str, int]:
    """By statistic, those that there were."""
    return {of[1]: found.alarms for of, found in one.sums.items() if found.alarms}


def noticed(inspector: Inspector, change: Callable[[Image], Image]) -> dict[str, object]:
    """Parts from the change on, at the default rate."""
    needed, by = [], set()
    for turn in range(TURNS):
        one = follow(inspector, Monitor().drift_parts)
        for number, image in enumerate(stream(AFTER + 1_000 * turn, 1_000), 1):
            raised = [of for of, v in measured(inspector, change(image)).items() if one.add(of, v)]
            if raised:
                needed.append(number)
                by |= {of[1] for of in raised}
                break
    return {
        "noticed": len(needed), "of": TURNS, "median": statistics.median(needed), "most": max(needed),
        "first": sorted(by),
    }  # fmt: skip


def pooled(backbone: Backbone) -> NDArray[np.float32]:
    """Features [POOL, D] of good parts."""
    engine = open_features(backbone, threads=1, local=False)
    preprocessor = Preprocessor(backbone.height, backbone.width)
    rows = []
    for image in stream(0, POOL):
        preprocessor.prepare(image, None, engine.input[0])
        rows.append(engine.infer()[0].copy())
    engine.close()
    return np.stack(rows)


def by_level(
    pool: NDArray[np.float32], inspector: Inspector, parts: int, fits: int
) -> dict[str, object]:
    """Alarms at each level, were it watched alone, at the first stated rate, and the most allowed."""
    levels = inspector.bundle.manifest.levels
    alarms = np.zeros(len(levels), np.int64)
    for seed in range(fits):
        order = np.random.default_rng(seed).permutation(POOL)
        fitted, further = pool[order[:parts]], pool[order[parts : parts + FURTHER]]
        fit = fit_view(Features(fitted), FitSettings(levels))
        seen = fit.score(Features(further)).distances
        for i, good in enumerate(fit.distances.T.tolist()):
            reference = Reference(thinned(good))
            one = Cusum(slack(reference.parts), limit(STATED[0], 1))
            for value in seen[:, i].tolist():
                one.add(reference.z(value))
            alarms[i] += one.alarms
    return {"alarms": alarms.tolist(), "allowed": fits * FURTHER // STATED[0]}


if __name__ == "__main__":
    sys.exit(main())
