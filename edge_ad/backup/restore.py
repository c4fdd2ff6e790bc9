"""Putting a backup in place: all of it is unpacked beside, verified, and moved there by a rename."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_ad.backup.manifest import CONFIG, STATE, Manifest
from edge_ad.backup.unpack import unpack
from edge_ad.config import Station, parse_station
from edge_ad.config.local import read_toml
from edge_ad.delivery.lock import running_pid
from edge_ad.durable import sync_directory
from edge_ad.errors import ConfigError, DeliveryError, DeviceError


@dataclass(frozen=True)
class Restored:
    """Where the station is now, what its backup says, and in words what it still needs."""

    station: Station
    manifest: Manifest
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Target:
    """A directory that is made, or that is there and empty: then its owner and mode stay."""

    path: Path
    staging: Path

    def put(self) -> None:
        """Raises DeviceError where something has come there meanwhile."""
        below = list(self.staging.rglob("*"))
        for path in below:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)  # whatever root's umask is; the topmost one says who comes in
        try:
            if self.path.exists():
                facts = self.path.stat()
                self.staging.chmod(facts.st_mode & 0o7777)
                for path in (self.staging, *below) if os.geteuid() == 0 else ():
                    os.chown(path, facts.st_uid, facts.st_gid, follow_symlinks=False)
            else:
                mask = os.umask(0)
                os.umask(mask)
                self.staging.chmod(0o777 & ~mask)
            self.staging.rename(self.path)
        except OSError as error:
            raise DeviceError(
                f"{self.path}: cannot be put in place ({error.strerror}); nothing was restored"
            ) from error
        sync_directory(self.path.parent)


def restore_backup(archive: Path, directory: Path, station_file: Path | None = None) -> Restored:
    """Put the station into `directory`, its state where the station file says; with `station_file` the
    station file goes there, and `directory` is the state directory, which must be what that file says.

    Both must be new or empty, and no daemon may hold them. Raises ConfigError, ArtifactError (the
    archive is damaged or no backup), DeliveryError (a daemon runs), DeviceError, OSError; in each case
    nothing is in place.
    """
    directory = Path(os.path.normpath(directory.absolute()))
    home, state = directory, None
    if station_file is not None:
        home, state = Path(os.path.normpath(station_file.absolute())).parent, directory
        if home.is_relative_to(state):
            raise ConfigError(f"{station_file}: lies in the state directory {state}; give another one")
    one_tree = state is None or state.is_relative_to(home)  # its one rename is all or nothing
    for path in (home,) if state is None else (home, state):
        _check_free(path)
    with contextlib.ExitStack() as stack:
        staging = stack.enter_context(_staging(home))
        apart = staging if one_tree else stack.enter_context(_staging(directory))
        places = {CONFIG: staging / CONFIG, STATE: apart / STATE}
        for place in places.values():
            place.mkdir()
        manifest = unpack(archive, places)
        name = station_file.name if station_file else manifest.station_file
        station = _read_station(places[CONFIG], manifest.station_file, home / name)
        _check_state(station, home, state)
        targets = [_Target(home, places[CONFIG])]
        if one_tree:
            inside = places[CONFIG] / _state_of(station).relative_to(home)
            inside.parent.mkdir(parents=True, exist_ok=True)
            places[STATE].rename(inside)
        else:
            targets.insert(0, _Target(directory, places[STATE]))
        os.sync()  # everything, before it appears
        _put(targets)
    return Restored(station, manifest, tuple(_missing(station, manifest)))


def _read_station(config: Path, name: str, final: Path) -> Station:
    """The station as it will be at `final`; its unpacked file gets that name."""
    file = config / name
    if name != final.name:
        if (config / final.name).exists():
            raise ConfigError(f"{final}: is the name of another file of the backup; give another one")
        file = file.rename(config / final.name)
    return parse_station(read_toml(file, "station file", "edge-ad init"), str(final))


def _state_of(station: Station) -> Path:
    return Path(os.path.normpath(station.state_path))


def _check_state(station: Station, home: Path, given: Path | None) -> None:
    """Raises ConfigError unless the state belongs where it is about to be put."""
    wanted = _state_of(station)
    if given is not None and wanted != given:
        raise ConfigError(
            f"{station.path}: says state_dir = {station.state_dir!r}, which is {wanted}, not {given}; "
            f"give {wanted} as the directory, and move it afterwards"
        )
    if given is None and (wanted == home or not wanted.is_relative_to(home)):
        raise ConfigError(
            f"{station.path}: says state_dir = {station.state_dir!r}, which is not below {home}; give "
            f"that as the directory, and where the station file goes: -c {station.path}"
        )


def _put(targets: list[_Target]) -> None:
    """All or none: what is put first goes back where the next one is refused."""
    done: list[_Target] = []
    try:
        for target in targets:
            target.put()
            done.append(target)
    except BaseException:
        for target in done:
            target.path.rename(target.staging)
        raise


def _check_free(path: Path) -> None:
    """Raises ConfigError where there is something, DeliveryError where that is a daemon's."""
    pid = running_pid(path)
    if pid is not None:
        raise DeliveryError(
            f"{path}: belongs to the running daemon with pid {pid}; stop it, and restore somewhere else"
        )
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConfigError(f"{path}: is no directory; give another one")
    if path.is_dir() and any(path.iterdir()):
        raise ConfigError(
            f"{path}: is not empty, and nothing is ever overwritten; give another one, or move it away"
        )
    if path.exists() and path.is_mount():
        raise ConfigError(f"{path}: a disk is mounted there; give a directory below it")


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A directory beside `target`. Those of restores that were killed are removed: they have no
    lock."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.restore-"
    for left in target.parent.glob(f"{prefix}*"):
        with _locked(left) as free:
            if free:
                shutil.rmtree(left)
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    with _locked(path):
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Try to hold a directory's lock; whether it is held."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _missing(station: Station, manifest: Manifest) -> Iterator[str]:
    """What the station does not find here."""
    yield from manifest.left_out
    if station.engine.kind == "tensorrt":
        yield "engines hold for one card: 'edge-ad backbone build', then 'edge-ad check'"
