"""`edge-ad resolution`: the smallest defect that the bundle in use finds."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_ad.cli.output import json_option, write_json

if TYPE_CHECKING:
    from edge_ad.resolution import Resolution

# Before NumPy is imported: as in the daemon.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option(
    "--from", "directory", required=True, type=click.Path(path_type=Path), metavar="DIR",
    help="Good parts, as 'edge-ad calibrate --from' takes them.",
)  # fmt: skip
@click.option(
    "--sizes", metavar="PX,...",
    help="Camera pixels, smallest first.  [default: 2,3,4,6,8,12,16,24,32,48, where they fit]",
)  # fmt: skip
@click.option("--kinds", default="scratch,pit,stain", show_default=True, metavar="KIND,...")
@click.option("--trials", default=60, show_default=True, type=int, help="Of each kind and size.")
@click.option(
    "--contrast", default=0.3, show_default=True, type=float,
    help="How much darker or brighter a defect is, as a share of the view's white: the grey that 99 % "
    "of its pixels do not exceed.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=int, help="Another one: other places.")
@click.option("--bundle", default="", metavar="ID", help="Instead of the bundle in use.")
@click.option(
    "--pictures", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Write an example of each kind and size there, before and after.",
)  # fmt: skip
@json_option
def command(
    config: Path,
    directory: Path,
    sizes: str | None,
    kinds: str,
    trials: int,
    contrast: float,
    seed: int,
    bundle: str,
    pictures: Path | None,
    json_to: str | None,
) -> None:
    """Put rendered scratches, pits and stains into pictures of good parts and judge them as the daemon
    would.

    Prints per kind and size how many were detected, and the smallest size that, like every larger one,
    is detected in at least 95 % of the trials. Parts that do not pass unaltered are left out and
    counted. Known-bad parts, by 'edge-ad qualify', are the stronger evidence. Exit code 1: no part
    passes unaltered; 4: nothing there can be read.
    """
    from edge_ad.calibrate import open_progress
    from edge_ad.config import load_station
    from edge_ad.resolution import Request, measure
    from edge_ad.resolution.request import parse_kinds, parse_sizes

    station = load_station(config)
    request = Request(
        good=directory, sizes=() if sizes is None else parse_sizes(sizes), kinds=parse_kinds(kinds),
        trials=trials, contrast=contrast, seed=seed, bundle=bundle, pictures=pictures,
    )  # fmt: skip
    os.nice(10)  # a daemon beside it keeps its cores
    with open_progress(sys.stderr) as progress:
        result = measure(station, request, progress)
    if json_to != "-":
        _show(result)
    if json_to is not None:
        write_json(result, json_to)


def _show(result: Resolution) -> None:
    from rich.console import Console

    from edge_ad.resolution.table import resolution_table

    console = Console(width=None if Console().is_terminal else 110, highlight=False)
    console.print(resolution_table(result))
    for name, text in result.summary():
        click.echo(f"{name:<10} {text}")
