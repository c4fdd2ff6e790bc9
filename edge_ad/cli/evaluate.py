"""`edge-ad evaluate`: how well good and defective parts of a data set are told apart."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import load_backbone
from edge_ad.capture.images import printable
from edge_ad.capture.pixels import FORMATS, file_rule
from edge_ad.cli.output import json_option, write_json
from edge_ad.config import EMBEDDED_BACKBONE
from edge_ad.errors import ConfigError
from edge_ad.evaluate.dataset import find_datasets
from edge_ad.evaluate.paper import choose_levels, evaluate_paper
from edge_ad.evaluate.result import Evaluation, summarise
from edge_ad.evaluate.table import evaluation_tables, summary_table
from edge_ad.gaussian.subspace import Reduction

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--backbone", type=click.Path(path_type=Path), metavar="DIR", help="Default: the one in the package."
)
@click.option("--profile", type=click.Choice(["paper"]), default="paper", show_default=True)
@click.option("--npca", type=SHARE, help='Keep the last share of variance: 0.01 is "NPCA 1 %".')
@click.option("--pca", type=SHARE, help="Keep the first share of variance, as 0.99.")
@click.option("--levels", metavar="NAMES", default="", help="Comma-separated. Default: all.")
@click.option(
    "--false-reject-rate",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
)
@click.option("--pixel-format", type=click.Choice(FORMATS), default="auto", show_default=True)
@click.option("--bit-depth", type=click.IntRange(0, 16), default=0, help="Of mono10, mono12, mono16.")
@click.option("--threads", type=click.IntRange(0, 256), default=0, help="0: one per physical core.")
@json_option
def command(
    dataset: Path,
    backbone: Path | None,
    profile: str,
    npca: float | None,
    pca: float | None,
    levels: str,
    false_reject_rate: float,
    pixel_format: str,
    bit_depth: int,
    threads: int,
    json_to: str | None,
) -> None:
    """Fit on DATASET/train/good, measure on DATASET/test (MVTec layout), or on each class below it."""
    reduction = Reduction.from_shares(pca=pca or 0.0, npca=npca or 0.0)
    rule = file_rule(pixel_format, bit_depth)
    datasets = find_datasets(dataset)
    network = load_backbone(_backbone(backbone))
    chosen = choose_levels(network, [name.strip() for name in levels.split(",") if name.strip()])
    engine = open_features(network, threads=threads)
    results: list[Evaluation] = []
    errors = Console(stderr=True)
    try:
        with _progress(errors) as progress:
            task = progress.add_task("", total=sum(d.size for d in datasets))
            advance = partial(progress.advance, task)
            for d in datasets:
                progress.update(task, description=escape(d.name))
                result = evaluate_paper(
                    d, network, engine, rule, chosen, reduction, false_reject_rate, advance
                )
                results.append(result)
    finally:
        engine.close()
    for result in results:
        for line in result.unreadable + [f"{result.dataset}/{f}: no images" for f in result.empty]:
            click.echo(f"skipped: {line}", err=True)
    if json_to != "-":
        console = Console(width=None if Console().is_terminal else 110)
        for result in results:
            console.print(evaluation_tables(result))
        if len(results) > 1:
            console.print(summary_table(summarise(printable(dataset), results)))
    if json_to is not None:
        one = len(results) == 1
        write_json(results[0] if one else summarise(printable(dataset), results), json_to)


def _backbone(given: Path | None) -> Path:
    if given is not None:
        return given
    if not (EMBEDDED_BACKBONE / "backbone.json").is_file():
        raise ConfigError(
            "no backbone comes with this installation; give --backbone DIR, which "
            "'edge-ad backbone export NAME -o DIR' writes"
        )
    return EMBEDDED_BACKBONE


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
