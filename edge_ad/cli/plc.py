"""`edge-ad plc`: the bridge between a PLC and the daemon."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import click

from edge_ad.cli.log import log_to_stderr


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The plc.toml.")
@click.option("--failpoint", "failing", multiple=True, hidden=True, help="See edge_ad.failpoints.")
def command(config: Path, failing: tuple[str, ...]) -> None:
    """Carry triggers from a PLC to the daemon, and verdicts back, until SIGTERM.

    The PLC tracks the parts and moves the gate; 'edge-ad init --plc' writes a plc.toml, and the register
    map is in deploy/plc/README.md. Exit code 0: stopped; 2: configuration; 5: port or disk.
    """
    from edge_ad import failpoints
    from edge_ad.config.plc import load_plc
    from edge_ad.daemon.process import SWITCH_INTERVAL_S
    from edge_ad.delivery.plc.run import Bridge
    from edge_ad.supervisor import Supervisor

    log_to_stderr()
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what matters is said here
    failpoints.activate(failing)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    bridge = Bridge(load_plc(config), supervisor=Supervisor.of(os.environ))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bridge.stop())
    bridge.start()
    sys.exit(bridge.run())
