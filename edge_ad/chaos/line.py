"""The line of the chaos run: pictures with known truth, a calibration of the good ones, two files."""

from __future__ import annotations

from pathlib import Path

from edge_ad.bundle import current_path, open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.calibration_set import encode_frame
from edge_ad.capture.parts import part_defect, part_key, render_part
from edge_ad.chaos.plan import BAD_SHARE, POOL, Options
from edge_ad.config import Station, load_station
from edge_ad.engines import EngineChoice
from edge_ad.errors import CheckFailed
from edge_ad.inspector import open_inspector

WIDTH, HEIGHT = 320, 240
GOOD = 60  # parts to calibrate with, those of the pool among them
TRIES = 8  # streams of pictures, until every defect in the pool is found
BEAT_MS = 100.0

_LINE = """\
schema = 1
station = "chaos"
product = "plate"
deadline_ms = {deadline_ms}

[[camera]]
name = "top"
uri = "synthetic://?seed={seed}&width={width}&height={height}&pool={pool}&defect_rate={bad}"

[trigger]
kind = "message"
frame_ms = {deadline_ms}

[verdicts]
consumers = ["gate"]

[calibration]
false_reject_rate = 0.02

[scores]
endpoint = "ipc://{directory}/scores.sock"

[metrics]
port = 0
"""

# The PASS signal may begin and end a third of the pitch from the gate: a loaded machine is late.
_GATE = """\
schema = 1
station = "chaos"
product = "plate"
state_dir = "station"

[[source]]
name = "line"
endpoint = "{verdicts}"

[belt]
travel_ms = {travel_ms}
before = {near_ms}
after = {near_ms}
deadline_ms = {travel_ms}

[present]
uri = "ipc://{directory}/present.sock"

[output]
uri = "ipc://{directory}/gate.sock"
heartbeat_ms = {beat_ms}

[metrics]
port = 0
"""


def make_line(directory: Path, options: Options) -> tuple[Station, list[bool]]:
    """Write line.toml and gate.toml and calibrate; returns the station, and which pictures of the pool
    are bad. Raises CheckFailed where the network does not tell good and bad apart."""
    for attempt in range(TRIES):
        seed = options.seed * TRIES + attempt
        station = _write(directory, options, seed)
        _calibrate(station, directory / f"good{attempt}", seed)
        bad = [bool(part_defect(seed, number, BAD_SHARE)) for number in range(POOL)]
        if any(bad) and _judged(station, seed) == bad:
            return station, bad
    raise CheckFailed(
        f"chaos: of {TRIES} sets of pictures none is told apart without a mistake; give another --seed"
    )


def _write(directory: Path, options: Options, seed: int) -> Station:
    path = directory / "line.toml"
    path.write_text(
        _LINE.format(
            directory=directory, seed=seed, width=WIDTH, height=HEIGHT, pool=POOL, bad=BAD_SHARE,
            deadline_ms=0.75 * options.travel_ms,
        ),
        encoding="utf-8",
    )  # fmt: skip
    station = load_station(path)
    (directory / "gate.toml").write_text(
        _GATE.format(
            directory=directory, verdicts=station.verdicts_endpoint, travel_ms=options.travel_ms,
            near_ms=round(options.pitch_ns / 3e6, 3), beat_ms=BEAT_MS,
        ),
        encoding="utf-8",
    )  # fmt: skip
    return station


def _calibrate(station: Station, good: Path, seed: int) -> None:
    good.mkdir()
    number = 0
    while len(list(good.iterdir())) < GOOD:
        # What is good in the pool, and more of its kind.
        image, defect = render_part(seed, number, WIDTH, HEIGHT, BAD_SHARE)
        if not defect:
            (good / f"{part_key(number)}.png").write_bytes(encode_frame(image))
        number += 1
    calibrate(station, Request(directory=good))


def _judged(station: Station, seed: int) -> list[bool]:
    """Which pictures of the pool the station's bundle rejects."""
    path = current_path(station.state_path, station.product)
    assert path is not None
    inspector = open_inspector(open_bundle(path), EngineChoice(threads=1))
    try:
        return [
            not inspector.inspect(render_part(seed, number, WIDTH, HEIGHT, BAD_SHARE)[0]).passed
            for number in range(POOL)
        ]
    finally:
        inspector.close()
