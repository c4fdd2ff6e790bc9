"""`edge-ad keys`: key pairs for ZeroMQ over the network (CURVE)."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Keys of the station and its clients for ZeroMQ over the network.

    Each side makes a pair of its own. The station's file names its secret key and a directory with its
    clients' public keys; each client has its secret key and the station's public one.
    """


@command.command()
@click.argument("name")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=".", show_default=True, help="Directory."
)
def new(name: str, output: Path) -> None:
    """Make a pair: NAME.key, to be handed on, and NAME.key_secret, which only its owner may read."""
    from edge_ad.delivery.curve import write_pair

    public, secret = write_pair(output, name)
    click.echo(f"public   {public}: give it to the other side\nsecret   {secret}: keep it here")


@command.command("list")
@click.argument("directory", type=click.Path(path_type=Path))
def list_command(directory: Path) -> None:
    """The public keys in DIRECTORY: as curve.clients, who is let in."""
    from edge_ad.delivery.curve import read_directory

    keys = read_directory(directory)
    for name, key in keys.items():
        click.echo(f"{key.decode()}  {name}")
    if not keys:
        click.echo(f"no *.key file in {directory}; 'edge-ad keys new NAME' makes one", err=True)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
def public(file: Path) -> None:
    """The public key in FILE, which may be either one of a pair."""
    from edge_ad.delivery.curve import read_public

    click.echo(read_public(file).decode())
