"""What is known of a bundle's escapes: known-bad parts that its own inspector judged.

    <bundle>/qualification/   qualification.json  qualification.sha256  report.html  misses/*.png

It is measured after the bundle was written and may be measured again, so it is the one directory beside
the manifest's files, verified on its own: `qualification.sha256` names qualification.json and the
bundle's manifest (`sha256sum -c` checks both), qualification.json every other file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.bundle.manifest import MANIFEST, MANIFEST_SHA, UNDECODABLE
from edge_ad.errors import ArtifactError

QUALIFICATION = "qualification"  # the directory
QUALIFICATION_JSON = "qualification.json"
QUALIFICATION_SHA = "qualification.sha256"
MISSES = "misses"

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Unknown keys are refused: what a reader does not know it cannot honour."""


class BadPart(_Struct, frozen=True):
    """A known-bad part and its verdict. `margin` is score / threshold; None where a FAULT has no score.

    `picture` is the file of a missed part, relative to the directory.
    """

    source: str
    kind: str
    verdict: Literal["PASS", "REJECT", "FAULT"]
    reason: str
    score: float | None
    margin: float | None
    view: str
    detail: str = ""
    picture: str = ""


class Detected(_Struct, frozen=True):
    """What became of the known-bad parts of one kind of defect.

    parts = detected (REJECT) + missed (PASS) + faults. A FAULT does not pass, but detects nothing:
    rate = detected / parts; confident: the exact lower bound of the rate with 95 % confidence.
    """

    parts: Annotated[int, Meta(ge=1)]
    detected: Count
    missed: Count
    faults: Count
    rate: Share
    confident: Share
    smallest_margin: float | None


class Repeated(_Struct, frozen=True):
    """Pictures of one part: mean, sd and extremes of their scores.

    distance: (mean - threshold) / sd, negative for a part that passes; None where sd is 0.
    differ: pictures whose verdict is not the part's most frequent one; faults: those without a score.
    """

    part: str
    pictures: Annotated[int, Meta(ge=2)]
    mean: float
    sd: float
    low: float
    high: float
    distance: float | None
    differ: Count
    faults: Count


class Repeatability(_Struct, frozen=True):
    """All repeated parts. sd: pooled over parts; nearest: smallest |distance| of a part."""

    parts: Annotated[list[Repeated], Meta(min_length=1)]
    pictures: int
    sd: float
    nearest: float | None
    differ: Count
    parts_differ: Count


class LeftOut(_Struct, frozen=True):
    """A picture or part that was not counted, and why."""

    source: str
    why: Literal["unreadable", "duplicate", "incomplete", "good", "single"]
    detail: str


class Measured(_Struct, frozen=True):
    """One engine's section of the bundle, measured. `parts` are sorted by margin, smallest first and
    FAULT last; `warnings` are for people."""

    engine: EngineIdentity
    threshold: float
    overall: Detected
    kinds: Annotated[dict[str, Detected], Meta(min_length=1)]
    parts: list[BadPart]
    repeatability: Repeatability | None
    left_out: list[LeftOut]
    warnings: list[str]


class Qualification(_Struct, frozen=True, kw_only=True):
    """The whole of qualification.json; `files` maps every other file's relative path to its sha256."""

    schema: Literal[1] = 1
    bundle: str
    bundle_sha256: str
    created: str  # ISO 8601, UTC
    edge_ad: str  # version that wrote it
    engines: dict[str, Measured]
    files: dict[str, str] = {}


@dataclass(frozen=True)
class Detection:
    """By engine, what was measured; `problem` says why what lies there cannot be used."""

    engines: Mapping[str, Measured] = field(default_factory=dict)
    problem: str = ""


def encode_qualification(qualification: Qualification) -> dict[str, bytes]:
    """The bytes of qualification.json and qualification.sha256, by name."""
    data = msgspec.json.format(msgspec.json.encode(qualification), indent=1) + b"\n"
    line = _sha_lines(hashlib.sha256(data).hexdigest(), qualification.bundle_sha256)
    return {QUALIFICATION_JSON: data, QUALIFICATION_SHA: line}


def read_detection(bundle: Path) -> Detection:
    """What the directory `bundle` knows of its escapes; its manifest has been verified by the caller.

    Never raises: a qualification that is damaged does not make a bundle worse at detecting.
    """
    directory = bundle / QUALIFICATION
    if not os.path.lexists(directory):
        return Detection()
    try:
        sha256 = (bundle / MANIFEST_SHA).read_bytes()[:64].decode("ascii")
        return Detection(verify_qualification(directory, sha256).engines)
    except (ArtifactError, OSError, UnicodeDecodeError) as error:
        return Detection(problem=f"{error}; run 'edge-ad qualify' again")


def verify_qualification(directory: Path, bundle_sha256: str) -> Qualification:
    """Read a qualification, every byte of it checked. Raises ArtifactError or OSError."""
    if directory.is_symlink() or not directory.is_dir():
        raise ArtifactError(f"{directory} is no directory")
    data = (directory / QUALIFICATION_JSON).read_bytes()
    try:
        qualification = msgspec.json.decode(data, type=Qualification)
    except UNDECODABLE as error:
        raise ArtifactError(f"{directory / QUALIFICATION_JSON}: {error}") from error
    if qualification.bundle_sha256 != bundle_sha256:
        raise ArtifactError(
            f"{directory} was measured with a bundle of manifest {qualification.bundle_sha256[:12]}, "
            f"this one has {bundle_sha256[:12]}"
        )
    expected = _sha_lines(hashlib.sha256(data).hexdigest(), bundle_sha256)
    if (directory / QUALIFICATION_SHA).read_bytes() != expected:
        raise ArtifactError(f"{directory / QUALIFICATION_JSON} is not what {QUALIFICATION_SHA} says")
    _check_files(directory, qualification.files)
    return qualification


def _check_files(directory: Path, files: Mapping[str, str]) -> None:
    found = {
        str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_symlink() or not p.is_dir()
    } - {QUALIFICATION_JSON, QUALIFICATION_SHA}
    odd = sorted(found ^ set(files))
    if odd:
        state = "is not in" if odd[0] in found else "is missing, but named in"
        raise ArtifactError(f"{directory / odd[0]} {state} {QUALIFICATION_JSON}")
    for name, wanted in files.items():
        path = directory / name
        if path.is_symlink() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise ArtifactError(f"{path} is not the file that {QUALIFICATION_JSON} names")


def _sha_lines(sha256: str, bundle_sha256: str) -> bytes:
    return f"{sha256}  {QUALIFICATION_JSON}\n{bundle_sha256}  ../{MANIFEST}\n".encode("ascii")
