"""`edge-ad`: finds the command's file, runs it, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 a check or gate failed, 2 wrong use or configuration, 3 artifact refused, 4 camera,
5 device. A command's file is imported only when that command runs, so `edge-ad --help` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from edge_ad import __version__
from edge_ad.cli.log import say_error
from edge_ad.errors import EdgeAdError

# name -> (module under edge_ad.cli, one line of help)
COMMANDS = {
    "init": ("init", "Write a commented line.toml."),
    "demo": ("demo", "A rendered production line, end to end."),
    "camera": ("camera", "List cameras, take a picture."),
    "run": ("run", "The inspection daemon."),
    "status": ("status", "What the running daemon says of itself."),
    "reload": ("reload", "Have the running daemon read its file and bundle again."),
    "station": ("station", "The station at the reject gate."),
    "plc": ("plc", "The bridge between a PLC and the daemon."),
    "trigger": ("trigger", "Announce one part to the running daemon."),
    "keys": ("keys", "Keys of the station and its clients for ZeroMQ over the network."),
    "product": ("product", "Change over to another product."),
    "calibrate": ("calibrate", "Fit the Gaussians of good parts and activate them."),
    "challenge": ("challenge", "Prove with known parts that the line rejects what is bad."),
    "audit": ("audit", "Who changed what parts are judged by."),
    "evidence": ("evidence", "Pictures and scores of parts that the daemon kept: list, find, show."),
    "replay": ("replay", "Archived parts through another bundle: which verdicts change."),
    "qualify": ("qualify", "Detection rates on known-bad parts, with their bounds."),
    "resolution": ("resolution", "The smallest defect that is found: rendered ones in good parts."),
    "inspect": ("inspect", "One-shot verdicts on image files."),
    "evaluate": ("evaluate", "AUROC and rates on a data set in MVTec layout."),
    "backbone": ("backbone", "List, export and build networks."),
    "bundle": ("bundle", "List, show, verify, activate, roll back calibrations."),
    "backup": ("backup", "Put the whole station into one file."),
    "restore": ("restore", "Put a backup in place, on this PC or a spare one."),
    "bench": ("bench", "Time this machine: engine alone, whole path, ratio."),
    "chaos": ("chaos", "Kill daemon and station again and again; nothing may be lost."),
    "check": ("check", "What would fail in production, before it does."),
}


class _LazyGroup(click.Group):
    """A group whose commands live in files of their own, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"edge_ad.cli.{COMMANDS[name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-ad")
def cli() -> None:
    """Streaming anomaly inspection for production lines: good parts in, verdicts out."""


def main() -> None:
    """The console entry point."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("edge-ad: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except EdgeAdError as error:
        say_error(f"edge-ad: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        # A full or read-only disk, a missing directory: the system's own words name the path.
        say_error(f"edge-ad: {error}; free space or give a writable path")
        sys.exit(5)
