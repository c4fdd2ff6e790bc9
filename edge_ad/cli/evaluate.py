"""`edge-ad evaluate`: how well good and defective parts of a data set are told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import get_args

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone, Level, load_backbone
from edge_ad.capture.images import printable
from edge_ad.capture.pixels import FORMATS, PixelRule, file_rule
from edge_ad.cli.output import json_option, write_json
from edge_ad.config import EMBEDDED_BACKBONE, PAPER, Profile
from edge_ad.errors import ConfigError
from edge_ad.evaluate.dataset import SPLITS, Dataset, Found, Split, find_datasets, take_split
from edge_ad.evaluate.extract import Rig
from edge_ad.evaluate.page import render_page
from edge_ad.evaluate.protocol import mvtec_classes, run_protocol
from edge_ad.evaluate.protocol_table import protocol_tables
from edge_ad.evaluate.result import Evaluation, summarise
from edge_ad.evaluate.run import Options, evaluate_class, masks_of
from edge_ad.evaluate.table import evaluation_tables, summary_table
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.view import FitSettings

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--backbone", type=click.Path(path_type=Path), metavar="DIR", help="Default: the one in the package."
)
@click.option("--profile", type=click.Choice(get_args(Profile)), default="default", show_default=True)
@click.option("--npca", type=SHARE, help='Keep the last share of variance: 0.01 is "NPCA 1 %".')
@click.option("--pca", type=SHARE, help="Keep the first share of variance, as 0.99.")
@click.option("--levels", metavar="NAMES", default="", help="Comma-separated. Default: the profile's.")
@click.option(
    "--false-reject-rate",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
)
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="all",
    show_default=True,
    help="Only defects whose file name has an even or odd sha256: choose on one half, score the other.",
)
@click.option(
    "--baselines", is_flag=True, help="The publication's baselines and component analysis too."
)
@click.option(
    "--protocol",
    type=click.Choice(["paper"]),
    help="The publication's: MVTec AD's 15 classes in 5 folds, beside its numbers.",
)
@click.option("--pixel-format", type=click.Choice(FORMATS), default="auto", show_default=True)
@click.option("--bit-depth", type=click.IntRange(0, 16), default=0, help="Of mono10, mono12, mono16.")
@click.option("--threads", type=click.IntRange(0, 256), default=0, help="0: one per physical core.")
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a page with plots and pictures.",
)
@json_option
def command(
    dataset: Path,
    backbone: Path | None,
    profile: Profile,
    npca: float | None,
    pca: float | None,
    levels: str,
    false_reject_rate: float,
    split: Split,
    baselines: bool,
    protocol: str | None,
    pixel_format: str,
    bit_depth: int,
    threads: int,
    html: Path | None,
    json_to: str | None,
) -> None:
    """Fit on DATASET/train/good, measure on DATASET/test (MVTec layout), or on each class below it."""
    reduction = Reduction.from_shares(pca=pca or 0.0, npca=npca or 0.0)
    rule = file_rule(pixel_format, bit_depth)
    found = find_datasets(dataset)
    network = load_backbone(_backbone(backbone))
    chosen = choose_levels(network, [name.strip() for name in levels.split(",") if name.strip()])
    for line in found.incomplete:
        click.echo(f"incomplete class: {line}", err=True)
    if protocol is not None:
        _refuse_with_protocol(html, baselines, split)
        _run_protocol(dataset, found, network, rule, threads, chosen, reduction, json_to)
        return
    found = Found([take_split(d, split) for d in found.classes], found.incomplete)
    options = Options(
        profile=profile,
        settings=FitSettings(levels=chosen, reduction=reduction, grid=_grid(profile, network)),
        target=false_reject_rate,
        baselines=baselines,
        page=html is not None,
        classes=len(found.classes),
    )
    _evaluate(dataset, found, network, rule, threads, options, html, json_to)


def choose_levels(backbone: Backbone, names: Sequence[str]) -> list[Level]:
    """The backbone's levels of these names, in the backbone's order; all of them without names."""
    known = [level.name for level in backbone.levels]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"--levels: no level {unknown[0]!r} in {backbone.name}; have {','.join(known)}"
        )
    return [level for level in backbone.levels if not names or level.name in names]


def _grid(profile: Profile, backbone: Backbone) -> tuple[int, int] | None:
    """Rows and columns of the positions that are fitted; none in the publication's profile."""
    if profile == PAPER:
        return None
    if backbone.local is None:
        raise ConfigError(
            f"--profile {profile}: {backbone.name} gives no features per position; export it again, or "
            f"use --profile {PAPER}"
        )
    return backbone.local.rows, backbone.local.columns


def _evaluate(
    directory: Path,
    found: Found,
    network: Backbone,
    rule: PixelRule,
    threads: int,
    options: Options,
    html: Path | None,
    json_to: str | None,
) -> None:
    masks = [masks_of(d) for d in found.classes]
    results: list[Evaluation] = []
    bodies: list[str] = []
    local = options.settings.grid is not None
    with _opened(network, rule, threads, found.classes, local) as (rig, describe):
        for d, of_class in zip(found.classes, masks, strict=True):
            describe(d.name)
            result, body = evaluate_class(d, of_class, rig, options)
            results.append(result)
            bodies.append(body)
    for result in results:
        for line in result.left_out:
            click.echo(f"left out: {line}", err=True)
    several = len(results) > 1
    summary = summarise(printable(directory), results, found.incomplete) if several else None
    if json_to != "-":
        console = _console()
        for result in results:
            console.print(evaluation_tables(result))
        if summary is not None:
            console.print(summary_table(summary))
    if html is not None:
        html.write_text(render_page(results, bodies, summary), encoding="utf-8")
    if json_to is not None:
        write_json(summary or results[0], json_to)


def _run_protocol(
    directory: Path,
    found: Found,
    network: Backbone,
    rule: PixelRule,
    threads: int,
    levels: list[Level],
    reduction: Reduction,
    json_to: str | None,
) -> None:
    chosen = mvtec_classes(directory, found.classes)
    with _opened(network, rule, threads, chosen) as (rig, _):
        result = run_protocol(directory, found.classes, rig, levels, reduction)
    for one in result.classes.values():
        for line in one.unreadable:
            click.echo(f"left out: {line}", err=True)
    if json_to != "-":
        _console().print(protocol_tables(result))
    if json_to is not None:
        write_json(result, json_to)


def _refuse_with_protocol(html: Path | None, baselines: bool, split: str) -> None:
    for option, given in (("--html", html), ("--baselines", baselines), ("--split", split != "all")):
        if given:
            raise ConfigError(f"{option} does not go with --protocol; run 'evaluate' once without it")


def _backbone(given: Path | None) -> Path:
    if given is not None:
        return given
    if not (EMBEDDED_BACKBONE / "backbone.json").is_file():
        raise ConfigError(
            "no backbone comes with this installation; give --backbone DIR, which "
            "'edge-ad backbone export NAME -o DIR' writes"
        )
    return EMBEDDED_BACKBONE


@contextmanager
def _opened(
    network: Backbone, rule: PixelRule, threads: int, datasets: Sequence[Dataset], local: bool = False
) -> Iterator[tuple[Rig, Callable[[str], None]]]:
    """The engine with a progress bar over all images; and what tells the bar which class it is at."""
    engine = open_features(network, threads=threads, local=local)
    try:
        with _progress(Console(stderr=True)) as progress:
            task = progress.add_task("", total=sum(d.size for d in datasets))
            rig = Rig(network, engine, rule, partial(progress.advance, task))
            yield rig, lambda name: progress.update(task, description=escape(name))
    finally:
        engine.close()


def _console() -> Console:
    return Console(width=None if Console().is_terminal else 110)


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
