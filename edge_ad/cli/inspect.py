"""`edge-ad inspect`: one-shot verdicts on image files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from edge_ad.capture.pixels import FORMATS, file_rule
from edge_ad.cli.output import json_option
from edge_ad.config import MAX_MEGAPIXELS
from edge_ad.errors import CaptureError, CheckFailed, ConfigError

if TYPE_CHECKING:
    from edge_ad.capture.pixels import PixelRule
    from edge_ad.inspector import Inspector
    from edge_ad.verdict import Verdict


class Line(msgspec.Struct):
    """One line of `--json`. Numbers that do not exist are null."""

    image: str
    verdict: str
    reason: str
    score: float | None
    threshold: float | None
    view: str
    box: tuple[int, int, int, int] | None
    findings: list[dict[str, Any]]
    distances: list[list[float]] | None
    detail: str


@click.command()
@click.option(
    "-b", "--bundle", required=True, type=click.Path(path_type=Path), help="A bundle's directory."
)
@click.option(
    "--backbone", type=click.Path(path_type=Path), help="The network, where it lies elsewhere."
)
@click.option("--pixel-format", type=click.Choice(FORMATS), default="auto", show_default=True)
@click.option("--bit-depth", type=click.IntRange(0, 16), default=0, help="Of mono10, mono12, mono16.")
@click.option("--threads", type=click.IntRange(0, 256), default=0, help="0: one per physical core.")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def command(
    bundle: Path,
    backbone: Path | None,
    pixel_format: str,
    bit_depth: int,
    threads: int,
    images: tuple[Path, ...],
    json_to: str | None,
) -> None:
    """Judge IMAGES, files or folders, by a bundle. With --json one JSON object per line.

    Exit code 0: every image was scored, PASS or REJECT. 1: at least one is FAULT, such as unreadable.
    """
    from edge_ad.capture.images import list_images
    from edge_ad.inspector import load

    rule = file_rule(pixel_format, bit_depth)
    files = [file for path in images for file in (list_images(path) if path.is_dir() else [path])]
    inspector = load(bundle, backbone, threads)
    if len(inspector.cameras) > 1:
        raise ConfigError(
            f"{bundle}: has cameras {list(inspector.cameras)}; a single image is no part of it"
        )
    lines = _judge(inspector, rule, files)
    faults = _show(lines) if json_to is None else _write(lines, json_to)
    if faults:
        raise CheckFailed(f"{faults} of {len(files)} images are FAULT; the reason is beside each")


def _judge(inspector: Inspector, rule: PixelRule, files: list[Path]) -> Iterator[Line]:
    from edge_ad.capture.images import read_image
    from edge_ad.verdict import Reason, fault

    limit = int(MAX_MEGAPIXELS * 1e6)
    for file in files:
        try:
            verdict = inspector.inspect(read_image(file, rule, limit))
        except CaptureError as error:
            verdict = fault(Reason.UNREADABLE, inspector.threshold, str(error))
        yield _line(file, verdict)


def _line(file: Path, verdict: Verdict) -> Line:
    from edge_ad.capture.images import printable

    return Line(
        printable(file),
        verdict.decision.value,
        verdict.reason.value,
        verdict.score,
        verdict.threshold,
        verdict.view,
        verdict.box,
        [asdict(finding) for finding in verdict.findings],
        None if verdict.distances is None else verdict.distances.tolist(),
        verdict.detail,
    )


def _write(lines: Iterator[Line], json_to: str) -> int:
    """JSON lines to standard output or a file; returns how many are FAULT."""
    faults = 0
    with click.open_file(json_to, "w", encoding="utf-8") as out:
        for line in lines:
            out.write(msgspec.json.encode(line).decode() + "\n")
            faults += line.verdict == "FAULT"
    return faults


def _show(lines: Iterator[Line]) -> int:
    """A table; returns how many are FAULT."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"PASS": "green", "REJECT": "red", "FAULT": "yellow"}
    table = Table("image", "verdict", "score", "score / threshold", "view or reason")
    table.columns[0].overflow = "fold"
    faults = 0
    for line in lines:
        faults += line.verdict == "FAULT"
        scored = line.verdict != "FAULT" and line.score is not None and line.threshold is not None
        table.add_row(
            escape(line.image),
            f"[{colours[line.verdict]}]{line.verdict}[/]",
            f"{line.score:.4g}" if scored else "",
            f"{(line.score or 0) / (line.threshold or 1):.3f}" if scored else "",
            escape(line.view if scored else f"{line.reason}: {line.detail}"),
        )
    Console().print(table)
    return faults
