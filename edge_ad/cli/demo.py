"""`edge-ad demo`: a rendered production line, end to end."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_ad.cli.output import json_option, write_json
from edge_ad.errors import CheckFailed

if TYPE_CHECKING:
    from edge_ad.config import EngineKind


@click.command()
@click.option("--parts", type=click.IntRange(10, 1_000_000), default=1500, show_default=True,
              help="Parts to inspect.")  # fmt: skip
@click.option("--good-parts", type=click.IntRange(20, 100_000), default=300, show_default=True,
              help="Parts to calibrate with.")  # fmt: skip
@click.option("--fps", type=click.FloatRange(1, 1000), default=40.0, show_default=True,
              help="Parts per second.")  # fmt: skip
@click.option("--defect-rate", type=click.FloatRange(0, 1), default=0.08, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31), default=1, show_default=True)
@click.option("--backbone", type=click.Path(path_type=Path), metavar="DIR",
              help="Another network than the one that comes with edge_ad.")  # fmt: skip
@click.option("--engine", type=click.Choice(["openvino", "tensorrt", "torch"]), default="openvino",
              show_default=True, help="tensorrt and torch: on an NVIDIA GPU.")  # fmt: skip
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR",
              help="Work there and leave everything: station file, bundle, journal, logs.")  # fmt: skip
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE",
              help="Save the last screen as a picture.")  # fmt: skip
@click.option("--plc", is_flag=False, flag_value=100, type=click.IntRange(0, 100_000), default=0,
              metavar="[PARTS]",
              help="At the end so many parts (100) through a simulated PLC, over Modbus.")  # fmt: skip
@json_option
def command(
    parts: int,
    good_parts: int,
    fps: float,
    defect_rate: float,
    seed: int,
    backbone: Path | None,
    engine: EngineKind,
    keep: Path | None,
    svg: Path | None,
    plc: int,
    json_to: str | None,
) -> None:
    """Render parts, calibrate on good ones, run the daemon on the rest, compare everything.

    No camera, no download, no root. Exit code 0 only if the daemon's journal and a ZeroMQ consumer agree
    part by part, the engine that was asked for judged every part, and no more good parts are rejected
    than the calibration promises. With --plc the daemon also runs with triggers by message, beside
    'edge-ad plc' and a simulated PLC: each trigger must end in exactly one result and gate action.
    """
    from rich.console import Console

    from edge_ad.demo import Options, run_demo
    from edge_ad.demo.screen import COLUMNS, Screen, final_picture, final_screen

    # As with Ctrl-C, no process is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(quiet=json_to == "-", highlight=False)
    if not console.is_terminal:
        console.width = COLUMNS
    options = Options(parts, good_parts, fps, defect_rate, seed, backbone, keep, engine, plc)
    with Screen(console) as screen:
        result, progress = run_demo(options, screen.show)
    console.print(final_screen(progress, result, console.width, pictures=console.is_terminal))
    if svg is not None:
        svg.write_text(final_picture(progress, result), encoding="utf-8")
    if json_to is not None:
        write_json(result, json_to)
    if not result.ok:
        raise CheckFailed("; ".join(result.problems))
