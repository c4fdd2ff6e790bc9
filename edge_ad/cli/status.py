"""`edge-ad status`: what the running daemon says of itself."""

from __future__ import annotations

from pathlib import Path

import click

from edge_ad.cli.output import json_option, write_json


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@json_option
def command(config: Path, json_to: str | None) -> None:
    """Show the running daemon's state, product and counts. Exit code 5: none answers."""
    from edge_ad.config import load_station
    from edge_ad.delivery.access import open_control

    with open_control(load_station(config)) as client:
        answer = client.request("status")
    if json_to is not None:
        write_json(answer, json_to)
        return
    stop = ", asks for a LINE STOP" if answer.get("line_stop") else ""
    click.echo(f"{answer['station']}: {answer['state']}{stop}, pid {answer['pid']}")
    if answer.get("why"):
        click.echo(f"FAILED   {answer['why']}")
        if waiting := answer.get("verdicts", {}).get("waiting"):
            click.echo(f"verdicts {waiting} wait for the disk")
    bundle = (answer.get("bundle") or "none yet")[:12]
    engine = f", {answer['engine']}" if answer.get("engine") else ""
    click.echo(f"product  {answer['product']}, bundle {bundle}{engine}")
    if "parts" in answer:
        late = f", {answer['missed']} too late" if answer["missed"] else ""
        click.echo(f"parts    {answer['parts']}, {answer['rejects']} not passed{late}")
    if answer.get("challenge_due"):
        left = answer["challenge_override_s"]
        passes = f"; by override parts pass for {left / 60:.0f} min" if left else ""
        click.echo(f"a CHALLENGE with known parts is due: 'edge-ad challenge'{passes}")
    for name, camera in answer["cameras"].items():
        counted = {
            "{} of them faulty": camera["faulty"], "{} more did not arrive": camera["lost"],
            "opened anew {} times": camera["reconnects"],
        }  # fmt: skip
        told = "".join(f", {text.format(count)}" for text, count in counted.items() if count)
        click.echo(f"camera   {name}: {camera['state']}, {camera['frames']} frames{told}")
    for name, consumer in answer.get("verdicts", {}).get("consumers", {}).items():
        waiting = f", {consumer['depth']} not acknowledged" if consumer["depth"] else ""
        click.echo(f"consumer {name}: {consumer['state']}{waiting}")
    if answer.get("evidence_dropped"):
        click.echo(f"evidence of {answer['evidence_dropped']} parts was not kept; the log says why")
    if answer.get("scores_not_kept"):
        click.echo(f"scores of {answer['scores_not_kept']} parts were not kept; the log says why")
    click.echo(f"metrics  {answer['metrics']}")
