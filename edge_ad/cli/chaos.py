"""`edge-ad chaos`: kill daemon and station again and again, and count what must not happen."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from edge_ad.cli.output import json_option, write_json
from edge_ad.errors import CheckFailed


@click.command()
@click.option("--parts", type=click.IntRange(50, 10_000_000), default=2000, show_default=True)
@click.option("--kills", type=click.IntRange(0, 100_000), default=8, show_default=True,
              help="Of daemon and station each.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**31), default=1, show_default=True,
              help="What happens to whom follows from it.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(1, 1000), default=20.0, show_default=True,
              help="Parts per second.")  # fmt: skip
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR",
              help="Work there and leave everything: plan, logs, both databases.")  # fmt: skip
@json_option
def command(
    parts: int, kills: int, seed: int, rate: float, keep: Path | None, json_to: str | None
) -> None:
    """A rendered line with trigger source and gate, of which daemon and station are killed (-9), from
    outside and at places of their own, while triggers are dropped and doubled on either side.

    Exit code 0 only if every trigger ended in one gate action, no bad part passed, no PASS was another
    part's, no committed verdict is missing, doubled or out of order in the station's log, and every good
    part that met no window of a kill passed. A window lasts from a kill to a second after readiness.
    """
    from rich.console import Console

    from edge_ad.chaos.plan import Options
    from edge_ad.chaos.run import run_chaos
    from edge_ad.chaos.screen import show_progress, show_result

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(quiet=json_to == "-", highlight=False)
    options = Options(parts, kills, seed, rate)
    with show_progress(console, options) as progress:
        result = run_chaos(options, keep, progress)
    show_result(console, result)
    if json_to is not None:
        write_json(result, json_to)
    if not result.ok:
        kinds = ", ".join(f"{len(found)} {kind}" for kind, found in result.examples.items())
        raise CheckFailed(f"chaos --seed {seed}: {kinds}")
    for victim in ("daemon", "station"):
        if (died := result.kills.get(victim, 0)) < kills:
            raise CheckFailed(
                f"chaos: the {victim} was killed {died} times instead of {kills}, as it was not ready "
                "soon enough again; give more --parts for each of --kills"
            )
