"""Unpacking an archive that may be damaged or hostile: nothing of it is trusted before all
of it is verified."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from edge_ad.backup.manifest import (
    CONFIG,
    LARGEST_MANIFEST,
    MANIFEST,
    Manifest,
    check_link,
    check_name,
)
from edge_ad.backup.streams import damage, decompressor
from edge_ad.errors import ArtifactError, DeviceError

_RESERVE = 200_000_000  # bytes that stay free on the disk, whatever the archive claims to hold
_BLOCK = 1 << 20
_REMEDY = "take another copy of the backup"


def unpack(archive: Path, places: Mapping[str, Path]) -> Manifest:
    """Unpack into `places`, by the first part of a name; returns the manifest once every file is as it
    says, with its modes and links. Raises ArtifactError, ConfigError (another kind of file), DeviceError
    (no room), OSError; what was unpacked is the caller's to remove."""
    damaged: tuple[type[Exception], ...] = (*damage(), tarfile.TarError, ValueError, OverflowError)
    try:
        with archive.open("rb") as raw, decompressor(raw, str(archive)) as stream:
            unpacked = _Unpacked(archive, places)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    unpacked.take(tar, member)
            while stream.read(_BLOCK):  # its end has the checksum
                pass
    except damaged as error:
        raise ArtifactError(f"{archive}: is damaged ({error}); {_REMEDY}") from error
    return unpacked.verified()


@dataclass
class _Unpacked:
    archive: Path
    places: Mapping[str, Path]
    found: dict[str, tuple[str, int]] = field(default_factory=dict)  # sha256, size
    links: dict[str, str] = field(default_factory=dict)
    manifest: Manifest | None = None

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """One member. Raises ArtifactError, DeviceError."""
        name = member.name
        if self.manifest is not None or name in self.found or name in self.links:
            raise ArtifactError(f"{self.archive}: {name!r} comes twice or after the end; {_REMEDY}")
        if member.issym():
            check_link(name, member.linkname)
            self.links[name] = member.linkname  # made when nothing is written any more
            return
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise ArtifactError(
                f"{self.archive}: {name!r} is no plain file, which is all that a backup has"
            )
        content = tar.extractfile(member)
        assert content is not None
        if name == MANIFEST:
            if member.size > LARGEST_MANIFEST:
                raise ArtifactError(f"{self.archive}: {MANIFEST} has {member.size} bytes; {_REMEDY}")
            self.manifest = self._decode(content.read())
            return
        check_name(name)
        path = self._path(name)
        free = shutil.disk_usage(self.places[name.partition("/")[0]]).free
        if member.size + _RESERVE > free:
            raise DeviceError(
                f"{path.parent}: {name} takes {member.size} bytes, {free} are free; free some space"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                self.found[name] = _copy(content, file), member.size
        except (FileExistsError, NotADirectoryError) as error:
            raise ArtifactError(f"{self.archive}: {name!r} is in another's place; {_REMEDY}") from error

    def verified(self) -> Manifest:
        """The manifest, once everything is as it says. Raises ArtifactError."""
        manifest = self.manifest
        if manifest is None:
            raise ArtifactError(
                f"{self.archive}: ends before its {MANIFEST}: it is truncated; {_REMEDY}"
            )
        said = {name: (entry.sha256, entry.size) for name, entry in manifest.files.items()}
        for name in sorted({*said, *self.found}):
            if said.get(name) != self.found.get(name):
                raise ArtifactError(
                    f"{self.archive}: {name} is {_words(self.found.get(name))}, {MANIFEST} says "
                    f"{_words(said.get(name))}; {_REMEDY}"
                )
        if manifest.links != self.links:
            raise ArtifactError(
                f"{self.archive}: has links {self.links}, {MANIFEST} says {manifest.links}; {_REMEDY}"
            )
        station_file = self.places[CONFIG] / manifest.station_file
        if not station_file.is_file():
            raise ArtifactError(f"{self.archive}: has no {manifest.station_file}; {_REMEDY}")
        for name, entry in manifest.files.items():
            self._path(name).chmod(entry.mode)
        for name, target in self.links.items():
            path = self._path(name)
            if not (path.parent / target).is_dir():
                raise ArtifactError(f"{self.archive}: {name} leads to {target!r}, which is not there")
            path.symlink_to(target)
        return manifest

    def _path(self, name: str) -> Path:
        top, _, rest = name.partition("/")
        return self.places[top] / rest

    def _decode(self, data: bytes) -> Manifest:
        try:
            return msgspec.json.decode(data, type=Manifest)
        except msgspec.MsgspecError as error:
            raise ArtifactError(
                f"{self.archive}: {MANIFEST} is none of this edge_ad ({error}); restore it with the "
                "edge_ad that wrote it"
            ) from error


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := source.read(_BLOCK):
        digest.update(block)
        target.write(block)
    return digest.hexdigest()


def _words(found: tuple[str, int] | None) -> str:
    return f"{found[1]} bytes with sha256 {found[0][:12]}" if found else "not there"
