"""`edge-ad backup`: the whole station in one file."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option("-c", "--config", required=True, type=click.Path(path_type=Path), help="The station file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--without-evidence", is_flag=True, help="Leave out pictures and scores of parts.")
@click.option(
    "--keys", is_flag=True, help="Take the keys of [curve] too: keep the file where they may lie."
)
def command(config: Path, file: Path, without_evidence: bool, keys: bool) -> None:
    """Put the station into FILE (.tar.zst or .tar.gz), also while its daemon runs.

    That is the station file, what it names below its directory, gate.toml and plc.toml beside it, and
    the state directory: bundles and their networks, kept parts, evidence, verdicts that wait.
    'edge-ad restore' puts it in place.
    """
    from edge_ad.backup import write_backup
    from edge_ad.config import load_station

    os.nice(19)  # a daemon beside it keeps its cores
    written = write_backup(load_station(config), file, evidence=not without_evidence, keys=keys)
    manifest = written.manifest
    size = sum(entry.size for entry in manifest.files.values())
    click.echo(
        f"{written.path}: {len(manifest.files)} files, {size / 1e6:.1f} MB; sha256 {written.sha256}"
    )
    if written.evicted:
        click.echo(f"evidence of {written.evicted} parts or days went for room meanwhile", err=True)
    for line in manifest.left_out:
        click.echo(f"not in it: {line}", err=True)
