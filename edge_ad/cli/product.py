"""`edge-ad product`: what the line makes from now on."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.argument("name", required=False)
def command(config: Path, name: str | None) -> None:
    """Change the running daemon over to product NAME, between two parts; without NAME say what is made.

    Prints the sha256 of the bundle that judges from then on. Parts that were triggered before are FAULT
    `changeover`, those of a product that the station does not know `unknown_product` (exit code 5).
    After a restart the daemon makes the station file's `product`.
    """
    from edge_ad.config import load_station
    from edge_ad.delivery.access import open_control

    with open_control(load_station(config), timeout_s=60.0) as client:
        answer = client.request("status") if name is None else client.request("product", name=name)
    bundle = answer["bundle"] or "none yet: every part is FAULT uncalibrated"
    click.echo(f"product  {answer['product']}\nbundle   {bundle}")
