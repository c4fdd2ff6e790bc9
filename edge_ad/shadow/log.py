"""`STATE/shadow/<product>/<candidate>.jsonl`: what the bundle in use and a candidate said of a part.

One JSON object per line. At `MOST_BYTES` the file is set aside as `.jsonl.1`, in the place of the one
before, so that it does not fill the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_ad.durable import append_line
from edge_ad.errors import ArtifactError

MOST_BYTES = 32_000_000


class Pair(msgspec.Struct, frozen=True):
    """One part. Ratios are score over threshold, null where there is no score; `bundle` is the sha256
    of the one in use, `engine` what judged by it."""

    part: str
    epoch: str
    seq: int
    t_wall_ns: int
    bundle: str
    engine: str
    verdict: str
    reason: str
    ratio: float | None
    shadow_verdict: str
    shadow_reason: str
    shadow_ratio: float | None


class Comparison(msgspec.Struct, frozen=True):
    """`changed`: "PASS -> REJECT" and so on, how many; `parts` of which both said something."""

    parts: int
    agree: int
    changed: dict[str, int]
    disagreeing: list[Pair]
    engines: list[str] = []  # that judged by the one in use


def log_path(state: Path, product: str, candidate: str) -> Path:
    """Of one candidate."""
    return state / "shadow" / product / f"{candidate}.jsonl"


def append(path: Path, pair: Pair) -> None:
    """Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(handle).st_size
        append_line(handle, msgspec.json.encode(pair) + b"\n")
    finally:
        os.close(handle)
    if size > MOST_BYTES:
        path.replace(_older(path))


def read_pairs(path: Path, bundle: str = "") -> Iterator[Pair]:
    """In order; of one bundle in use, or of all. What a full disk or a power cut left of a line is
    skipped. Raises ArtifactError for a file that cannot be read."""
    for one in (_older(path), path):
        try:
            lines = one.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ArtifactError(f"{one}: {error.strerror}; give the right to read it") from error
        for line in lines:
            try:
                pair = msgspec.json.decode(line, type=Pair)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if not bundle or pair.bundle == bundle:
                yield pair


def compare(path: Path, bundle: str, listed: int) -> Comparison:
    """How far both agree while `bundle` (a sha256) is in use; of the parts of which they do not, the
    last `listed` ones."""
    parts = agree = 0
    changed: dict[str, int] = {}
    disagreeing: list[Pair] = []
    engines: set[str] = set()
    for pair in read_pairs(path, bundle):
        parts += 1
        engines.add(pair.engine)
        if pair.verdict == pair.shadow_verdict:
            agree += 1
            continue
        change = f"{pair.verdict} -> {pair.shadow_verdict}"
        changed[change] = changed.get(change, 0) + 1
        disagreeing.append(pair)
        del disagreeing[:-listed]
    listed_pairs = disagreeing if listed else []
    return Comparison(parts, agree, changed, listed_pairs, sorted(engines))


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")
