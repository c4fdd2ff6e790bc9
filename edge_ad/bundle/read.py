"""Opening a bundle: every file is checked against its sha256 before a number is used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from edge_ad.backbone.engine import Head, LocalHead
from edge_ad.backbone.spec import Backbone, load_backbone
from edge_ad.bundle.manifest import (
    MANIFEST,
    MANIFEST_SHA,
    RESTORE,
    TENSORS,
    UNDECODABLE,
    Manifest,
    Section,
    decode_manifest,
)
from edge_ad.bundle.qualification import QUALIFICATION, Detection, read_detection
from edge_ad.bundle.tensors import level_head, local_head, read_tensors
from edge_ad.errors import ArtifactError
from edge_ad.preprocess import RULE


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. `sha256` is of manifest.json and so names every byte of it but those of the
    qualification, from which `detection` was read."""

    path: Path
    manifest: Manifest
    sha256: str
    tensors: Mapping[str, NDArray[Any]] = field(repr=False)
    backbone_directory: Path | None = None
    detection: Detection = field(default_factory=Detection, repr=False)

    def section(self, key: str) -> Section:
        """The section of an engine. Raises ArtifactError that names what the bundle has."""
        if key not in self.manifest.engines:
            raise ArtifactError(
                f"{self.path}: bundle has sections {sorted(self.manifest.engines)}, this station wants "
                f"{key!r}; 'edge-ad calibrate --refit' fits it from the kept parts"
            )
        return self.manifest.engines[key]

    def heads(self, key: str) -> list[list[Head]]:
        """Per tile, per level: offset into the pooled features, mean and whitening factor, float32."""
        self.section(key)
        return [
            [level_head(self.tensors, key, tile.name, level) for level in self.manifest.levels]
            for tile in self.manifest.tiles
        ]

    def local_heads(self, key: str) -> list[LocalHead] | None:
        """Per tile the Gaussians of its positions; None in a bundle that does not localise."""
        self.section(key)
        if self.manifest.local is None:
            return None
        return [local_head(self.tensors, key, tile.name) for tile in self.manifest.tiles]

    def backbone(self) -> Backbone:
        """The verified backbone. Raises ArtifactError when it is not the one of the bundle."""
        wanted = self.manifest.backbone
        directory = self.backbone_directory or self.path.parents[2] / "backbones" / wanted.sha256
        if not directory.is_dir():
            raise ArtifactError(
                f"{self.path}: its backbone {wanted.name} is not at {directory}; give the directory "
                "that 'edge-ad backbone export' wrote"
            )
        backbone = load_backbone(directory)
        if backbone.sha256 != wanted.sha256:
            raise ArtifactError(
                f"{directory}: backbone {backbone.name} has sha256 {backbone.sha256[:12]}, the bundle "
                f"{self.path} was calibrated with {wanted.name} {wanted.sha256[:12]}; calibrate again "
                "('edge-ad calibrate --refit') or give the bundle's own backbone"
            )
        self._check_geometry(backbone)
        return backbone

    def _check_geometry(self, backbone: Backbone) -> None:
        """backbone.json is not covered by the bundle's hashes, so what is read from it is compared."""
        rule = self.manifest.preprocess
        have: object = (backbone.height, backbone.width)
        want: object = (rule.height, rule.width)
        if have == want and self.manifest.local is not None:
            have, want = backbone.local, self.manifest.local.exported
        known = {level.name: level for level in backbone.levels}
        for level in self.manifest.levels:
            if have == want and known.get(level.name) != level:
                have, want = known.get(level.name), level
        if have != want:
            raise ArtifactError(
                f"{backbone.directory}: backbone.json says {have}, the bundle {self.path} says {want}; "
                "restore the backbone's directory"
            )


def open_bundle(path: str | Path, backbone: Path | None = None) -> Bundle:
    """Verify a bundle and read it into memory.

    `path` is a bundle's directory or a symlink to one; `backbone` is the network's directory where it
    does not lie in the bundle's own state directory. Raises ArtifactError naming what was expected and
    what was found: missing, extra, truncated or changed files, another schema or preprocess rule,
    tensors of the wrong name, type or shape. The backbone given here is verified too.
    """
    directory = Path(path).absolute()
    if not directory.exists():
        raise ArtifactError(
            f"{path}: no bundle here; 'edge-ad bundle list' shows what there is, 'edge-ad calibrate' "
            "makes one"
        )
    directory = directory.resolve()
    if not directory.is_dir():
        raise ArtifactError(f"{path}: is a file; a bundle is a directory with {MANIFEST}")
    data, sha256 = _read_manifest(directory)
    manifest = decode_manifest(data, str(directory))
    _check_preprocess(manifest, directory)
    contents = _check_files(directory, manifest)
    tensors = read_tensors(contents, manifest, directory)
    bundle = Bundle(directory, manifest, sha256, tensors, backbone, read_detection(directory))
    if backbone is not None:
        bundle.backbone()
    return bundle


def read_manifest(directory: Path) -> Manifest:
    """The manifest alone, checked against manifest.sha256, for lists."""
    return decode_manifest(_read_manifest(directory)[0], str(directory))


class _SetRef(msgspec.Struct):
    sha256: str


class _OldManifest(msgspec.Struct):
    calibration_set: _SetRef


def kept_set_sha256(directory: Path) -> str:
    """The sha256 of the parts that a bundle was fitted on, also of a bundle that is refused for its
    schema, backbone or preprocess rule: a refit is the way out of these."""
    data, _ = _read_manifest(directory)
    try:
        return msgspec.json.decode(data, type=_OldManifest).calibration_set.sha256
    except UNDECODABLE as error:
        raise ArtifactError(
            f"{directory}: {MANIFEST} names no calibration set ({error}); collect parts again"
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); {RESTORE}") from error


def _read_manifest(directory: Path) -> tuple[bytes, str]:
    """The manifest's bytes and sha256, once they agree with manifest.sha256."""
    data = _read(directory / MANIFEST)
    found = hashlib.sha256(data).hexdigest()
    line = _read(directory / MANIFEST_SHA)
    if line != sha_line(found):
        expected = line[:64].decode("ascii", "replace")
        raise ArtifactError(
            f"{directory}: {MANIFEST} has sha256 {found}, {MANIFEST_SHA} says {expected!r}; {RESTORE}"
        )
    return data, found


def sha_line(sha256: str) -> bytes:
    """The one line of manifest.sha256, in the format of `sha256sum -c`."""
    return f"{sha256}  {MANIFEST}\n".encode("ascii")


def _check_preprocess(manifest: Manifest, directory: Path) -> None:
    if manifest.preprocess.rule != RULE:
        raise ArtifactError(
            f"{directory}: bundle was made with preprocess rule {manifest.preprocess.rule!r}, this "
            f"edge_ad has {RULE!r}; 'edge-ad calibrate --refit' makes a bundle for it"
        )


def _check_files(directory: Path, manifest: Manifest) -> bytes:
    """Compare the directory with the manifest's list; returns the bytes of the tensor file.

    The qualification is not in the list: it is measured later, and verified on its own.
    """
    paths = [p.relative_to(directory) for p in directory.rglob("*") if p.is_symlink() or not p.is_dir()]
    found = {str(path) for path in paths if path.parts[0] != QUALIFICATION}
    expected = {MANIFEST, MANIFEST_SHA, *manifest.files}
    missing, extra = sorted(expected - found), sorted(found - expected)
    if missing or TENSORS not in manifest.files:
        raise ArtifactError(f"{directory}: {(missing or [TENSORS])[0]} is missing; {RESTORE}")
    if extra:
        raise ArtifactError(
            f"{directory}: {extra[0]} is not in the manifest, which lists {len(expected)} files; a "
            "bundle is never changed: remove it, or calibrate again"
        )
    tensors = b""
    for name, wanted in manifest.files.items():
        if (directory / name).is_symlink():
            raise ArtifactError(f"{directory}: {name} is a symlink, the manifest has a file; {RESTORE}")
        data = _read(directory / name)
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != wanted:
            raise ArtifactError(
                f"{directory}: {name} has sha256 {sha256}, the manifest says {wanted}: it is damaged or "
                f"was changed; {RESTORE}"
            )
        if name == TENSORS:
            tensors = data
    return tensors
