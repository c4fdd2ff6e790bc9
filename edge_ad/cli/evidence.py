"""`edge-ad evidence`: what the daemon kept of parts."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from edge_ad.cli.output import json_option


@click.group()
def command() -> None:
    """What the daemon kept: of parts that did not pass, that nearly did not, and of a sample.

    A good part among them is learnt by 'edge-ad calibrate --from-evidence NUMBER --reason TEXT'.
    """


@command.command("list")
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option("--product", help="Whose parts.  [default: the station file's `product`]")
@json_option
def list_command(config: Path, product: str | None, json_to: str | None) -> None:
    """Every kept part of the product, oldest first. With --json one JSON object per line."""
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
        with click.open_file(json_to, "w", encoding="utf-8") as out:
            for entry in entries:
                out.write(msgspec.json.encode(entry_line(entry)).decode() + "\n")
    elif entries:
        Console().print(entries_table(entries))
    else:
        click.echo(
            f"no evidence of product {product!r} in {station.state_path}; the daemon keeps parts that "
            "do not pass, or nearly, unless evidence.keep is 'none'"
        )
