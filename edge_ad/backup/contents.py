"""Which files a station is: its own file and what that names, and its state directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_ad.backup.manifest import CONFIG, STATE, is_bundle_link
from edge_ad.config import Station
from edge_ad.config.gate import load_gate
from edge_ad.config.local import LocalFile
from edge_ad.config.plc import load_plc
from edge_ad.errors import CheckFailed, ConfigError
from edge_ad.evidence.archive import LAST
from edge_ad.evidence.entry import DIRECTORY as EVIDENCE
from edge_ad.evidence.entry import LOST, entry_number

# Of one card and one TensorRT, and built again by `edge-ad backbone build`.
_ENGINES = "engines"
_DATABASES = (".db", ".sqlite")
_BESIDE_DATABASE = tuple(f"{one}-{what}" for one in _DATABASES for what in ("wal", "shm", "journal"))


@dataclass(frozen=True)
class Item:
    """A file for the archive; of a link `target` is where it leads."""

    name: str
    path: Path
    target: str = ""

    @property
    def is_database(self) -> bool:
        """Whether SQLite may be writing to it. (One that was set aside as damaged has another name.)"""
        return self.path.suffix in _DATABASES


@dataclass(frozen=True)
class Contents:
    """`config`: the station file and what belongs to it; `state`: the state directory; `left_out`: what
    is not taken, in words."""

    state: Path
    config: tuple[Item, ...]
    left_out: tuple[str, ...]
    secrets: frozenset[Path] = frozenset()  # that are not taken, nor what is below them

    def open(self, items: Iterable[Item]) -> Iterator[Item]:
        """Those that are no secret, wherever it lies."""
        for item in items:
            if not (self.secrets and self._is_secret(item.path.resolve())):
                yield item

    def _is_secret(self, path: Path) -> bool:
        return any(path.is_relative_to(secret) for secret in self.secrets)


@dataclass
class _Finder:
    """Gathers what files name, as far as it lies below the station file or in the state directory."""

    root: Path
    state: Path
    keys: bool
    items: dict[str, Item] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    secrets: set[Path] = field(default_factory=set)

    def add(self, key: str, path: Path, secret: bool = False) -> None:
        """A file or directory that the key of a file names."""
        path = Path(os.path.normpath(path))
        if secret and not self.keys:
            self.secrets.add(path.resolve())
            self.left_out.append(f"{key}: {path}: keys are taken only with --keys")
        elif path.is_relative_to(self.state):
            return  # with the rest of the state
        elif not path.is_relative_to(self.root):
            self.left_out.append(f"{key}: {path} lies apart from the station file; bring it there too")
        elif not path.exists():
            self.left_out.append(f"{key}: {path} is not there")
        else:
            name = f"{CONFIG}/{path.relative_to(self.root)}"
            for item in walk(path, name) if path.is_dir() else [Item(name, path)]:
                self.items[item.name] = item


def station_contents(station: Station, keys: bool) -> Contents:
    """What belongs to a station. Raises ConfigError: its files are wrong, or lie in its
    state directory."""
    root, state = Path(station.path).absolute().parent, Path(os.path.normpath(station.state_path))
    if root.is_relative_to(state):
        raise ConfigError(
            f"{station.where}: state_dir: {state} holds the station file itself; give the state a "
            "directory of its own, as 'state'"
        )
    finder = _Finder(root, state, keys)
    finder.add("the station file", Path(station.path).absolute())
    if station.engine.backbone:
        finder.add("engine.backbone", station.backbone_path)
    for camera in station.camera:
        if camera.locate is not None and camera.locate.reference:
            finder.add(f"camera {camera.name}: reference", station.resolve(camera.locate.reference))
    for zone in station.zone:
        if zone.file:
            finder.add(f"zone {zone.name}: file", station.resolve(zone.file))
    for key, path in (("secret", station.curve_secret), ("clients", station.curve_clients)):
        if path is not None:
            finder.add(f"curve.{key}", path, secret=True)
    _add_companions(finder, station)
    found = Contents(state, (), tuple(finder.left_out), frozenset(finder.secrets))
    return replace(found, config=tuple(found.open(finder.items.values())))


def _add_companions(finder: _Finder, station: Station) -> None:
    """The gate's and the bridge's files beside the station's, and what the calibrating unit is told."""
    file = finder.root / "gate.toml"
    if file.exists() and (gate := load_gate(file)).station == station.station:
        _add_companion(finder, gate, {"curve.secret": gate.curve.secret} | {
            f"source {source.name}: server_key": source.server_key for source in gate.source
        })  # fmt: skip
    file = finder.root / "plc.toml"
    if file.exists():
        plc = load_plc(file)
        keys = {"curve.secret": plc.curve.secret, "daemon.server_key": plc.daemon.server_key}
        _add_companion(finder, plc, keys)
    if (finder.root / "calibrate.env").exists():
        finder.add("calibrate.env", finder.root / "calibrate.env")


def _add_companion(finder: _Finder, file: LocalFile, keys: dict[str, str]) -> None:
    name = Path(file.path).name
    finder.add(name, Path(file.path).absolute())
    if file.state_path.exists():
        finder.add(f"{name}: state_dir", file.state_path)
    for key, value in keys.items():
        if value:
            finder.add(f"{name}: {key}", file.resolve(value), secret=True)


def state_items(state: Path, top: str) -> Iterator[Item]:
    """The files of an entry of the state directory, which may be a link to another disk. Raises
    CheckFailed for a link below it."""
    path, name = state / top, f"{STATE}/{top}"
    if top == _ENGINES or not _wanted(path):
        return
    if path.is_dir():
        yield from walk(path, name)
    else:
        yield Item(name, path)


def evidence_numbers(state: Path) -> Iterator[Item]:
    """What keeps a number from being given twice."""
    path = state / EVIDENCE / LAST
    if path.is_file():
        yield Item(f"{STATE}/{EVIDENCE}/{LAST}", path)


def evidence_entries(state: Path) -> Iterator[Path]:
    """The directory of every part that is kept; the oldest may go at any moment."""
    for product in sorted((state / EVIDENCE).iterdir()):
        if product.is_dir() and product.name != LOST:
            yield from (
                path
                for path in sorted(product.iterdir())
                if entry_number(path) is not None and path.is_dir()
            )


def walk(directory: Path, name: str) -> Iterator[Item]:
    """Every file below a directory, but for locks, sockets and what is not finished. Raises
    CheckFailed for a link."""
    for path in sorted(directory.iterdir()):
        below = f"{name}/{path.name}"
        if path.is_symlink():
            if not is_bundle_link(below):
                raise CheckFailed(
                    f"{path}: is a link, which a backup cannot keep; put there what it leads to"
                )
            yield Item(below, path, str(path.readlink()))
        elif path.is_dir():
            if not path.name.startswith((".", "work-")) and path.name != LOST:
                yield from walk(path, below)
        elif _wanted(path):
            yield Item(below, path)


def _wanted(path: Path) -> bool:
    name = path.name
    if name.startswith(".") or name == LOST or name.endswith((".lock", *_BESIDE_DATABASE)):
        return False
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:  # a day of scores that has just gone
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
