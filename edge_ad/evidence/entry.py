"""The entries of the archive: what is in one, and how they are read and found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.errors import ConfigError

DIRECTORY = "evidence"
LOST = "lost+found"  # at the root of a disk; nobody but root may read it
RECORD = "verdict.json"
REJECTS, NEAR, SAMPLE = "rejects", "near", "sample"
KINDS = (SAMPLE, NEAR, REJECTS)  # in the order in which they give way where the disk has no room
_NAME = re.compile(r"(\d{6,})-.+")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_MOST_KEY = 64  # characters of a part's key in a directory's name


class Picture(msgspec.Struct, frozen=True):
    """A camera's frame: its file beside the record, the pixel rule that made it; shape: height, width,
    channels."""

    file: str
    pixel_rule: str
    shape: tuple[int, int, int]


class EntryRecord(msgspec.Struct, frozen=True):
    """`verdict.json`. header and body are what was published; cameras: of the bundle, in the order of
    the body's poses; pictures: by camera, those that there were; kind: why it was kept, one of KINDS;
    overlays: by camera the file of the picture under its maps, to look at, where there is one. Readers
    ignore fields that they do not know."""

    number: int
    header: Header
    body: ScoreBody
    cameras: list[str]
    pictures: dict[str, Picture]
    kind: str = REJECTS
    overlays: dict[str, str] = {}


@dataclass(frozen=True)
class Entry:
    """An entry on disk."""

    path: Path
    record: EntryRecord

    @property
    def number(self) -> int:
        """Its own over all products; higher is newer."""
        return self.record.number

    @property
    def key(self) -> str:
        """The part's."""
        return self.record.header.part

    @property
    def verdict(self) -> str:
        """Decision and reason: "REJECT score"."""
        return f"{self.record.body.verdict} {self.record.body.reason}".strip()

    @property
    def time(self) -> str:
        """When the part was triggered, by the wall clock, ISO 8601 in UTC."""
        seconds = self.record.header.t_wall_ns / 1e9
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def entry_name(number: int, key: str) -> str:
    """The directory of an entry."""
    return f"{number:06d}-{_UNSAFE.sub('_', key)[:_MOST_KEY] or 'part'}"


def entry_number(path: Path) -> int | None:
    """The number in a directory's name; None for a directory that is no entry."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def read_entries(state: Path, product: str) -> tuple[list[Entry], list[str]]:
    """A product's entries, oldest first, and a line for each that is damaged.

    The daemon may write and remove entries meanwhile: what is gone when it is looked at was none.
    """
    entries, damaged = [], []
    directory = state / DIRECTORY / product
    try:
        paths = [path for path in directory.iterdir() if entry_number(path) is not None]
    except (FileNotFoundError, NotADirectoryError):
        paths = []
    except PermissionError as error:
        paths, damaged = [], [unreadable(directory, error)]
    for path in paths:
        try:
            data = (path / RECORD).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            damaged.append(f"{path / RECORD}: cannot be read ({error.strerror})")
            continue
        try:
            record = msgspec.json.decode(data, type=EntryRecord)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            damaged.append(f"{path / RECORD}: is no verdict ({error}); remove the directory")
            continue
        if record.number == entry_number(path):
            entries.append(Entry(path, record))
        else:
            damaged.append(
                f"{path}: is named otherwise than its number {record.number}; remove the directory"
            )
    return sorted(entries, key=lambda entry: entry.number), damaged


def find_entries(
    entries: Sequence[Entry], ids: Sequence[str], command: str, whose: str = "--from-evidence"
) -> list[Entry]:
    """The entries that `ids` name, each once: by number, by the part's key, or by both as the directory
    is called. Raises ConfigError for an id that names none or several; `command` lists what there is,
    `whose` ids they are."""
    found: dict[int, Entry] = {}
    for one in ids:
        named = [entry for entry in entries if one in (entry.key, entry.path.name)]
        if one.isdecimal():
            named += [entry for entry in entries if entry.number == int(one) and entry not in named]
        if not named:
            raise ConfigError(
                f"{whose}: {one!r} is neither the number nor the part key of one of the "
                f"{len(entries)} entries; {command!r} lists them"
            )
        if len(named) > 1:
            numbers = ", ".join(str(entry.number) for entry in named)
            names = ", ".join(entry.path.name for entry in named)
            raise ConfigError(
                f"{whose}: {one!r} names the entries {numbers}; give the one that is meant by "
                f"its whole name: {names}"
            )
        found[named[0].number] = named[0]
    return list(found.values())


def product_directories(root: Path) -> list[Path]:
    """Those below STATE/evidence, by name. Raises OSError where that cannot be read."""
    try:
        found = sorted(path for path in root.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in found if path.name != LOST]


def unreadable(path: Path, error: OSError) -> str:
    """What to say of a directory of entries that this user may not read."""
    return f"{path}: is left out, it cannot be read ({error.strerror}); give the right to read it"
