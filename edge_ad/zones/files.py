"""Files of zones: found, read within limits, and what they hold listed for messages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_ad.errors import ConfigError

MOST_LISTED = 20


def find(name: str, base: Path) -> Path:
    """The path of a file, relative names being relative to `base`. ConfigError for "~nobody/"."""
    try:
        return base / Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"cannot be found ({error}); give its whole path") from error


def read(path: Path, most_bytes: int, remedy: str) -> bytes:
    """The file's bytes. ConfigError, without its name, when it cannot be read, is no file, or is larger
    than `most_bytes`; `remedy` is what to do then."""
    try:
        if not path.exists():
            raise ConfigError(f"there is no such file in {path.parent}; check the path")
        if not path.is_file():
            raise ConfigError("is not a file; check the path")
        size = path.stat().st_size
        if size > most_bytes:
            raise ConfigError(
                f"{size / 1e6:.0f} MB is more than the {most_bytes / 1e6:.0f} MB that are read; {remedy}"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot be read ({why}); check the path") from error


def listed(values: Iterable[object]) -> str:
    """Some values for a message, as many as can be read."""
    every = [repr(value) for value in values]
    more = f" and {len(every) - MOST_LISTED} more" if len(every) > MOST_LISTED else ""
    return ", ".join(every[:MOST_LISTED]) + more
