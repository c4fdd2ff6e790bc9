"""`edge-ad run`: the inspection daemon."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from pathlib import Path

import click

from edge_ad.cli.log import log_to_stderr

# Before NumPy is imported: with one thread, BLAS does not fight the engine's pool for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.option(
    "--journal",
    type=click.Path(path_type=Path),
    help="Append every verdict to this file, as JSON lines.",
)
@click.option("--failpoint", "failing", multiple=True, hidden=True, help="See edge_ad.failpoints.")
def command(config: Path, journal: Path | None, failing: tuple[str, ...]) -> None:
    """Inspect every part until SIGTERM, or until the cameras end (a video file, a folder).

    SIGTERM inspects what is queued, then stops. SIGHUP reads the station file and the active bundle
    again. Exit code 0: stopped or ended; 2: configuration; 3: bundle refused; 5: port, disk or engine.
    """
    from edge_ad.daemon import process

    process.prepare()
    from edge_ad import failpoints
    from edge_ad.config import load_station
    from edge_ad.daemon.loading import early_build

    log_to_stderr()
    failpoints.activate(failing)
    station = load_station(config)
    # The bundle is verified and compiled in a thread while this one imports what compiling needs first.
    build = early_build(station)
    import_module("edge_ad.backbone.openvino")
    from edge_ad.daemon import Daemon
    from edge_ad.supervisor import Supervisor

    supervisor = Supervisor.of(os.environ)
    daemon = Daemon(station, journal, build=build, own_process=True, supervisor=supervisor)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    signal.signal(signal.SIGHUP, lambda *_: daemon.request_reload())
    daemon.start()
    sys.exit(daemon.run())
