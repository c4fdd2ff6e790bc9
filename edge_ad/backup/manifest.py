"""What a backup says of itself, and the names that it may have.

A backup is a tar archive: `config/` is the station file with what lies beside or below it, `state/` the
state directory. Its last member, manifest.json, has the sha256 of every other one.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_ad.bundle.store import CANDIDATE, CURRENT, PREVIOUS
from edge_ad.errors import ArtifactError

MANIFEST = "manifest.json"
CONFIG, STATE = "config", "state"
LARGEST_MANIFEST = 256_000_000  # bytes; some 200 are one file
_Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_FileName = Annotated[str, Meta(pattern=r"^[^/\x00]{1,255}$")]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the archive; mode: permissions alone."""

    sha256: _Sha256
    size: Annotated[int, Meta(ge=0)]
    mode: Annotated[int, Meta(ge=0, le=0o777)]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """manifest.json. `links`: name and target of each bundle in use; `left_out`: what the station has
    and the backup has not, in words."""

    schema: Literal[1] = 1
    edge_ad: str
    station: str
    created: str
    station_file: _FileName
    evidence: bool
    keys: bool
    files: dict[str, FileEntry]
    links: dict[str, str]
    left_out: list[str]


def is_bundle_link(name: str) -> bool:
    """Whether it is the place of the only links that there are: which bundle is in use, the one before,
    and the one that judges beside it."""
    parts = PurePosixPath(name).parts
    links = (CURRENT, PREVIOUS, CANDIDATE)
    return len(parts) == 4 and parts[:2] == (STATE, "bundles") and parts[3] in links


def check_name(name: str) -> None:
    """Raises ArtifactError for a name that could lead out of where it is put."""
    parts = name.split("/")
    plain = all(part not in ("", ".", "..") and "\0" not in part for part in parts)
    if not plain or len(parts) < 2 or parts[0] not in (CONFIG, STATE):
        raise ArtifactError(f"{name!r}: no name of a file in a backup, which this archive is not")


def check_link(name: str, target: str) -> None:
    """Raises ArtifactError for a link that is none to a bundle beside it."""
    check_name(name)
    if not is_bundle_link(name) or "/" in target or "\0" in target or target in ("", ".", ".."):
        raise ArtifactError(
            f"{name}: a link to {target!r}; in a backup there are only those of bundles in use"
        )
