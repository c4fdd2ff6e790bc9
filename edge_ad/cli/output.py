"""What commands share: `--json [FILE]`, and where its text goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from edge_ad.errors import ConfigError

SUFFIXES = (".json", ".jsonl")
F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """Add `--json [FILE]` as the parameter `json_to`: None, "-" for standard output, or a path."""
    return click.option(
        "--json",
        "json_to",
        is_flag=False,
        flag_value="-",
        default=None,
        metavar="[FILE]",
        callback=_checked,
        help="Write the result as JSON to FILE (.json or .jsonl), or to standard output.",
    )(function)


def _checked(_context: click.Context, _option: click.Parameter, json_to: str | None) -> str | None:
    """A word after --json is its FILE: an image or a bundle's id that was meant for the command must not
    be written over."""
    if json_to is None or json_to == "-" or json_to.endswith(SUFFIXES):
        return json_to
    path = Path(json_to)
    if path.exists() and not path.is_file() and not path.is_dir():
        return json_to  # a device or pipe
    raise ConfigError(
        f"--json {json_to}: is no file for JSON; give a name that ends in {' or '.join(SUFFIXES)}, or "
        "put --json last to write to standard output"
    )


def write_json(data: Any, json_to: str) -> None:
    """Write `data` as indented JSON where `--json` said. NaN becomes null, as JSON has no NaN."""
    text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n"
    if json_to == "-":
        click.echo(text, nl=False)
    else:
        Path(json_to).write_text(text, encoding="utf-8")


def write_json_lines(items: Iterable[Any], json_to: str) -> None:
    """Write each as a line of JSON where `--json` said, one after the other: there may be millions."""
    with click.open_file(json_to, "w", encoding="utf-8") as out:
        for item in items:
            out.write(msgspec.json.encode(item).decode() + "\n")
