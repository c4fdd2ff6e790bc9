"""`edge-ad challenge`: prove with known parts that the line rejects what is bad."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from edge_ad.errors import CheckFailed, ConfigError, DeliveryError

POLL_S = 0.2
RECORD_S = 5.0  # the disk may take


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option("--expect", help="As PASS,REJECT,PASS.  [default: challenge.parts of the station file]")
@click.option("--person", help="Who does this.  [default: the user's name]")
@click.option(
    "--timeout", default=600.0, show_default=True, type=click.FloatRange(min=0.1), help="Seconds."
)
@click.option("--cancel", is_flag=True, help="End the round that goes on.")
@click.option(
    "--override", type=click.FloatRange(0, 720), metavar="MINUTES",
    help="Let parts pass for so long although a round is due; 0 ends that. Needs --reason.",
)  # fmt: skip
@click.option("--reason", default="", help="Why; 'edge-ad audit' shows it.")
def command(
    config: Path,
    expect: str | None,
    person: str | None,
    timeout: float,
    cancel: bool,
    override: float | None,
    reason: str,
) -> None:
    """Begin a round: the next parts on the line are known, and judged like all others.

    Each must get the verdict that is expected of it, in order; the first that does not ends the round.
    They count neither as yield nor as drift, and the outcome is in 'edge-ad audit'. Exit code 1: the
    round failed, or was not over in time.
    """
    from edge_ad.audit import user
    from edge_ad.config import load_station
    from edge_ad.delivery.access import open_control

    station = load_station(config)
    with open_control(station) as client:
        if cancel:
            click.echo(_told(client.request("challenge_cancel").get("challenge")))
            return
        if override is not None:
            client.request(
                "challenge_override", seconds=override * 60, who=person or user(), reason=reason
            )
            if override:
                click.echo(f"parts pass for {override:g} minutes although a challenge is due")
            else:
                click.echo("the override is over")
            return
        epoch = client.request("status")["epoch"]
        begun = client.request(
            "challenge", expected=_expected(expect), who=person or user(), seconds=timeout
        )
        number, expected = begun["challenge"]["number"], begun["challenge"]["expected"]
        click.echo(f"round {number}: put on the line, one after the other: {', '.join(expected)}")
        shown, end = 0, time.monotonic() + timeout
        try:
            while True:
                answer = client.request("status")
                one = answer.get("challenge")
                if answer["epoch"] != epoch or one is None or one["number"] != number:
                    raise CheckFailed(
                        "the daemon, or another round, was started anew; 'edge-ad audit' has what "
                        "came of this one"
                    )
                for part in one["parts"][shown:]:
                    shown += 1
                    click.echo(_line(shown, part))
                if one["result"] != "running" and one["recorded"] is not None:
                    break
                if time.monotonic() > end + RECORD_S:
                    raise CheckFailed(
                        f"only {shown} of {len(expected)} parts came within {timeout:g} s; the round is "
                        "cancelled"
                    )
                time.sleep(POLL_S)
        except (KeyboardInterrupt, CheckFailed, DeliveryError):
            _give_up(client, epoch, number)
            raise
    if one["result"] != "passed" or one["why"]:
        raise CheckFailed(_told(one))
    if one["recorded"]:
        raise CheckFailed(f"{_told(one)}, but not on record: {one['recorded']}")
    click.echo(_told(one))


def _give_up(client: Any, epoch: str, number: int) -> None:
    """Nobody looks at the rest of the round."""
    try:
        answer = client.request("status")
        one = answer.get("challenge")
        if answer["epoch"] == epoch and one is not None and one["number"] == number:
            client.request("challenge_cancel")
    except DeliveryError as error:
        click.echo(f"the round could not be cancelled: {error}", err=True)


def _expected(text: str | None) -> list[str]:
    parts = [one.strip().upper() for one in (text or "").split(",") if one.strip()]
    wrong = [one for one in parts if one not in ("PASS", "REJECT")]
    if wrong or (text is not None and not parts):
        raise ConfigError(f"--expect: PASS and REJECT with commas between them, got {text!r}")
    return parts


def _line(number: int, part: dict[str, Any]) -> str:
    score = "" if part["score"] is None else f", score {part['score']:.4g}"
    got = f"{part['verdict']} {part['reason']}".strip()
    return f"{number:>3}  {part['part']}  should be {part['expected']}: {got}{score}"


def _told(one: dict[str, Any] | None) -> str:
    if one is None:
        return "no challenge was begun since the daemon started"
    why = f": {one['why']}" if one["why"] else ""
    return f"challenge {one['number']} {one['result']}{why}"
