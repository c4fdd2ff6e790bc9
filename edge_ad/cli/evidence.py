"""`edge-ad evidence`: what the daemon kept of parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from edge_ad.cli.output import json_option, write_json, write_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_ad.evidence.find import Found

SHOWN = 1000  # parts on a terminal, unless --limit says otherwise
config_option = click.option(
    "-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file."
)


@click.group()
def command() -> None:
    """What the daemon kept: of every part its score; pictures and verdicts of those that did not pass,
    that nearly did not, and of a sample.

    A good part among them is learnt by 'edge-ad calibrate --from-evidence NUMBER --reason TEXT';
    'edge-ad replay BUNDLE' judges them by another bundle.
    """


@command.command("list")
@config_option
@click.option("--product", help="Whose parts.  [default: the station file's `product`]")
@json_option
def list_command(config: Path, product: str | None, json_to: str | None) -> None:
    """Every part of the product that has pictures, oldest first. With --json one JSON object per
    line."""
    from rich.console import Console

    from edge_ad.config import load_station
    from edge_ad.evidence.entry import read_entries
    from edge_ad.evidence.table import entries_table, entry_line

    station = load_station(config)
    product = product or station.product
    entries, damaged = read_entries(station.state_path, product)
    for line in damaged:
        click.echo(line, err=True)
    if json_to is not None:
        write_json_lines(map(entry_line, entries), json_to)
    elif entries:
        Console().print(entries_table(entries))
    else:
        click.echo(
            f"no evidence of product {product!r} in {station.state_path}; the daemon keeps parts that "
            "do not pass, or nearly, unless evidence.keep is 'none'"
        )


@command.command()
@config_option
@click.option("--part", default="", metavar="GLOB", help="Keys like this: 'LOT12-*'.")
@click.option(
    "--verdict", "verdicts", multiple=True,
    type=click.Choice(("PASS", "REJECT", "FAULT"), case_sensitive=False), help="One or more.",
)  # fmt: skip
@click.option("--reason", "reasons", multiple=True, metavar="REASON", help="score, late, ...; or more.")
@click.option("--product", default="", help="Only of this product.")
@click.option("--since", metavar="TIME", help="2026-01-31 or 2026-01-31T12:00:00Z; without a zone UTC.")
@click.option("--until", metavar="TIME", help="Before this.")
@click.option(
    "--near", is_flag=False, flag_value="", metavar="[SHARE]",
    help="Scores within this share of the threshold, on either side.  [default: evidence.near]",
)  # fmt: skip
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(("rejects", "near", "sample")),
    help="Only parts with pictures, kept for this.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(0), help=f"The first N; 0: all.  [default: {SHOWN} in a table]"
)
@click.option("--csv", "csv_to", metavar="FILE", help="Write them as CSV; '-' is standard output.")
@json_option
def find(
    config: Path,
    part: str,
    verdicts: tuple[str, ...],
    reasons: tuple[str, ...],
    product: str,
    since: str | None,
    until: str | None,
    near: str | None,
    kinds: tuple[str, ...],
    limit: int | None,
    csv_to: str | None,
    json_to: str | None,
) -> None:
    """Parts by key, verdict, time and score, the earliest first, and where their pictures are. With
    --json one JSON object per line."""
    from edge_ad.config import load_station
    from edge_ad.evidence.find import Query, find_parts, parse_time

    station = load_station(config)
    query = Query(
        part, tuple(one.upper() for one in verdicts), reasons, product,
        None if since is None else parse_time(since, "--since"),
        None if until is None else parse_time(until, "--until"),
        _share(near, station.evidence.near), kinds,
    )  # fmt: skip
    found = find_parts(station.state_path, query, lambda line: click.echo(line, err=True))
    if limit is None:
        limit = 0 if csv_to or json_to else SHOWN
    if csv_to is not None or json_to is not None:
        _write(found, limit, csv_to, json_to)
    else:
        _show(found, limit)


def _share(text: str | None, default: float) -> float | None:
    """What --near says. Raises ConfigError."""
    from edge_ad.errors import ConfigError

    if text is None or text == "":
        return None if text is None else default
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < float("inf"):
        raise ConfigError(f"--near: {text!r} is no share; give a number such as 0.1")
    return share


def _write(found: Iterator[Found], limit: int, csv_to: str | None, json_to: str | None) -> None:
    """One part after another: there may be millions."""
    import csv
    from contextlib import ExitStack
    from itertools import islice

    from edge_ad.evidence.table import FoundLine, found_line

    with ExitStack() as stack:
        rows = lines = None
        if csv_to is not None:
            out = stack.enter_context(click.open_file(csv_to, "w", encoding="utf-8"))
            rows = csv.writer(out, lineterminator="\n")
            rows.writerow(FoundLine.__struct_fields__)
        if json_to is not None:
            lines = stack.enter_context(click.open_file(json_to, "w", encoding="utf-8"))
        for one in islice(found, limit or None):
            line = found_line(one)
            if rows is not None:
                rows.writerow(msgspec.structs.astuple(line))
            if lines is not None:
                lines.write(msgspec.json.encode(line).decode() + "\n")


def _show(found: Iterator[Found], limit: int) -> None:
    from itertools import islice

    from rich.console import Console

    from edge_ad.evidence.table import found_table

    parts = list(islice(found, limit or None))
    if not parts:
        click.echo("no such part; 'edge-ad evidence find' without options shows what there is")
        return
    Console().print(found_table(parts))
    if limit and len(parts) == limit and next(found, None) is not None:
        click.echo(f"there are more than these {limit}; --limit 0 shows all, --csv FILE writes them")


@command.command()
@click.argument("part")
@config_option
@click.option("--product", help="Whose part.  [default: the station file's `product`]")
@click.option(
    "--overlay", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the frames under the map of what is unusual, a PNG: as drawn when the part was judged, "
    "else made by the bundle that judged.",
)  # fmt: skip
@click.option("--bundle", metavar="ID", help="Make the map by this bundle instead.")
@json_option
def show(
    part: str,
    config: Path,
    product: str | None,
    overlay: Path | None,
    bundle: str | None,
    json_to: str | None,
) -> None:
    """All about PART, a number or key of 'edge-ad evidence list'."""
    from edge_ad.config import load_station
    from edge_ad.evidence.entry import find_entries, read_entries
    from edge_ad.evidence.table import entry_text

    station = load_station(config)
    product = product or station.product
    entries, damaged = read_entries(station.state_path, product)
    for line in damaged:
        click.echo(line, err=True)
    listing = f"edge-ad evidence list -c {config} --product {product}"
    (entry,) = find_entries(entries, [part], listing, "evidence show")
    if overlay is not None:
        from edge_ad.calibration_set import encode_frame
        from edge_ad.cli.bundle import find_bundle
        from edge_ad.replay import draw_entry, kept_overlay

        path = None if bundle is None else find_bundle(bundle, config, None, product)
        kept = kept_overlay(entry) if path is None else None
        overlay.write_bytes(encode_frame(draw_entry(station, entry, path) if kept is None else kept))
    if json_to is not None:
        write_json({"path": str(entry.path), "record": entry.record}, json_to)
    if json_to == "-":
        return
    for line in entry_text(entry):
        click.echo(line)
    if overlay is not None:
        click.echo(f"map        {overlay}")
