"""`edge-ad bench`: what this machine does, inside the running daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_ad.cli.output import json_option, write_json

if TYPE_CHECKING:
    from edge_ad.bench import Result
    from edge_ad.config import Profile

# As `edge-ad run` does, before NumPy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROWS = {
    "engine_p50_ms": "engine alone, p50",
    "path_p50_ms": "whole path, p50",
    "ratio_p50": "ratio",
    "preprocess_p50_ms": "  resize",
    "scoring_p50_ms": "  engine with Gaussians",
    "verdict_p50_ms": "  verdict",
    "hand_over_p50_ms": "  hand-over",
    "path_p99_ms": "whole path, p99",
    "path_p999_ms": "whole path, p99.9",
    "path_max_ms": "whole path, longest",
    "dropped": "dropped",
}


@click.command()
@click.option("--backbone", type=click.Path(path_type=Path), metavar="DIR",
              help="What 'backbone export' wrote. Default: the built-in network.")  # fmt: skip
@click.option("--beside", type=click.Path(path_type=Path), metavar="DIR",
              help="The network whose bare engine is compared with. Default: the same.")  # fmt: skip
@click.option("--frames", type=click.IntRange(10, 10_000_000), default=2000, show_default=True)
@click.option("--width", type=click.IntRange(32, 8192), default=1920, show_default=True)
@click.option("--height", type=click.IntRange(32, 8192), default=1200, show_default=True)
@click.option("--reject-rate", type=click.FloatRange(0, 0.5), default=0.05, show_default=True)
@click.option("--profile", type=click.Choice(["default", "paper"]), default="default", show_default=True)
@click.option("--tiles", type=click.IntRange(1, 32), nargs=2, default=(1, 1), metavar="ROWS COLUMNS",
              help="Of the frame; one batch of the network.  [default: 1 1]")  # fmt: skip
@click.option("--threads", type=click.IntRange(0, 256), default=0, show_default=True,
              help="Of the engine; 0: one per physical core.")  # fmt: skip
@json_option
def command(
    backbone: Path | None,
    beside: Path | None,
    frames: int,
    width: int,
    height: int,
    reject_rate: float,
    profile: Profile,
    tiles: tuple[int, int],
    threads: int,
    json_to: str | None,
) -> None:
    """Time the path from a frame in hand to its verdict at the publisher, beside the engine alone.

    Runs the daemon on rendered Mono8 parts, one after the other as they are judged: once quiet, once
    with a ZeroMQ subscriber and a scrape of the metrics every second. The bare engine runs in turn.
    """
    import edge_ad
    from edge_ad.backbone.spec import load_backbone
    from edge_ad.bench import Options, run_bench

    directory = backbone or Path(edge_ad.__file__).parent / "backbone/embedded"
    options = Options(
        load_backbone(directory), frames, width, height, reject_rate, threads, profile,
        beside=None if beside is None else load_backbone(beside), tiles=tiles,
    )  # fmt: skip
    result = run_bench(options, say=lambda text: click.echo(text, err=True))
    if json_to != "-":
        _show(result)
    if json_to is not None:
        write_json(result, json_to)


def _show(result: Result) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("ms")
    table.add_column("quiet", justify="right")
    table.add_column("subscriber and scrapes", justify="right")
    for key, text in ROWS.items():
        values = (getattr(run, key) for run in (result.quiet, result.loaded))
        table.add_row(text, *(str(v) if isinstance(v, int) else f"{v:.3f}" for v in values))
    click.echo(f"{result.device}, {result.threads} threads, OpenVINO {result.runtime.partition('-')[0]}")
    click.echo(f"{result.backbone} at {result.input}, sha256 {result.backbone_sha256[:12]}")
    rows, columns = result.tiles
    click.echo(f"profile {result.profile}, {rows} x {columns} tiles")
    click.echo(f"the engine alone is {result.engine}, without Gaussians")
    Console(highlight=False).print(table)
