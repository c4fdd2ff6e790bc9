"""`edge-ad check`: what would fail in production, before it does."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_ad.cli.output import json_option, write_json
from edge_ad.errors import CheckFailed

# Before NumPy is imported: as in the daemon.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@json_option
def command(config: Path, json_to: str | None) -> None:
    """Try what the daemon needs: cameras, backbone, engine, bundle, disk, ports, clock.

    Changes nothing and may run beside the daemon. Exit code 0: nothing fails; 1: something does; 2: the
    station file is wrong.
    """
    from edge_ad.check import check_station
    from edge_ad.config import load_station

    station = load_station(config)
    findings = []
    for finding in check_station(station):
        findings.append(finding)
        if json_to != "-":
            mark, color = _MARKS[finding.state]
            click.echo(f"{click.style(mark, fg=color)} {finding.name:<16} {finding.text}")
    failed = [finding.name for finding in findings if finding.state == "fail"]
    if json_to is not None:
        write_json({"ok": not failed, "checks": findings}, json_to)
    if failed:
        raise CheckFailed(
            f"{config}: {', '.join(failed)} would fail in production; see above for what to do"
        )
