"""The kept set: every good part that a bundle was fitted on, so that a refit needs no new parts.

    STATE/calibration/<product>/frames/<content>.png    lossless frames, named by their pixels' sha256
    STATE/calibration/<product>/lists/<sha256>.jsonl    one line per decision, oldest first

A list is append-only in content: adding and dropping parts writes a longer list under its own sha256. A
bundle's manifest names its list, so that activating or rolling back a bundle switches the set with it,
and a calibration that dies leaves the set in use as it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np

from edge_ad.durable import write_durably
from edge_ad.errors import ArtifactError, CaptureError, CheckFailed, ConfigError, DeviceError
from edge_ad.frame import Image

# Huffman codes alone over averaging filters: 30 ms for 1920 x 1200 grey pixels of a rendered part where
# level 1 takes 60 to 80, and a tenth smaller. Evidence of a burst of rejects takes a core for so long.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # older OpenCV gives no choice
    _PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG]
SCREENING = "screening"  # the person of a drop that no person decided
EVIDENCE: Literal["evidence"] = "evidence"  # where a part came from that the daemon had rejected


class StoredFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One camera's frame of a part: file under frames/, sha256 of its bytes and of its pixels."""

    name: str
    sha256: str
    content: str
    rule: str  # the pixel rule that made it
    shape: tuple[int, int, int]  # height, width, channels

    @property
    def channels(self) -> int:
        """1 for grey, 3 for BGR."""
        return self.shape[2]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the list. `source` and `files` (by camera) are set where the decision is "keep".

    origin "evidence": the daemon had rejected the part and the person declared it good, so it is no
    random sample of the line. It stays so in every later fit.
    """

    id: str
    decision: Literal["keep", "drop"]
    person: str
    reason: str
    time: str
    source: str = ""
    files: dict[str, StoredFile] = {}
    origin: Literal["", "evidence"] = ""


@dataclass(frozen=True)
class CalibrationSet:
    """A list of decisions. `text` is the file's bytes."""

    text: bytes = b""
    records: tuple[Record, ...] = ()

    @property
    def sha256(self) -> str:
        """Identity of the set."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def kept(self) -> list[Record]:
        """The parts in the set, in the order they came."""
        dropped = {record.id for record in self.records if record.decision == "drop"}
        return [r for r in self.records if r.decision == "keep" and r.id not in dropped]

    @property
    def screened(self) -> int:
        """How many parts screening has dropped so far."""
        return sum(r.decision == "drop" and r.person == SCREENING for r in self.records)

    @property
    def next_number(self) -> int:
        """The number of the next new part; numbers are never used twice."""
        return 1 + sum(record.decision == "keep" for record in self.records)

    def append(self, records: Iterable[Record]) -> CalibrationSet:
        """The set with more decisions at its end."""
        added = tuple(records)
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in added)
        return CalibrationSet(self.text + lines, self.records + added)

    def drop(self, ids: Sequence[str], person: str, reason: str, now: datetime) -> CalibrationSet:
        """The set without the parts `ids`. Raises ConfigError when one is not in it."""
        kept = {record.id for record in self.kept}
        wanted = [text.zfill(6) if text.isdecimal() else text for text in ids]
        unknown = sorted(set(wanted) - kept)
        if unknown:
            raise ConfigError(
                f"--drop: part {unknown[0]!r} is not in the kept set of {len(kept)} parts; the ids are "
                "in the bundle's report.html"
            )
        stamp = timestamp(now)
        return self.append(
            Record(id=one, decision="drop", person=person, reason=reason, time=stamp)
            for one in dict.fromkeys(wanted)
        )


def part_id(number: int) -> str:
    """The id of the n-th part of a set."""
    return f"{number:06d}"


def timestamp(now: datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return now.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def set_directory(state: Path, product: str) -> Path:
    """Where a product's kept parts lie."""
    return state / "calibration" / product


def load_set(directory: Path, sha256: str) -> CalibrationSet:
    """The list named `sha256`. Raises ArtifactError when it is missing, changed or not a list."""
    path = directory / "lists" / f"{sha256}.jsonl"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path}: the kept set of the active bundle cannot be read ({error.strerror}); collect "
            "parts again with --from DIR or --parts N"
        ) from error
    found = hashlib.sha256(text).hexdigest()
    if found != sha256:
        raise ArtifactError(
            f"{path}: has sha256 {found}, its name and the active bundle say {sha256}; restore it from "
            "a copy, or collect parts again with --from DIR or --parts N"
        )
    try:
        records = tuple(msgspec.json.decode(line, type=Record) for line in text.splitlines())
    except msgspec.DecodeError as error:
        raise ArtifactError(
            f"{path}: not a list of kept parts ({error}); collect parts again"
        ) from error
    return CalibrationSet(text, records)


def save_set(directory: Path, parts: CalibrationSet) -> Path:
    """Write a list under its sha256, complete and on disk; returns its path."""
    path = directory / "lists" / f"{parts.sha256}.jsonl"
    write_durably(path, parts.text)
    return path


def prune(directory: Path, in_use: Iterable[str]) -> None:
    """Remove lists that no bundle names (`in_use`: their sha256) and frames that no list left names."""
    lists = set(in_use)
    frames: set[str] = set()
    for path in (directory / "lists").glob("*.jsonl"):
        if path.stem not in lists:
            path.unlink()
            continue
        # A damaged list may still be restored: names are taken as they stand, nothing of it is removed.
        frames |= set(re.findall(r'"name":"([0-9a-f]+\.png)"', path.read_text("utf-8", "replace")))
    for frame in (directory / "frames").iterdir():
        if frame.name not in frames:
            frame.unlink()


def content_hash(image: Image) -> str:
    """Sha256 of an image's shape and pixels: equal for equal pictures, however they were stored."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def store_frame(directory: Path, image: Image, rule: str) -> StoredFile:
    """Keep an image losslessly below `directory`/frames, once however often it is given."""
    content = content_hash(image)
    shape = (image.shape[0], image.shape[1], 1 if image.ndim == 2 else 3)
    path = directory / "frames" / f"{content[:32]}.png"
    if path.is_file():
        data = path.read_bytes()
        with contextlib.suppress(CaptureError):
            if np.array_equal(decode_frame(data, str(path)), image):
                return StoredFile(path.name, hashlib.sha256(data).hexdigest(), content, rule, shape)
    data = encode_frame(image)
    write_durably(path, data)
    return StoredFile(path.name, hashlib.sha256(data).hexdigest(), content, rule, shape)


def read_frame(directory: Path, stored: StoredFile) -> Image:
    """A kept frame. Raises CaptureError when its file is missing or not what was stored."""
    path = directory / "frames" / stored.name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaptureError(f"{path}: kept frame cannot be read ({error.strerror})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != stored.sha256:
        raise CaptureError(
            f"{path}: kept frame has sha256 {found[:12]}, the list says {stored.sha256[:12]}"
        )
    return decode_frame(data, str(path))


def encode_frame(image: Image) -> bytes:
    """The image as PNG. Raises DeviceError where it cannot be one."""
    return encode_image(".png", image, _PNG)


def encode_image(suffix: str, image: Image, options: Sequence[int]) -> bytes:
    """The image as a file of this kind. Raises DeviceError where it cannot be one: a JPEG has at most
    65,500 pixels a side."""
    try:
        done, data = cv2.imencode(suffix, image, options)
    except cv2.error:
        done = False
    if not done:
        raise DeviceError(f"cannot encode a picture of shape {image.shape} as {suffix[1:].upper()}")
    return bytes(data)


def decode_frame(data: bytes, where: str) -> Image:
    """A frame as `encode_frame` wrote it: uint8, H x W or H x W x 3 (BGR). CaptureError if it is not."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise CaptureError(f"{where}: {'empty file' if not data else 'not a readable image'}")
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2] == 3):
        raise CaptureError(f"{where}: {image.dtype} {image.shape} is not 8-bit grey or BGR")
    return np.asarray(image, np.uint8)


@contextlib.contextmanager
def set_lock(directory: Path) -> Iterator[None]:
    """One calibration of a product at a time. Raises CheckFailed when another holds the lock."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckFailed(
                f"{directory}: another calibration of this product is running; wait for it or end it"
            ) from error
        yield
