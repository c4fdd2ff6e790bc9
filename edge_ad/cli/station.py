"""`edge-ad station`: the station at the reject gate."""

from __future__ import annotations

import gc
import logging
import logging.handlers
import os
import queue
import signal
from pathlib import Path
from typing import Any

import click

from edge_ad.cli.log import log_handler
from edge_ad.cli.output import json_option, write_json

_WHY = "nothing heard of {endpoint}: is 'edge-ad run' up, with this consumer, and are the keys right?"
_CONFIG = click.option(
    "-c", "--config", required=True, type=click.Path(path_type=Path), help="The gate.toml."
)


@click.group(invoke_without_command=True)
@click.option("-c", "--config", type=click.Path(path_type=Path), help="The gate.toml.")
@click.option("--failpoint", "failing", multiple=True, hidden=True, help="See edge_ad.failpoints.")
@click.pass_context
def command(context: click.Context, config: Path | None, failing: tuple[str, ...]) -> None:
    """Pass parts at the gate that have a PASS of their own, reject the rest, until SIGTERM.

    'edge-ad init --gate' writes a gate.toml. Exit code 0: stopped; 2: configuration; 5: another station
    has its state, an endpoint is in use, GPIO or disk.
    """
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise click.UsageError("give the gate's file: -c gate.toml ('edge-ad init --gate' writes one)")
    from edge_ad import failpoints
    from edge_ad.config.gate import load_gate
    from edge_ad.delivery.station.run import Station
    from edge_ad.supervisor import Supervisor

    listener = _log_beside()
    failpoints.activate(failing)
    try:
        station = Station(load_gate(config), supervisor=Supervisor.of(os.environ))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: station.stop())
        station.start()
        gc.collect()
        gc.freeze()  # a full collection of all that is loaded would hold the gate up
        station.run()
    finally:
        listener.stop()


@command.command()
@_CONFIG
@json_option
def status(config: Path, json_to: str | None) -> None:
    """What the running station says of itself."""
    answer = _ask(config, "status")
    if json_to is not None:
        write_json(answer, json_to)
        return
    click.echo(f"{answer['station']}: {answer['state']}, {answer['parts']} parts in this run")
    for name, source in answer["sources"].items():
        state = f"up, epoch {source['epoch']}" if source["up"] else f"DOWN, {_WHY.format(**source)}"
        click.echo(f"source {name}: {state}")
    if answer["line_stop"]:
        click.echo("line stop: look at the gate, then 'edge-ad station reset'")


@command.command()
@_CONFIG
def reset(config: Path) -> None:
    """Let the line go on after a line-stop alarm, when a person has looked at the gate."""
    answer = _ask(config, "reset")
    click.echo(f"{answer['station']}: {answer['state']}")


@command.command()
@_CONFIG
def stop(config: Path) -> None:
    """End the station; the gate rejects from then on."""
    _ask(config, "stop")


def _ask(config: Path, what: str) -> dict[str, Any]:
    from edge_ad.config.gate import load_gate
    from edge_ad.delivery.control import ControlClient

    with ControlClient(load_gate(config).control_endpoint, program="edge-ad station") as control:
        return control.request(what)


def _log_beside() -> logging.handlers.QueueListener:
    """The log is written by a thread of its own: a full pipe must not hold the gate up."""
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handing = logging.handlers.QueueHandler(waiting)
    handing.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handing])
    listener = logging.handlers.QueueListener(waiting, log_handler())
    listener.start()
    return listener
