"""`edge-ad calibrate`: fit the Gaussians of good parts and activate them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import get_args

import click

from edge_ad.config import Screen

LISTED = 10


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option(
    "--from", "directory", type=click.Path(path_type=Path), help="A fresh set: DIR of good parts."
)
@click.option("--parts", type=click.IntRange(min=1), help="A fresh set: this many parts from the line.")
@click.option("--add", type=click.Path(path_type=Path), help="More good parts for the kept set.")
@click.option("--drop", multiple=True, metavar="IDS", help="Ids of kept parts, separated by commas.")
@click.option(
    "--from-evidence",
    multiple=True,
    metavar="IDS",
    help="Good parts that the daemon did not pass: numbers or part keys of 'edge-ad evidence list', "
    "separated by commas. Needs --reason.",
)
@click.option("--refit", is_flag=True, help="Fit the kept set again, for another engine or setting.")
@click.option(
    "--new-reference", is_flag=True, help="Choose the part anew that [camera.locate] lays others like."
)
@click.option("--false-reject-rate", type=float, help="Target instead of the station file's.")
@click.option(
    "--screen",
    type=click.Choice(get_args(Screen)),
    help="Parts separated from the rest: list them, or leave them out.  [default: the station file's]",
)
@click.option("--shadow", is_flag=True, help="Let the bundle judge beside the one in use, which stays.")
@click.option("--product", help="Of the station's products.  [default: the station file's `product`]")
@click.option("--person", default=None, help="Who decides this.  [default: the user's name]")
@click.option(
    "--reason", default="", help="Why: for 'edge-ad audit', and beside each part added or dropped."
)
def command(
    config: Path,
    directory: Path | None,
    parts: int | None,
    add: Path | None,
    drop: tuple[str, ...],
    from_evidence: tuple[str, ...],
    refit: bool,
    new_reference: bool,
    false_reject_rate: float | None,
    screen: Screen | None,
    shadow: bool,
    product: str | None,
    person: str | None,
    reason: str,
) -> None:
    """Fit the Gaussians of good parts, set the threshold, activate the bundle.

    With several cameras DIR has a folder per camera, the pictures of one part named alike. The parts are
    kept, so that --add, --drop and --refit need no new ones. Parts of --from-evidence are fitted, but do
    not count in the promise: they are no random sample of the line. A running daemon collects for
    --parts, and takes the new bundle between two parts. Exit code 1: too few parts; the active bundle
    then stays.
    """
    from edge_ad.audit import user
    from edge_ad.calibrate import Request, calibrate, open_progress
    from edge_ad.config import load_station, with_false_reject_rate, with_product, with_screen
    from edge_ad.errors import ConfigError, DeliveryError

    # Ended in order, as by Ctrl-C: a daemon that collects for this command must go back to inspecting.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    station = load_station(config)
    if false_reject_rate is not None:
        station = with_false_reject_rate(station, false_reject_rate)
    if product is not None:
        station = with_product(station, product)
    if screen is not None:
        station = with_screen(station, screen)
    ids = tuple(one for text in drop for one in text.replace(",", " ").split())
    declared = tuple(one.strip() for text in from_evidence for one in text.split(",") if one.strip())
    if from_evidence and not declared:
        raise ConfigError("--from-evidence: names no part; 'edge-ad evidence list' shows them")
    request = Request(
        directory=directory, parts=parts or 0, add=add, drop=ids, from_evidence=declared, refit=refit,
        new_reference=new_reference, shadow=shadow,
        person=person or user(), reason=reason,
    )  # fmt: skip
    with open_progress(sys.stderr) as progress:
        result = calibrate(station, request, progress)
    for line in result.summary(LISTED):
        click.echo(line)
    if not result.daemon_took_it:
        raise DeliveryError(result.daemon)
