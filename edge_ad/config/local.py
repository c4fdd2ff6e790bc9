"""What the files of all programs have in common: how they are read, and what their paths mean."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge_ad.config.delivery import Control
from edge_ad.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class LocalFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A program's TOML file. `path` is where it was read from, which relative paths in it start from."""

    path: str = ""
    state_dir: str = "state"

    @property
    def state_path(self) -> Path:
        """The state directory as an absolute path."""
        return self.resolve(self.state_dir)

    @property
    def where(self) -> str:
        """The file, for messages."""
        return self.path or "configuration"

    def resolve(self, name: str) -> Path:
        """A path of the file as an absolute one."""
        base = Path(self.path).parent if self.path else Path()
        return (base / Path(name).expanduser()).absolute()

    def optional(self, name: str) -> Path | None:
        """The same; None where the file names none."""
        return self.resolve(name) if name else None

    def endpoint(self, text: str) -> str:
        """A ZeroMQ endpoint, of ipc with an absolute path."""
        if not text.startswith("ipc://"):
            return text
        return f"ipc://{self.resolve(text.removeprefix('ipc://'))}"


class CompanionFile(LocalFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file of a program beside the daemon, with a control socket of its own."""

    control: Control = msgspec.field(default_factory=Control)

    @property
    def control_endpoint(self) -> str:
        """Its control socket; empty in the file: one in the state directory."""
        return self.endpoint(self.control.endpoint or f"ipc://{self.state_path / 'control.sock'}")


F = TypeVar("F", bound=LocalFile)
T = TypeVar("T")


def read_toml(path: Path, what: str, command: str) -> dict[str, Any]:
    """Parse a file. Raises ConfigError; `command` writes such a file."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the {what} ({error}); '{command}' writes one") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return data


def parse_file(data: dict[str, Any], kind: type[F], path: str) -> F:
    """Check a parsed file. Raises ConfigError that names file, key, value and bound."""
    where = path or "configuration"
    if "path" in data:
        raise ConfigError(f"{where}: unknown key 'path'")
    return msgspec.structs.replace(parse_table(data, kind, f"{where}: "), path=path)


def parse_table(data: dict[str, Any], kind: type[T], prefix: str) -> T:
    """Check a table. `prefix` begins the message. Raises ConfigError."""
    try:
        return msgspec.convert(data, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{prefix}{_explain(error, data)}") from error


def _explain(error: msgspec.ValidationError, data: dict[str, Any]) -> str:
    """msgspec's message with the key in TOML's notation and the value that was found there."""
    message, _, location = str(error).partition(" - at `$")
    steps = re.findall(r"\.([^.\[`]+)|\[(\d+)\]", location)
    value: Any = data
    for key, index in steps:
        try:
            value = value[int(index)] if index else value[key]
        except (KeyError, IndexError, TypeError):
            break
    key = location.rstrip("`").lstrip(".") or "the file"
    found = "" if isinstance(value, (dict, list)) else f" (found {value!r})"
    return f"{key}: {message}{found}"
