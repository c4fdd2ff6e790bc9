"""`edge-ad restore`: a backup in place, on this PC or a spare one."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="Where the station file goes, with what it names; DIRECTORY is the state directory then.",
)
@click.option(
    "--service", metavar="NAME", help="Both where the units of station NAME have them; as root."
)
def command(file: Path, directory: Path | None, config: Path | None, service: str | None) -> None:
    """Put the backup FILE into DIRECTORY, which is new or empty.

    Every file is verified before anything is in place, and nothing is overwritten. A bundle that was
    calibrated on another device is checked by its reference frames when the daemon starts.
    """
    from edge_ad.backup import restore_backup
    from edge_ad.cli.init_service import CONFIGURATION, STATE, check_service, make_directories
    from edge_ad.errors import ConfigError

    if service is not None:
        if directory is not None or config is not None:
            raise ConfigError("--service NAME says where everything goes; leave out DIRECTORY and -c")
        check_service(service)
        make_directories(service)
        directory, config = STATE / service, CONFIGURATION / service / "line.toml"
    if directory is None:
        raise ConfigError("give the DIRECTORY to restore into, or --service NAME")
    restored = restore_backup(file, directory, config)
    station, manifest = restored.station, restored.manifest
    click.echo(
        f"{station.path}: station {station.station} as of {manifest.created}, {len(manifest.files)} "
        f"files; state in {station.state_path}"
    )
    for line in restored.missing:
        click.echo(f"missing: {line}", err=True)
    click.echo(f"'edge-ad check -c {station.path}' says what would fail on this PC")
