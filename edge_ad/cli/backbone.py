"""`edge-ad backbone list | export`; `build` lies in a file of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table

from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.weights import Given
from edge_ad.cli.backbone_build import command as build_command
from edge_ad.errors import ConfigError


@click.group()
def command() -> None:
    """List, export and build networks."""


command.add_command(build_command, "build")


@command.command("list")
@click.argument("pattern", default="")
def list_command(pattern: str) -> None:
    """Names that `export` takes, with their input side; PATTERN as in "*efficientnet*b4*"."""
    from edge_ad.backbone.export import list_networks

    for name, side in list_networks(pattern):
        click.echo(f"{name}  {side}")


@command.command("export")
@click.argument("name")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A .safetensors file; FILE.json beside it says what it is. Default: timm's pretrained weights.",
)
@click.option("--seed", type=int, help="Random weights from this seed instead: for trials, not for use.")
@click.option("--levels", metavar="LIST", help='Levels to keep, as in "1,4-7". Default: all.')
@click.option(
    "--local",
    metavar="DIM|none",
    help="Most dimensions of the features per position, or none for no such output. Default: 128.",
)
@click.option(
    "--local-levels", metavar="LIST", help='Their levels, as in "4-6". Default: of strides 8 and 16.'
)
@click.option("--size", metavar="N or HxW", help="Side of the network's input, pixels.")
@click.option("--batch", type=click.IntRange(1, 256), help="Batch in the file; engines reshape it.")
@click.option("--mean", metavar="R,G,B", help="Normalisation is (pixel * scale - mean) / std.")
@click.option("--std", metavar="R,G,B")
@click.option("--scale", type=click.FloatRange(0, min_open=True), help="Default: 1/255.")
@click.option(
    "--color", type=click.Choice(["RGB", "BGR"]), help="Channel order that the weights expect."
)
@click.option("--num-classes", type=int, help="Classes of the weights' classifier.")
@click.option(
    "--model-arg", "model_args", multiple=True, metavar="KEY=VALUE", help="For timm; repeatable."
)
def export_command(
    name: str,
    output: Path,
    weights: Path | None,
    seed: int | None,
    levels: str | None,
    local: str | None,
    local_levels: str | None,
    size: str | None,
    batch: int | None,
    mean: str | None,
    std: str | None,
    scale: float | None,
    color: Literal["RGB", "BGR"] | None,
    num_classes: int | None,
    model_args: tuple[str, ...],
) -> None:
    """Turn timm's network NAME into DIR/backbone.onnx and DIR/backbone.json."""
    from edge_ad.backbone.export import export_backbone

    arguments = dict(_argument(text) for text in model_args)
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    given = Given(
        model_args=arguments,
        color=color,
        scale=scale,
        mean=_channels("--mean", mean),
        std=_channels("--std", std),
        size=_size(size),
        levels=levels,
        batch=batch,
        local=_local(local),
        local_levels=local_levels,
    )
    done = export_backbone(name, output, given, weights, seed, say=click.echo)
    _show(done.backbone)
    click.echo(f"largest difference from torch: {done.error:.1e} of a level's largest feature")


def _show(backbone: Backbone) -> None:
    table = Table("level", "tensor", "width", "stride", box=None, pad_edge=False)
    for level in backbone.levels:
        table.add_row(level.name, level.tensor, str(level.dim), str(level.stride))
    Console().print(table)
    click.echo(
        f"{backbone.directory}: {backbone.name}, {backbone.width} x {backbone.height} pixels, "
        f"{backbone.dim} features"
    )
    if (local := backbone.local) is not None:
        click.echo(
            f"local: {local.dim} features of {', '.join(local.levels)} at {local.rows} x "
            f"{local.columns} positions"
        )
    click.echo(f"sha256 {backbone.sha256}")


def _argument(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as JSON where it is JSON, else as text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--model-arg {text!r}: expected KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _channels(option: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        first, second, third = (float(v) for v in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} {text!r}: expected three numbers, as in 0.5,0.5,0.5") from None
    return first, second, third


def _local(text: str | None) -> int | None:
    if text is None or text == "none":
        return None if text is None else 0
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise ConfigError(f"--local {text!r}: expected 1..4096 dimensions, or none")
    return int(text)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        sides = [int(v) for v in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or not all(32 <= side <= 4096 for side in sides):
        raise ConfigError(f"--size {text!r}: expected a side of 32..4096 pixels, or HEIGHTxWIDTH")
    return sides[0], sides[-1]
