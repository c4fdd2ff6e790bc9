"""Where bundles lie, and how one becomes the one in use.

Writing and activating take the product's lock, so that two of them come one after the other. Whatever
moment a process dies at, `current` names a complete bundle: a bundle appears under its name by one
rename after everything in it is on disk, and `current` changes by one rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray
from safetensors.numpy import save

from edge_ad.backbone.spec import Backbone
from edge_ad.bundle.manifest import MANIFEST, MANIFEST_SHA, TENSORS, Manifest, encode_manifest
from edge_ad.bundle.qualification import (
    QUALIFICATION,
    Qualification,
    encode_qualification,
    verify_qualification,
)
from edge_ad.bundle.read import open_bundle, read_manifest, sha_line
from edge_ad.durable import sync_directory, write_synced
from edge_ad.errors import ArtifactError, CheckFailed

CURRENT, PREVIOUS, CANDIDATE = "current", "previous", "candidate"


@dataclass(frozen=True)
class Entry:
    """One bundle of a product's list; `manifest` is None where `problem` says why it is refused."""

    path: Path
    id: str
    active: bool
    previous: bool
    candidate: bool
    manifest: Manifest | None
    problem: str = ""


def product_directory(state: Path, product: str) -> Path:
    """Where the bundles of a product lie."""
    return state / "bundles" / product


def bundle_id(now: datetime, content: bytes) -> str:
    """A name that sorts by time and differs with the content: 20260131T235959Z-0123abcd.

    It differs with the microsecond too: the same parts may be fitted twice in a second.
    """
    moment = now.astimezone(timezone.utc)
    digest = hashlib.sha256(f"{moment:%f}".encode() + content).hexdigest()
    return f"{moment:%Y%m%dT%H%M%SZ}-{digest[:8]}"


def write_bundle(
    state: Path, manifest: Manifest, tensors: Mapping[str, NDArray[Any]], files: Mapping[str, bytes]
) -> Path:
    """Write `manifest` (its `files` are filled in here), tensors and other files; returns the directory.

    The bundle is complete and on disk before it appears under its name, and it is opened once before
    this returns. Raises ArtifactError when the name is taken; OSError when the disk refuses.
    """
    parent = product_directory(state, manifest.product)
    contents = {TENSORS: save(dict(tensors)), **files}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    data = encode_manifest(msgspec.structs.replace(manifest, files=sums))
    contents[MANIFEST] = data
    contents[MANIFEST_SHA] = sha_line(hashlib.sha256(data).hexdigest())
    with _locked(parent):
        target = parent / manifest.id
        if target.exists():
            raise ArtifactError(f"{target}: a bundle of this name exists; bundles are never overwritten")
        temporary = parent / f".tmp-{manifest.id}"
        _clear_stale(parent)
        try:
            _write_tree(temporary, contents)
            open_bundle(temporary)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # half a bundle must not fill a full disk
        sync_directory(parent)
    return target


def write_qualification(bundle: Path, qualification: Qualification, files: Mapping[str, bytes]) -> Path:
    """Put `qualification` (its `files` are filled in here) into a bundle's directory, in the place of
    one that is there; returns its directory.

    It is complete and on disk before it appears. A process that dies between taking the old one away
    and putting the new one there leaves a bundle without one, never with half of one.
    """
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    qualification = msgspec.structs.replace(qualification, files=sums)
    target = bundle / QUALIFICATION
    with _locked(bundle.parent):
        _clear_stale(bundle.parent)
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise ArtifactError(f"{target}: is no directory; remove it and qualify again")
        temporary = bundle.parent / f".tmp-{bundle.name}-new"
        old = temporary.with_name(f".tmp-{bundle.name}-old")
        try:
            _write_tree(temporary, {**files, **encode_qualification(qualification)})
            verify_qualification(temporary, qualification.bundle_sha256)
            if target.exists():
                target.rename(old)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        sync_directory(bundle)
    return target


def activate(state: Path, product: str, bundle: str) -> Path:
    """Make `bundle` (an id) current, once it has been verified; the one before becomes `previous`."""
    parent = product_directory(state, product)
    _check_there(state, product, bundle)
    with _locked(parent):
        _activate_locked(parent, product, bundle)
    return parent / bundle


def shadow(state: Path, product: str, bundle: str) -> Path | None:
    """Have `bundle` (an id) judge beside the one in use, once it has been verified; "": none does."""
    parent = product_directory(state, product)
    if bundle:
        _check_there(state, product, bundle)
    with _locked(parent):
        if not bundle:
            (parent / CANDIDATE).unlink(missing_ok=True)
            sync_directory(parent)
            return None
        _verify(parent, product, bundle)
        _point(parent / CANDIDATE, bundle)
    return parent / bundle


def _check_there(state: Path, product: str, bundle: str) -> None:
    parent = product_directory(state, product)
    if bundle in (CURRENT, PREVIOUS, CANDIDATE) or not (parent / bundle / MANIFEST).is_file():
        ids = [entry.id for entry in list_bundles(state, product)]
        raise ArtifactError(f"{parent}: no bundle {bundle!r}; there are {ids}")


def rollback(state: Path, product: str) -> Path:
    """Make `previous` current and the other way round, so that a second rollback returns."""
    parent = product_directory(state, product)
    with _locked(parent) if parent.is_dir() else contextlib.nullcontext():
        previous = _target(parent / PREVIOUS)
        if previous is None or previous == _target(parent / CURRENT):
            raise CheckFailed(
                f"{parent}: no previous bundle to return to; 'edge-ad bundle list' shows what there is, "
                "'edge-ad bundle activate ID' takes any of it"
            )
        _activate_locked(parent, product, previous)
    return parent / previous


def _activate_locked(parent: Path, product: str, bundle: str) -> None:
    """Verify and switch; lock must be held by caller."""
    _verify(parent, product, bundle)
    old = _target(parent / CURRENT)
    if old is not None and old != bundle:
        _point(parent / PREVIOUS, old)
    _point(parent / CURRENT, bundle)
    if _target(parent / CANDIDATE) == bundle:  # it need not be compared with itself
        (parent / CANDIDATE).unlink()


def _verify(parent: Path, product: str, bundle: str) -> None:
    opened = open_bundle(parent / bundle)
    found = (opened.manifest.id, opened.manifest.product)
    if found != (bundle, product):
        raise ArtifactError(
            f"{parent / bundle}: holds bundle {found[0]!r} of product {found[1]!r}, its place says "
            f"{bundle!r} of {product!r}; move it back"
        )
    opened.backbone()


def current_path(state: Path, product: str) -> Path | None:
    """Directory of the bundle in use, None when there is none yet. ArtifactError when it has
    vanished."""
    return _followed(product_directory(state, product) / CURRENT)


def previous_path(state: Path, product: str) -> Path | None:
    """Directory of the bundle that a rollback would return to, or None."""
    return _followed(product_directory(state, product) / PREVIOUS)


def candidate_path(state: Path, product: str) -> Path | None:
    """Directory of the bundle that judges beside the one in use, or None."""
    return _followed(product_directory(state, product) / CANDIDATE)


def list_bundles(state: Path, product: str) -> list[Entry]:
    """Every bundle of a product, oldest first. Manifests are checked, other files are not."""
    parent = product_directory(state, product)
    if not parent.is_dir():
        return []
    current, previous, candidate = (_target(parent / one) for one in (CURRENT, PREVIOUS, CANDIDATE))
    entries = []
    for path in sorted(parent.iterdir()):
        if path.is_symlink() or path.name.startswith(".") or not path.is_dir():
            continue
        manifest, problem = None, ""
        try:
            manifest = read_manifest(path)
        except ArtifactError as error:
            problem = str(error)
        name = path.name
        marks = (name == current, name == previous, name == candidate)
        entries.append(Entry(path, name, *marks, manifest, problem))
    return entries


def store_backbone(state: Path, backbone: Backbone) -> Path:
    """Copy a verified backbone to STATE/backbones/<sha256>, unless it is there; returns that
    directory."""
    parent = state / "backbones"
    target = parent / backbone.sha256
    with _locked(parent):
        if not target.is_dir():
            temporary = parent / f".tmp-{backbone.sha256}"
            shutil.rmtree(temporary, ignore_errors=True)
            names = [backbone.onnx_path.name, "backbone.json"]
            try:
                _write_tree(
                    temporary, {name: (backbone.directory / name).read_bytes() for name in names}
                )
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            sync_directory(parent)
    return target


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; it falls with the process."""
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _clear_stale(directory: Path) -> None:
    """Remove what a killed process left half written; lock must be held by caller."""
    for stale in directory.glob(".tmp-*"):
        shutil.rmtree(stale)


def _write_tree(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Write read-only files below a new directory and bring all of it to the disk."""
    directory.mkdir()
    for name, data in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(path, data, "xb")
        path.chmod(0o444)
    for child in [directory, *(p for p in directory.rglob("*") if p.is_dir())]:
        sync_directory(child)


def _target(link: Path) -> str | None:
    return link.readlink().name if link.is_symlink() else None


def _point(link: Path, name: str) -> None:
    """Swap a symlink in one rename."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(link)
    sync_directory(link.parent)


def _followed(link: Path) -> Path | None:
    name = _target(link)
    if name is None:
        return None
    path = link.parent / name
    if not path.is_dir():
        raise ArtifactError(
            f"{link}: names bundle {name!r}, which is not there; 'edge-ad bundle list' and 'activate', "
            "or calibrate again"
        )
    return path
