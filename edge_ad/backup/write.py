"""Writing a backup, beside a daemon that goes on inspecting."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

import msgspec

from edge_ad import __version__
from edge_ad.backup.contents import (
    Contents,
    Item,
    evidence_entries,
    evidence_numbers,
    state_items,
    station_contents,
    walk,
)
from edge_ad.backup.manifest import MANIFEST, STATE, FileEntry, Manifest, check_link, check_name
from edge_ad.backup.streams import compressor
from edge_ad.calibration_set import timestamp
from edge_ad.config import Station
from edge_ad.durable import sync_directory
from edge_ad.errors import CheckFailed, ConfigError, DeviceError
from edge_ad.evidence.entry import DIRECTORY as EVIDENCE
from edge_ad.evidence.score_log import DIRECTORY as SCORES

_BUNDLES, _CALIBRATION = "bundles", "calibration"


@dataclass(frozen=True)
class Written:
    """A finished backup. `sha256` is of the archive; `evicted`: parts of the evidence, or days of
    scores, that went for room while it was written, and so are not in it."""

    path: Path
    manifest: Manifest
    sha256: str
    evicted: int


def write_backup(station: Station, out: Path, *, evidence: bool = True, keys: bool = False) -> Written:
    """Put the station into `out`, which appears when it is complete and on disk.

    Other programs may run meanwhile, but for a calibration. Raises ConfigError (the name, a file that
    is there, the station's files), CheckFailed (a calibration runs, a file changed), DeviceError (a
    database cannot be read), OSError (the disk).
    """
    out = out.absolute()
    contents = station_contents(station, keys)
    if out.exists():
        raise ConfigError(f"{out}: exists already; give another name")
    if out.is_relative_to(contents.state):
        raise ConfigError(f"{out}: lies in the state directory; keep backups on another disk")
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        # It may hold keys, and pictures of a product that is nobody's business.
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as raw:
            archive = _Archive(part.parent)
            with compressor(raw, out.name) as packed, _tar(packed) as tar:
                archive.tar = tar
                archive.add_all(contents.config)
                _add_state(archive, contents, evidence)
                manifest = Manifest(
                    edge_ad=__version__, station=station.station,
                    created=timestamp(datetime.now(timezone.utc)),
                    station_file=Path(station.path).name, evidence=evidence, keys=keys,
                    files=archive.files, links=archive.links,
                    left_out=[*contents.left_out, *archive.skipped],
                )  # fmt: skip
                archive.add_bytes(MANIFEST, msgspec.json.encode(manifest))
            raw.flush()
            os.fsync(raw.fileno())
            raw.seek(0)
            digest = hashlib.sha256()
            while block := raw.read(1 << 20):
                digest.update(block)
        part.rename(out)
        sync_directory(out.parent)
    finally:
        part.unlink(missing_ok=True)
    return Written(out, manifest, digest.hexdigest(), archive.evicted)


def _add_state(archive: _Archive, contents: Contents, evidence: bool) -> None:
    """What changes only under a lock is taken under it; evidence, whose oldest may go, comes last."""
    state = contents.state
    tops = sorted(path.name for path in state.iterdir()) if state.is_dir() else []
    if _BUNDLES in tops:
        # Short: activating another bundle waits for it.
        with _held((state / _BUNDLES).glob("*/.lock"), wait=True):
            archive.add_all(contents.open(state_items(state, _BUNDLES)))
    # Frames are removed by a calibration alone.
    with _held((state / _CALIBRATION).glob("*/.lock"), wait=False):
        for top in tops:
            if top not in (_BUNDLES, EVIDENCE, SCORES):
                archive.add_all(contents.open(state_items(state, top)))
    if SCORES in tops and evidence:
        for item in contents.open(state_items(state, SCORES)):
            archive.add_day(item)
    if EVIDENCE in tops:
        archive.add_all(evidence_numbers(state))
        for entry in evidence_entries(state) if evidence else ():
            archive.add_entry(entry, f"{STATE}/{entry.relative_to(state)}")


@contextlib.contextmanager
def _held(locks: Iterable[Path], wait: bool) -> Iterator[None]:
    """Hold lock files, shared: those who change what they guard wait, or are waited for."""
    with contextlib.ExitStack() as stack:
        for path in sorted(locks):
            file = stack.enter_context(path.open("rb"))
            try:
                fcntl.flock(file, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise CheckFailed(
                    f"{path.parent}: a calibration of this product is running; wait for it or end it"
                ) from error
        yield


@dataclass
class _Archive:
    """The archive that is being written. `scratch`: where copies of databases go for a moment."""

    scratch: Path
    tar: tarfile.TarFile = field(init=False)
    files: dict[str, FileEntry] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    evicted: int = 0
    skipped: list[str] = field(default_factory=list)  # in words

    def add_all(self, items: Iterable[Item]) -> None:
        """Raises CheckFailed where a file is gone or becomes shorter while it is read."""
        for item in items:
            try:
                self._add(item)
            except FileNotFoundError as error:
                raise CheckFailed(f"{item.path}: went away while it was read; begin again") from error

    def add_day(self, item: Item) -> None:
        """A file of the score log: whole, or not at all where it has just gone or is damaged."""
        try:
            self._add(item)
        except FileNotFoundError:
            self.evicted += 1
        except DeviceError as error:
            self.skipped.append(str(error))

    def add_entry(self, directory: Path, name: str) -> None:
        """A part of the evidence: whole or, where it has just gone for room, not at all."""
        with contextlib.ExitStack() as stack:
            try:
                opened = [
                    (i.name, stack.enter_context(i.path.open("rb"))) for i in walk(directory, name)
                ]
            except FileNotFoundError:
                self.evicted += 1
                return
            if not directory.is_dir():  # it went while it was listed: half of it is none
                self.evicted += 1
                return
            for below, file in opened:
                self._add_file(below, file)

    def _add(self, item: Item) -> None:
        if item.target:
            check_link(item.name, item.target)
            if not item.path.is_dir():
                raise CheckFailed(
                    f"{item.path}: leads to {item.target!r}, which is not there; 'edge-ad bundle list' "
                    "and 'activate', or remove it"
                )
            info = tarfile.TarInfo(item.name)
            info.type, info.linkname = tarfile.SYMTYPE, item.target
            self.tar.addfile(info)
            self.links[item.name] = item.target
        elif item.is_database:
            with _snapshot(item.path, self.scratch) as copy, copy.open("rb") as file:
                self._add_file(item.name, file, item.path.stat().st_mode)
        else:
            with item.path.open("rb") as file:
                self._add_file(item.name, file)

    def _add_file(self, name: str, file: IO[bytes], mode: int | None = None) -> None:
        check_name(name)
        facts = os.fstat(file.fileno())
        info = tarfile.TarInfo(name)
        info.size, info.mtime = facts.st_size, int(facts.st_mtime)
        info.mode = (facts.st_mode if mode is None else mode) & 0o777
        hashed = _Hashed(file, name)
        self.tar.addfile(info, hashed)  # type: ignore[arg-type]  # it only reads
        self.files[name] = FileEntry(hashed.digest.hexdigest(), info.size, info.mode)

    def add_bytes(self, name: str, data: bytes) -> None:
        """A file without a place."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))


class _Hashed:
    """A file whose sha256 is taken while it is read, by blocks that it must have."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.digest = hashlib.sha256()
        self._file = file
        self._name = name

    def read(self, size: int) -> bytes:
        """Raises CheckFailed."""
        data = self._file.read(size)
        if len(data) < size:
            raise CheckFailed(f"{self._name}: became shorter while it was read; begin again")
        self.digest.update(data)
        return data


@contextlib.contextmanager
def _snapshot(path: Path, scratch: Path) -> Iterator[Path]:
    """A copy of a SQLite database at one moment, whoever writes to it. Raises DeviceError."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".snapshot-") as directory:
        copy = Path(directory) / path.name
        try:
            uri = f"{path.absolute().as_uri()}?mode=ro"
            with (
                contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as source,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")  # one file
                found = target.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            found = str(error)
        if found != "ok":
            raise DeviceError(
                f"{path}: cannot be copied ({found}); if it is damaged, its program sets it aside at "
                "its next start, and a backup is possible then"
            )
        yield copy


def _tar(stream: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT)
