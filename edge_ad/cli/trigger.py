"""`edge-ad trigger`: announce one part to the running daemon."""

from __future__ import annotations

from pathlib import Path

import click

from edge_ad.errors import DeliveryError


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option("--part", default="", help="The part's key; without it the daemon gives it one.")
@click.option("--product", default="", help="What it is; without it, what is being made.")
def command(config: Path, part: str, product: str) -> None:
    """Have a picture taken of one part and judged, where trigger.kind is 'software' or 'message'.

    Prints how many triggers there were. A trigger that is refused says why (exit code 5).
    """
    from edge_ad.config import load_station
    from edge_ad.delivery.access import open_control

    with open_control(load_station(config)) as client:
        answer = client.request("trigger", part=part, product=product)
    if not answer["accepted"]:
        raise DeliveryError(f"trigger: {answer['reason']}: {answer['text']}")
    click.echo(f"accepted, trigger {answer['count']}")
