"""`edge-ad backbone build`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edge_ad.errors import ConfigError

if TYPE_CHECKING:
    from edge_ad.backbone.spec import Backbone
    from edge_ad.backbone.tensorrt.make import Frames, Made
    from edge_ad.config import Station

MOST_PARTS = 256  # whose pictures set int8's ranges


@dataclass(frozen=True)
class _Plan:
    """What the station file and the options come to."""

    backbone: Backbone
    batch: int
    local_dim: int
    cache: Path | None


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="A station file: what DIR, --batch (its tiles), --local-dim and --cache are by default.",
)
@click.option(
    "--precision",
    type=click.Choice(["f16", "f32", "int8"]),
    help="Default: that of the station file where its engine is TensorRT, else f16.",
)
@click.option("--batch", type=click.IntRange(1, 256), help="Tiles of one part. Default: 1.")
@click.option(
    "--local-dim", metavar="N|none", help="Features per position, or none. Default: all there are."
)
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Pictures of good parts, for int8's ranges; with several cameras a directory for each.",
)
@click.option(
    "--cache", type=click.Path(path_type=Path), metavar="DIR", help="Default: STATE_DIR/engines."
)
@click.option(
    "--library",
    type=click.Choice(["tensorrt", "tensorrt-rtx"]),
    default="tensorrt",
    show_default=True,
    help="tensorrt-rtx builds without a card: it shows that a network parses and builds.",
)
@click.option("--device", type=click.IntRange(0), default=0, help="Which card. Default: the first.")
@click.option("--optimization-level", type=click.IntRange(0, 5), default=3, show_default=True)
@click.option(
    "--workspace", type=click.IntRange(16), metavar="MIB", help="Scratch memory that kernels may take."
)
@click.option("--weak-fp16", is_flag=True, help="TensorRT 10.3 and before: f16 as the builder likes.")
def command(
    directory: Path | None,
    config: Path | None,
    precision: Literal["f16", "f32", "int8"] | None,
    batch: int | None,
    local_dim: str | None,
    frames: Path | None,
    cache: Path | None,
    library: Literal["tensorrt", "tensorrt-rtx"],
    device: int,
    optimization_level: int,
    workspace: int | None,
    weak_fp16: bool,
) -> None:
    """Build a TensorRT engine of the backbone in DIR for this machine's card, and keep it.

    That takes minutes, and longer on a Jetson; `run` never does it. An engine holds for this card, this
    TensorRT and this batch. Exit code 3: TensorRT does not take the graph; 5: no driver, no TensorRT, no
    room.
    """
    from edge_ad.backbone.tensorrt.build import Options
    from edge_ad.backbone.tensorrt.library import open_library
    from edge_ad.backbone.tensorrt.make import Request, make_engine
    from edge_ad.config import load_station
    from edge_ad.cuda.driver import read_driver
    from edge_ad.cuda.facts import NO_DEVICE
    from edge_ad.engines.build import build_engine

    station = load_station(config) if config is not None else None
    if library == "tensorrt":  # what is missing is said before pictures are read
        read_driver(device)
    builder = open_library(library)
    plan = _plan(station, directory, batch, local_dim, cache, library)
    if precision is None:
        own = station is not None and station.engine.kind == "tensorrt"
        precision = station.engine.precision if own and station is not None else "f16"
    request = Request(
        plan.backbone,
        precision,
        plan.batch,
        plan.local_dim,
        _frames(frames, station, plan) if frames is not None else (),
        Options(optimization_level, workspace or 0, weak_fp16),
    )
    if library == "tensorrt":
        assert plan.cache is not None
        _show(*build_engine(request, plan.cache, device, say=click.echo))
    else:
        _show(make_engine(request, builder, NO_DEVICE, "", plan.cache, say=click.echo))


def _plan(
    station: Station | None,
    directory: Path | None,
    batch: int | None,
    local_dim: str | None,
    cache: Path | None,
    library: str,
) -> _Plan:
    from edge_ad.backbone.spec import load_backbone
    from edge_ad.calibrate.plan import choose_local
    from edge_ad.engines.choice import engine_cache
    from edge_ad.preprocess.views import count_tiles

    if station is None and directory is None:
        raise ConfigError("no backbone: give its directory, or a station file with -c")
    backbone = load_backbone(directory or station.backbone_path)  # type: ignore[union-attr]
    local = backbone.local
    if station is not None:
        batch = batch or count_tiles(station.views)
        cache = cache or engine_cache(station)
        local = choose_local(station, backbone) if local_dim is None else local
    if cache is None and library == "tensorrt":
        raise ConfigError("no place for the engine: give a directory with --cache, or a station with -c")
    dim = _dim(local_dim) if local_dim is not None else (local.dim if local is not None else 0)
    return _Plan(backbone, batch or 1, dim, cache)


def _dim(text: str) -> int:
    if text != "none" and (not text.isdecimal() or not 1 <= int(text) <= 4096):
        raise ConfigError(f"--local-dim {text!r}: expected 1..4096 features per position, or none")
    return 0 if text == "none" else int(text)


def _frames(directory: Path, station: Station | None, plan: _Plan) -> Frames:
    """The pictures as the station cuts them; without one each is a whole view."""
    from edge_ad.capture.pixels import file_rule
    from edge_ad.config import MAX_MEGAPIXELS, View
    from edge_ad.preprocess.files import network_inputs

    views: tuple[View, ...] = (View(name="frame", camera="frame"),)
    rules, most = {"frame": file_rule("auto")}, MAX_MEGAPIXELS
    if station is not None:
        views = station.views
        rules = {c.name: file_rule(c.pixel_format, c.bit_depth) for c in station.pictures}
        most = max(camera.max_megapixels for camera in station.pictures)
    size = (plan.backbone.height, plan.backbone.width)
    return network_inputs(directory, views, rules, size, plan.batch, MOST_PARTS, int(most * 1e6))


def _show(made: Made, worst: float | None = None) -> None:
    from rich.console import Console
    from rich.table import Table

    from edge_ad.backbone.tensorrt.key import identity

    key, errors = made.key, made.converted.errors
    rows = [("precision", f"{key.precision}, {', '.join(key.flags)}")]
    if errors:
        level = max(errors, key=lambda what: errors[what])
        text = f"{errors[level]:.1e} of the largest feature, in {level} (converted graph, on the CPU)"
        rows.append(("conversion error", text))
    rows.append(("batch", f"{key.batch}, {key.local_dim or 'no'} features per position"))
    if made.entry is not None:
        record = made.entry.record
        layers, size, seconds = record.layers, record.plan_bytes, record.build_seconds
        lies = f"{made.entry.directory}" + ("" if made.built else " (was there)")
    else:
        assert made.built is not None
        layers, size, seconds = made.built.layers, len(made.built.plan), made.built.seconds
        lies = "not kept: a line's engine is built by --library tensorrt on its own card"
    if worst is not None:
        rows.append(("features", f"{worst:.2g} standard deviations from OpenVINO's at most"))
    rows += [
        ("layers", str(layers)),
        ("plan", f"{size / 1e6:.1f} MB in {seconds:.1f} s"),
        ("engine", lies),
        ("identity", f"{identity(key).key}, {key.library} {key.library_version}, {key.device.name}"),
        ("key", key.id),
    ]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
