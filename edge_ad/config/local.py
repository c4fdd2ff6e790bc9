"""What the files of all programs have in common: how they are read, and what their paths mean."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

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
        raise ConfigError(f"{prefix}{_explain(error, data, kind)}") from error


def _explain(error: msgspec.ValidationError, data: dict[str, Any], kind: type) -> str:
    """msgspec's message with the key in TOML's notation and the value that was found there; of a key
    that is unknown, the known ones it is most like."""
    message, _, location = str(error).partition(" - at `$")
    steps = re.findall(r"\.([^.\[`]+)|\[(\d+)\]", location)
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        table = location.rstrip("`").lstrip(".")
        known = _keys(kind, [key for key, _ in steps]) if "[...]" not in location else []
        return f"{table}{': ' * bool(table)}{_unknown(unknown[1], known)}"
    value: Any = data
    for key, index in steps:
        try:
            value = value[int(index)] if index else value[key]
        except (KeyError, IndexError, TypeError):
            break
    key = location.rstrip("`").lstrip(".") or "the file"
    found = "" if isinstance(value, (dict, list)) else f" (found {value!r})"
    return f"{key}: {message}{found}"


def _unknown(key: str, known: Sequence[str]) -> str:
    text = f"unknown key {key!r}"
    if alike := get_close_matches(key, known, n=2):
        return f"{text}; did you mean {' or '.join(map(repr, alike))}?"
    return f"{text}; there may be {', '.join(sorted(known))}" if known else text


def _keys(kind: type, steps: Sequence[str]) -> list[str]:
    """What a table may hold, found by the keys that lead to it; an empty one is an array's index."""
    found: list[Any] = _parts(inspect.type_info(kind))
    for step in steps:
        if step:
            fields = [f for one in found for f in getattr(one, "fields", ()) if f.encode_name == step]
            found = [part for field in fields for part in _parts(field.type)]
        else:
            found = [
                part for one in found if hasattr(one, "item_type") for part in _parts(one.item_type)
            ]
    names = [field.encode_name for one in found for field in getattr(one, "fields", ())]
    return [name for name in names if steps or name != "path"]  # where a file was read from is no key


def _parts(info: Any) -> list[Any]:
    """A union's types, or the one."""
    return [part for one in info.types for part in _parts(one)] if hasattr(info, "types") else [info]
