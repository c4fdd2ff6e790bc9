"""What commands share: `--json [FILE]`, and where its text goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

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
        help="Write the result as JSON to FILE, or to standard output.",
    )(function)


def write_json(data: Any, json_to: str) -> None:
    """Write `data` as indented JSON where `--json` said. NaN becomes null, as JSON has no NaN."""
    text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n"
    if json_to == "-":
        click.echo(text, nl=False)
    else:
        Path(json_to).write_text(text, encoding="utf-8")
