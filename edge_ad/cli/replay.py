"""`edge-ad replay`: archived parts through another bundle."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_ad.cli.output import json_option, write_json

if TYPE_CHECKING:
    from edge_ad.replay import Result

# Before NumPy is imported: as in the daemon.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@click.command()
@click.argument("bundle")
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option("--product", help="Whose parts.  [default: the station file's `product`]")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(("rejects", "near", "sample")),
    help="Only these kinds of parts.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(0), default=0, show_default=True, help="The newest N; 0: all."
)
@json_option
def command(
    bundle: str,
    config: Path,
    product: str | None,
    kinds: tuple[str, ...],
    limit: int,
    json_to: str | None,
) -> None:
    """Judge the parts of the evidence by BUNDLE (an id, a path, current or previous), and report those
    whose verdict changes. Nothing on disk changes, and a running daemon keeps its cores.

    Exit code 1: at least one verdict changes.
    """
    from edge_ad.calibrate import open_progress
    from edge_ad.cli.bundle import find_bundle
    from edge_ad.config import load_station
    from edge_ad.errors import CheckFailed
    from edge_ad.replay import replay

    station = load_station(config)
    product = product or station.product
    path = find_bundle(bundle, config, None, product)
    os.nice(10)
    with open_progress(sys.stderr) as progress:
        result = replay(
            station, path, product, kinds, limit, lambda n, total: progress.update("parts", n, total)
        )
    if json_to != "-":
        _show(result)
    if json_to is not None:
        write_json({"replayed": result.replayed, **_fields(result)}, json_to)
    if result.changed:
        raise CheckFailed(f"{len(result.changed)} verdicts change by bundle {result.bundle}")


def _fields(result: Result) -> dict[str, object]:
    import msgspec

    return msgspec.structs.asdict(result)


def _show(result: Result) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    for line in result.damaged:
        click.echo(line, err=True)
    for part in result.skipped:
        click.echo(f"{part.number} {part.key}: not replayed: {part.why}", err=True)
    if result.changed:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("no.", justify="right")
        table.add_column("key", overflow="fold")
        for name in ("was", "x threshold", "now", "x threshold"):
            table.add_column(name, no_wrap=True)
        for one in result.changed:
            table.add_row(
                str(one.number), escape(one.key), escape(one.was),
                _ratio(one.was_score, one.was_threshold), escape(one.now),
                _ratio(one.now_score, one.now_threshold),
            )  # fmt: skip
        Console().print(table)
    click.echo(result.text())


def _ratio(score: float | None, threshold: float | None) -> str:
    return "" if score is None or not threshold else f"{score / threshold:.2f}"
