"""`edge-ad bench`: what this machine does, inside the running daemon."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from edge_ad.cli.output import json_option, write_json
from edge_ad.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from edge_ad.bench import Result
    from edge_ad.bench.delivery import DeliveryResult
    from edge_ad.bench.gpu import GpuResult
    from edge_ad.config import Precision, Profile

R = TypeVar("R")

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

GPU_ROWS = {
    "network": "network alone, one graph",
    "graph": "whole frame, one graph",
    "stream": "whole frame, launch by launch",
}
LAUNCHED_ROWS = {"network": "network alone, launch by launch", "stream": GPU_ROWS["stream"]}
CPU_ONLY = ("beside", "reject_rate", "threads")
GPU_ONLY = ("engine", "precision")
NOT_DELIVERY = ("beside", "tiles", *GPU_ONLY)

QUIET_ROWS = {
    "engine": "engine alone",
    "inspector_pass": "inspector alone, PASS",
    "judged_pass": "trigger to PASS",
    "wire_pass": "  and on the wire",
    "commit_pass": "  commit alone",
    "inspector_reject": "inspector alone, REJECT",
    "judged_reject": "trigger to REJECT",
    "wire_reject": "  and on the wire",
    "commit_reject": "  commit alone",
}
LOADED_ROWS = {
    "wire_pass": "trigger to PASS on the wire",
    "wire_reject": "trigger to REJECT on the wire",
    "promised": "trigger to PASS at the gate",
    "action": "trigger to action at the gate",
    "lateness": "  behind when it was due",
}


@click.command()
@click.option("--gpu", is_flag=True,
              help="Time the GPU instead: network, kernels, whole frame.")  # fmt: skip
@click.option("--delivery", is_flag=True,
              help="Time trigger to verdict on the wire, and to the gate, instead.")  # fmt: skip
@click.option("--engine", type=click.Choice(["tensorrt", "torch"]), default="tensorrt",
              show_default=True, help="With --gpu. One of TensorRT is built first.")  # fmt: skip
@click.option("--precision", type=click.Choice(["f32", "f16", "int8"]),
              help="With --gpu.  [default: f16, of torch f32]")  # fmt: skip
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
@click.pass_context
def command(
    context: click.Context,
    gpu: bool,
    delivery: bool,
    engine: str,
    precision: Precision | None,
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
    With --delivery: from a part's trigger to its verdict at a consumer, and to what the station does at
    the gate.
    """
    import edge_ad
    from edge_ad.backbone.spec import load_backbone

    _check(context, gpu, delivery)
    network = load_backbone(backbone or Path(edge_ad.__file__).parent / "backbone/embedded")
    if gpu:
        from edge_ad.bench.gpu import GpuOptions, run_gpu_bench

        precision = precision or ("f32" if engine == "torch" else "f16")
        gpu_options = GpuOptions(network, engine, precision, frames, width, height, profile, tiles)
        _finish(run_gpu_bench(gpu_options, say=_say), _show_gpu, json_to)
        return
    if delivery:
        from edge_ad.bench.delivery import DeliveryOptions, run_delivery_bench

        of_delivery = DeliveryOptions(network, frames, width, height, reject_rate, threads, profile)
        _finish(run_delivery_bench(of_delivery, say=_say), _show_delivery, json_to)
        return
    from edge_ad.bench import Options, run_bench

    options = Options(
        network, frames, width, height, reject_rate, threads, profile,
        beside=None if beside is None else load_backbone(beside), tiles=tiles,
    )  # fmt: skip
    _finish(run_bench(options, say=_say), _show, json_to)


def _check(context: click.Context, gpu: bool, delivery: bool) -> None:
    """Refuse options that this kind of bench does nothing with."""
    if gpu and delivery:
        raise ConfigError("--gpu, --delivery: are two benches; give one of them")
    wrong = NOT_DELIVERY if delivery else CPU_ONLY if gpu else GPU_ONLY
    kind = "with --delivery" if delivery else "with --gpu" if gpu else "without --gpu"
    for name in wrong:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise ConfigError(f"--{name.replace('_', '-')}: is not for a bench {kind}")


def _say(text: str) -> None:
    click.echo(text, err=True)


def _finish(result: R, show: Callable[[R], None], json_to: str | None) -> None:
    if json_to != "-":
        show(result)
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


def _show_delivery(result: DeliveryResult) -> None:
    from rich.console import Console

    quiet, loaded = result.quiet, result.loaded
    console = Console(highlight=False)
    click.echo(f"{result.device}, {result.threads} threads, OpenVINO {result.runtime.partition('-')[0]}")
    click.echo(f"{result.backbone} at {result.input}, sha256 {result.backbone_sha256[:12]}")
    console.print(_spreads("one at a time, ms", QUIET_ROWS, quiet))
    click.echo(
        f"a PASS takes {quiet.added_pass:.3f} ms more than the inspector alone, a REJECT "
        f"{quiet.added_reject:.3f}; 0.1 times the engine and the commit of a PASS are "
        f"{quiet.bound:.3f}: {'within' if quiet.within else 'NOT within'} (by the quickest tenths "
        f"{quiet.added_pass_p10:.3f} and {quiet.bound_p10:.3f})"
    )
    console.print(_spreads(f"every {loaded.period_ms:g} ms one", LOADED_ROWS, loaded))
    click.echo(
        f"belt of {loaded.travel_ms:g} ms, {loaded.burst} rejects in a row of {loaded.burst_every}, "
        f"{loaded.scrapes} scrapes of {loaded.scrape_ms:g} ms"
    )
    click.echo(
        f"good parts not passed {loaded.good_missed} of {loaded.good}, bad parts passed "
        f"{loaded.bad_passed} of {loaded.bad}, without action {loaded.without_action}"
    )
    for name, count in loaded.dropped.items():
        click.echo(f"dropped: {name} {count}")


def _spreads(title: str, rows: dict[str, str], of: object) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(title)
    for name in ("p10", "p50", "p99", "p99.9", "longest"):
        table.add_column(name, justify="right")
    for key, text in rows.items():
        each = getattr(of, key)
        values = (each.p10, each.p50, each.p99, each.p999, each.longest)
        table.add_row(text, *(f"{value:.3f}" for value in values))
    return table


def _show_gpu(result: GpuResult) -> None:
    from msgspec.structs import asdict
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("us")
    for name in ("p50", "p95", "p99", "p99.9", "longest"):
        table.add_column(name, justify="right")
    texts = GPU_ROWS if result.captured else LAUNCHED_ROWS
    spreads = [(text, getattr(result, key)) for key, text in texts.items()]
    spreads += [(f"  {stage}", each) for stage, each in result.stages.items()]
    for text, each in spreads:
        table.add_row(text, *(f"{value:.1f}" for value in asdict(each).values()))
    kernels = Table(box=None, pad_edge=False)
    kernels.add_column("kernels alone, us")
    for name in ("on the GPU", "memory floor", "ratio", "MB"):
        kernels.add_column(name, justify="right")
    for stage, one in result.kernels.items():
        figures = (f"{one.us:.1f}", f"{one.floor_us:.1f}", f"{one.over_floor:.2f}")
        kernels.add_row(f"  {stage}", *figures, f"{one.bytes / 1e6:.2f}")
    click.echo(f"{result.device}, {result.engine}, {result.runtime}")
    click.echo(f"{result.backbone} at {result.input}, sha256 {result.backbone_sha256[:12]}")
    rows, columns = result.tiles
    click.echo(
        f"frames of {result.width} x {result.height}, profile {result.profile}, {rows} x {columns} tiles"
    )
    console = Console(highlight=False)
    console.print(table)
    click.echo(
        f"p99 over p50 {result.graph_p99_over_p50:.2f}; launch by launch takes "
        f"{result.stream_over_graph:.2f} times as long"
    )
    console.print(kernels)
    click.echo(f"the floor is what is read at {result.copy_gbs:.0f} GB/s, as a copy on this GPU reaches")
