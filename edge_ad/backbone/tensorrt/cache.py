"""Engines on disk. They are put here by `edge-ad backbone build` alone; looking one up never builds.

    CACHE/<sha256 of the key>/engine.plan    what TensorRT serialised
    CACHE/<sha256 of the key>/engine.json    the key, the plan's sha256, how it was built, the last check
    CACHE/timings/<sha256>.cache             the builder's timings, per library, version and card

An engine appears under its name by one rename when all of it is on disk.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_ad.backbone.tensorrt.key import EngineKey
from edge_ad.backbone.tensorrt.library import Library
from edge_ad.cuda.facts import DeviceFacts
from edge_ad.durable import write_durably, write_synced
from edge_ad.errors import ArtifactError, DeviceError

SCHEMA = 1
PLAN, RECORD, TIMINGS = "engine.plan", "engine.json", "timings"


class NumericCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That the engine's features were compared with float32's, and under which driver."""

    driver: str
    passed: bool
    worst: float | None  # in the unit of whoever checked; None: not finite
    at: str


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`engine.json`. `driver` is the one that the engine was built under; it is not in the key."""

    schema: int = SCHEMA
    key: EngineKey
    plan_sha256: str
    plan_bytes: int
    layers: int
    build_seconds: float
    created: str
    driver: str
    conversion_errors: dict[str, float] = {}
    check: NumericCheck | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine that lies in the cache. Its plan is not yet read."""

    directory: Path
    record: Record

    @property
    def plan_path(self) -> Path:
        """The plan's file."""
        return self.directory / PLAN

    @property
    def off(self) -> bool:
        """Whether its numbers were compared, and found to be off."""
        return self.record.check is not None and not self.record.check.passed

    def needs_check(self, driver: str) -> bool:
        """Whether the numbers must be compared (again) before this engine may decide: never done, not
        passed, or done under another driver."""
        check = self.record.check
        return check is None or not check.passed or check.driver != driver


def store(cache: Path, record: Record, plan: bytes) -> Entry:
    """Put an engine into the cache; one under the same key is replaced. DeviceError when it cannot."""
    target = cache / record.key.id
    with _writing(cache), tempfile.TemporaryDirectory(prefix=".engine-", dir=cache) as temporary:
        stage = Path(temporary) / "new"
        stage.mkdir()
        write_synced(stage / PLAN, plan)
        write_synced(stage / RECORD, _encode(record))
        if target.exists():
            target.rename(Path(temporary) / "old")
        stage.rename(target)
    return Entry(target, record)


def check_writable(cache: Path) -> None:
    """DeviceError where nothing could be put into the cache: before the minutes of a build."""
    with _writing(cache), tempfile.TemporaryFile(dir=cache) as probe:
        probe.write(b"1")


def read_entry(directory: Path) -> Entry:
    """The engine in a directory of the cache, its record verified; ArtifactError when not whole."""
    path = directory / RECORD
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{path}: not an engine's record: {error}; {_again(directory)}") from error
    if record.schema != SCHEMA:
        raise ArtifactError(
            f"{path}: schema is {record.schema}, this edge_ad reads {SCHEMA}; {_again(directory)}"
        )
    if record.key.id != directory.name:
        raise ArtifactError(
            f"{path}: its key's sha256 is {record.key.id}, its directory is {directory.name}; "
            f"{_again(directory)}"
        )
    return Entry(directory, record)


def read_entries(cache: Path) -> tuple[list[Entry], list[ArtifactError]]:
    """All engines of a cache, the newest first, and why others are refused. DeviceError when the cache
    is not a directory; one that is not there is empty."""
    entries, refused = [], []
    try:
        found = sorted(path for path in cache.iterdir() if len(path.name) == 64 and path.is_dir())
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise DeviceError(
            f"{cache}: the engine cache cannot be read: {error.strerror}; see to its owner and rights"
        ) from error
    for directory in found:
        try:
            entries.append(read_entry(directory))
        except ArtifactError as error:
            refused.append(error)
    return sorted(entries, key=lambda entry: entry.record.created, reverse=True), refused


def read_plan(entry: Entry) -> bytes:
    """The plan's bytes, verified. Raises ArtifactError when they are not those that were built."""
    try:
        plan = entry.plan_path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{entry.plan_path}: the engine cannot be read: {error.strerror}; {_again(entry.directory)}"
        ) from error
    found = hashlib.sha256(plan).hexdigest()
    if found != entry.record.plan_sha256:
        raise ArtifactError(
            f"{entry.plan_path}: the engine is corrupted: {len(plan)} bytes of sha256 {found}, "
            f"{RECORD} says {entry.record.plan_bytes} of {entry.record.plan_sha256}; "
            f"{_again(entry.directory)}"
        )
    return plan


def write_check(entry: Entry, check: NumericCheck) -> Entry:
    """Note that the numbers were compared. DeviceError when the disk refuses."""
    record = msgspec.structs.replace(entry.record, check=check)
    with _writing(entry.directory):
        write_durably(entry.directory / RECORD, _encode(record))
    return Entry(entry.directory, record)


def read_timings(cache: Path, library: Library, device: DeviceFacts) -> bytes:
    """The builder's timings of earlier builds; b"" where there are none. They only save time, so what
    cannot be read is as good as none, and the builder itself refuses those that are not its own."""
    try:
        return _timings(cache, library, device).read_bytes()
    except OSError:
        return b""


def write_timings(cache: Path, library: Library, device: DeviceFacts, timings: bytes) -> None:
    """Keep the builder's timings. DeviceError when the disk refuses."""
    with _writing(cache / TIMINGS):
        write_durably(_timings(cache, library, device), timings)


def _timings(cache: Path, library: Library, device: DeviceFacts) -> Path:
    whose = msgspec.json.encode([library.name, library.version, device], order="sorted")
    return cache / TIMINGS / f"{hashlib.sha256(whose).hexdigest()}.cache"


def _encode(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """A directory to write in, made where it is not there."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DeviceError(
            f"{directory}: the engine cache cannot be written: {error.strerror or error}; make room, or "
            "see to its owner and rights"
        ) from error


def _again(directory: Path) -> str:
    return f"remove {directory} and give 'edge-ad backbone build' again"
