"""`edge-ad qualify`: how many bad parts the bundle in use would let escape."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_ad.cli.output import json_option, write_json

if TYPE_CHECKING:
    from edge_ad.qualify import Result

# Before NumPy is imported: as in the daemon.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class _Share(click.FloatRange):
    """A share from 0 to 1; NaN, which no comparison refuses, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        share: float = super().convert(value, param, ctx)
        if share != share:
            self.fail(f"{value} is not in the range 0<=x<=1.", param, ctx)
        return share


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option(
    "--bad", required=True, type=click.Path(path_type=Path), metavar="DIR",
    help="Known-bad parts; each folder in it is a kind of defect.",
)  # fmt: skip
@click.option(
    "--repeat", type=click.Path(path_type=Path), metavar="DIR",
    help="Parts pictured many times; each folder in it is one part.",
)  # fmt: skip
@click.option(
    "--min-detection", type=_Share(0, 1), metavar="RATE",
    help="Exit code 1 when a kind of defect is detected less often.",
)  # fmt: skip
@click.option("--bundle", default="", metavar="ID", help="Instead of the bundle in use.")
@json_option
def command(
    config: Path,
    bad: Path,
    repeat: Path | None,
    min_detection: float | None,
    bundle: str,
    json_to: str | None,
) -> None:
    """Judge known-bad parts as the daemon would, and keep the result with the bundle.

    Prints per kind of defect how many were detected, and the rate that holds with 95 % confidence;
    report.html shows every miss. With several cameras each kind has a folder per camera, the pictures of
    one part named alike. A running daemon then exports the result as metrics. Exit code 1: below
    --min-detection (the result is kept all the same); 4: nothing there can be read or judged.
    """
    from edge_ad.calibrate import open_progress
    from edge_ad.config import load_station
    from edge_ad.errors import CheckFailed, DeliveryError
    from edge_ad.qualify import Request, qualify

    station = load_station(config)
    os.nice(10)  # a daemon beside it keeps its cores
    with open_progress(sys.stderr) as progress:
        result = qualify(station, Request(bad=bad, repeat=repeat, bundle=bundle), progress)
    below = [] if min_detection is None else result.below(min_detection)
    if json_to != "-":
        _show(result)
    if json_to is not None:
        summary = {
            "ok": not below,
            "below": below,
            "min_detection": min_detection,
            "path": str(result.path),
            "daemon": result.daemon,
            "qualification": result.qualification,
        }
        write_json(summary, json_to)
    if below:
        raise CheckFailed(result.below_text(below, min_detection or 0.0))
    if not result.daemon_took_it:
        raise DeliveryError(result.daemon)


def _show(result: Result) -> None:
    from rich.console import Console

    from edge_ad.qualify.table import notes, result_tables

    console = Console(width=None if Console().is_terminal else 110, highlight=False)
    console.print(result_tables(result.measured))
    for line in notes(result.measured):
        click.echo(line)
    for name, text in result.summary():
        click.echo(f"{name:<10} {text}")
