"""`edge-ad audit`: who changed what parts are judged by."""

from __future__ import annotations

from pathlib import Path

import click

from edge_ad.cli.output import json_option, write_json_lines


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option("--last", type=click.IntRange(min=1), help="The last so many only.")
@json_option
def command(config: Path, last: int | None, json_to: str | None) -> None:
    """Calibrations, activations, roll-backs, challenges and changes of the station file, oldest first.

    With --json one JSON object per line. Exit code 1 when a line of the file was changed, taken out, or
    is damaged.
    """
    from rich.console import Console
    from rich.table import Table

    from edge_ad.audit import read_events
    from edge_ad.config import load_station
    from edge_ad.errors import CheckFailed

    station = load_station(config)
    events, problems = read_events(station.state_path)
    shown = events[-last:] if last else events
    if json_to is not None:
        write_json_lines(shown, json_to)
    elif shown:
        table = Table(box=None, pad_edge=False)
        for title in ("time", "who", "what", "product", "detail", "reason"):
            table.add_column(title, overflow="fold")
        for event in shown:
            table.add_row(
                event.time.replace("+00:00", "Z"), event.who, event.what, event.product,
                ", ".join(f"{key} {_short(key, value)}" for key, value in event.detail.items()),
                event.reason,
            )  # fmt: skip
        Console().print(table)
    else:
        click.echo(f"nothing was changed yet in {station.state_path}")
    if problems:
        raise CheckFailed("; ".join(problems))


def _short(key: str, value: str) -> str:
    """For the table: of a sum as much as tells it from others."""
    return value[:12] if key == "sha256" else value
