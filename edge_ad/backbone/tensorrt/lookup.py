"""The engine that a station needs, out of the cache; or why it is not there and what makes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_ad.backbone.tensorrt.cache import Entry, read_entries
from edge_ad.backbone.tensorrt.key import Wanted
from edge_ad.errors import ArtifactError, DeviceError

BUILD = "edge-ad backbone build"


def find_engine(cache: Path, wanted: Wanted, command: str = BUILD, plan_sha256: str = "") -> Entry:
    """An engine for exactly this library version, card, backbone, precision, batch and width: the one of
    that plan, else the newest; one whose numbers were found to be off only where there is no other.

    Nothing is built, and nothing near enough is taken. `command` is what makes the engine; messages end
    with it. Raises DeviceError for a cache that cannot be read and where all that differs is the card or
    TensorRT's version, ArtifactError otherwise.
    """
    entries, refused = read_entries(cache)
    serving = [entry for entry in entries if entry.record.key.wanted == wanted]
    if serving:
        return min(serving, key=lambda entry: (entry.off, entry.record.plan_sha256 != plan_sha256))
    alike = [entry for entry in entries if _backbone_of(entry.record.key) == _backbone_of(wanted)]
    what = f"{wanted.precision}, batch {wanted.batch}, {wanted.local_dim} features per position"
    if alike:
        raise DeviceError(f"{cache}: {_elsewhere(alike, wanted)}; give '{command}' on this machine")
    same = [
        entry.record.key
        for entry in entries
        if entry.record.key.backbone_sha256 == wanted.backbone_sha256
    ]
    here = f"backbone {wanted.backbone_sha256[:12]}"
    if same:
        others = ", ".join(sorted({f"{k.precision} {k.batch}/{k.local_dim}" for k in same}))
        raise ArtifactError(
            f"{cache}: no engine of {here} for {what}, but of {others} (batch/features); give "
            f"'{command}'"
        )
    if refused:
        raise ArtifactError(f"{cache}: no whole engine of {here}: {refused[0]}; give '{command}'")
    raise ArtifactError(f"{cache}: no engine of {here} for {what}; give '{command}'")


def _backbone_of(key: Wanted) -> tuple[str, str, int, int]:
    return key.backbone_sha256, key.precision, key.batch, key.local_dim


def _elsewhere(alike: Sequence[Entry], wanted: Wanted) -> str:
    """Whether the card or the version is another one, with both sides."""
    on_this = [entry for entry in alike if entry.record.key.device == wanted.device]
    if on_this:
        key = on_this[0].record.key
        return (
            f"the engine was built by {key.library} {key.library_version}, "
            f"{wanted.library} {wanted.library_version} is installed"
        )
    device, here = alike[0].record.key.device, wanted.device
    if device.text != here.text:
        return f"the engine was built on {device.text}, this card is {here.text}"
    changed = [name for name in device.__struct_fields__ if getattr(device, name) != getattr(here, name)]
    told = ", ".join(
        f"{name} {getattr(device, name)} then, {getattr(here, name)} now" for name in changed
    )
    return f"the engine was built on {device.text} with other settings: {told}"
