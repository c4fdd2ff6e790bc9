"""`STATE/audit.jsonl`: who changed what parts are judged by, when and why.

One JSON object per line, only ever appended to. Each line holds the sha256 of the one before it, so that
a line that was changed or taken out is seen; whoever may write the file can also write all of it anew:
`chattr +a` on it, or a copy elsewhere, is for that.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge_ad.durable import append_line
from edge_ad.errors import ArtifactError, DeviceError

FILE = "audit.jsonl"
COPY = "audit-station.toml"  # the station file that is on record last, to tell what changed
_LONGEST = 65_536  # bytes of a line
_IN_USE = "in use"
_ACTIVATIONS = ("calibrate", "activate", "rollback", _IN_USE)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `what`: calibrate, activate, rollback, shadow, config, a challenge's outcome, or what
    one of these is followed by where it fails ("activate refused"); in use: a daemon judges by a bundle
    that no event made current. `before`: sha256 of the line before, empty for the first."""

    time: str  # ISO 8601, UTC
    who: str
    what: str
    product: str = ""
    reason: str = ""
    detail: dict[str, str] = {}
    before: str = ""


def user() -> str:
    """Who runs this program, and who they were before sudo. No variable but sudo's counts."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # no such user on this machine, as in a container
        name = f"uid {os.getuid()}"
    before = os.environ.get("SUDO_USER", "")
    return f"{before} as {name}" if before and before != name else name


def record(
    state: Path,
    what: str,
    *,
    product: str = "",
    who: str = "",
    reason: str = "",
    detail: Mapping[str, str] | None = None,
) -> None:
    """Append an event, and wait until the disk has it. Raises DeviceError: what is not on record must
    not be done."""
    path = state / FILE
    try:
        state.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            last = _last_line(handle)
            event = Event(
                time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                who=(who or user())[:200],
                what=what,
                product=product,
                reason=reason[:4000],
                detail={key: value[:4000] for key, value in (detail or {}).items()},
                before=hashlib.sha256(last).hexdigest() if last else "",
            )
            append_line(handle, msgspec.json.encode(event) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise DeviceError(
            f"{path}: {error.strerror or error}; nothing was changed, since it would not be on record: "
            "free some space, or give the right to write"
        ) from error


def read_events(state: Path) -> tuple[list[Event], list[str]]:
    """All events, and what is wrong with the file. Raises ArtifactError where it cannot be read."""
    path = state / FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; give the right to read it") from error
    events: list[Event] = []
    problems: list[str] = []
    before = b""
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        wanted = hashlib.sha256(before).hexdigest() if before else ""
        before = line
        try:
            event = msgspec.json.decode(line, type=Event)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problems.append(f"{path}:{number}: not an event ({error})")
            continue
        if event.before != wanted:
            problems.append(f"{path}:{number}: a line before it was changed or taken out")
        events.append(event)
    return events, problems


def note_config(
    station: Path,
    state: Path,
    changed: Mapping[str, str] | None = None,
    who: str = "",
    reason: str = "",
) -> None:
    """Record the station file's sha256 if it is not the one recorded last; `changed`: its keys, with
    what they were and are. Raises OSError and EdgeAdError."""
    sha256 = hashlib.sha256(station.read_bytes()).hexdigest()
    known = [event for event in read_events(state)[0] if event.what == "config"]
    if known and known[-1].detail.get("sha256") == sha256:
        return
    keys = {key: value[:200] for key, value in list((changed or {}).items())[:50]}
    detail = {"file": str(station), "sha256": sha256, **keys}
    record(state, "config", who=who, reason=reason, detail=detail)


def note_in_use(state: Path, product: str, bundle: str) -> None:
    """Record that a daemon judges the product's parts by this bundle (an id), if no event made it the
    current one: a link that was changed by hand is on record too. Raises ArtifactError, DeviceError."""
    current = before = ""
    for event in read_events(state)[0]:
        if event.product != product:
            continue
        if event.what in _ACTIVATIONS:
            before, current = current, event.detail.get("bundle", "")
        elif event.what.removesuffix(" refused") in _ACTIVATIONS:
            current = before
    if bundle != current:
        detail = {"bundle": bundle, "on record": current or "none"}
        record(state, _IN_USE, product=product, reason="found so by the daemon", detail=detail)


def _last_line(handle: int) -> bytes:
    """The last line that has anything in it, whole or not."""
    end = os.lseek(handle, 0, os.SEEK_END)
    tail = os.pread(handle, min(end, _LONGEST), max(0, end - _LONGEST))
    lines = [line for line in tail.split(b"\n") if line]
    return lines[-1] if lines else b""
