"""`edge-ad reload`: the running daemon reads its file and bundle again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option("--reason", default="", help="Why; 'edge-ad audit' shows it.")
def command(config: Path, reason: str) -> None:
    """Have the running daemon read the station file and the active bundle again, between two parts.

    What is refused says why, and the old configuration and bundle stay in use. Exit code 2: the file; 5:
    the daemon refuses it, or none answers.
    """
    from edge_ad.audit import user
    from edge_ad.calibrate.link import RELOAD_TIMEOUT_S
    from edge_ad.config import load_station
    from edge_ad.delivery.access import open_control

    with open_control(load_station(config), RELOAD_TIMEOUT_S) as client:
        answer = client.request("reload", who=user(), reason=reason)
    bundle = answer["bundle"] or "none yet: every part is FAULT uncalibrated"
    click.echo(f"{answer['state']}, product {answer['product']}, bundle {bundle}")
