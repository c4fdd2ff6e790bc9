"""Archived parts through another bundle: which verdicts would have been others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from edge_ad.config import Station
from edge_ad.errors import CaptureError
from edge_ad.evidence.entry import Entry, read_entries
from edge_ad.inspector import Inspector
from edge_ad.replay.parts import open_for, read_part
from edge_ad.verdict import Decision, Reason

# FAULT for what the line or the machine did: no bundle would have judged the pictures otherwise.
NOT_OF_THE_PICTURES = frozenset(
    {
        Reason.LATE, Reason.KEY_REUSED, Reason.NO_FRAME, Reason.MISSING_VIEW, Reason.UNREADABLE,
        Reason.ENGINE, Reason.PIXEL_FORMAT, Reason.OVERFLOW, Reason.STOPPED, Reason.DARK,
        Reason.SATURATED, Reason.FROZEN, Reason.CHALLENGE, Reason.NOT_KEPT,
    }
)  # fmt: skip
# The bundle was made for other pictures: it says nothing of these.
_NOT_MADE_FOR = (Reason.FRAME_SIZE, Reason.PIXEL_FORMAT, Reason.MISSING_VIEW)


class Changed(msgspec.Struct):
    """A part that the other bundle decides otherwise: verdicts with their reasons, scores and thresholds
    where there are any."""

    number: int
    key: str
    time: str
    kind: str
    was: str
    now: str
    was_score: float | None
    was_threshold: float | None
    now_score: float | None
    now_threshold: float | None
    detail: str
    path: str


class Skipped(msgspec.Struct):
    """A part that cannot be replayed, and why."""

    number: int
    key: str
    why: str


class Result(msgspec.Struct):
    """Of a replay; same: parts whose decision stays. damaged: entries that cannot be read."""

    bundle: str
    path: str
    engine: str
    product: str
    same: int = 0
    changed: list[Changed] = msgspec.field(default_factory=list)
    skipped: list[Skipped] = msgspec.field(default_factory=list)
    damaged: list[str] = msgspec.field(default_factory=list)

    @property
    def replayed(self) -> int:
        """Parts that were judged once more."""
        return self.same + len(self.changed)

    def text(self) -> str:
        """In one line."""
        ways: dict[str, int] = {}
        for one in self.changed:
            way = f"{one.was.split()[0]} to {one.now.split()[0]}"
            ways[way] = ways.get(way, 0) + 1
        how = "".join(f", {count} from {way}" for way, count in sorted(ways.items()))
        left = len(self.skipped) + len(self.damaged)
        return (
            f"{len(self.changed)} of {self.replayed} verdicts change by bundle {self.bundle}{how}; "
            f"{left} parts could not be replayed"
        )


def replay(
    station: Station,
    path: Path,
    product: str,
    kinds: Sequence[str] = (),
    limit: int = 0,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Judge the product's archived parts by the bundle at `path`: of these kinds (none: all), the newest
    `limit` (0: all). `told` hears how many are done.

    Nothing on disk changes. Raises ArtifactError and DeviceError; what a part lacks is in the result.
    """
    entries, damaged = read_entries(station.state_path, product)
    chosen = [entry for entry in entries if not kinds or entry.record.kind in kinds]
    chosen = chosen[-limit:] if limit else chosen
    with closing(open_for(station, path)) as inspector:
        manifest, key = inspector.bundle.manifest, inspector.identity.key
        result = Result(manifest.id, str(path), key, product, damaged=damaged)
        for done, entry in enumerate(chosen, 1):
            _replay(entry, inspector, result)
            told(done, len(chosen))
    return result


def _replay(entry: Entry, inspector: Inspector, result: Result) -> None:
    body = entry.record.body
    if body.reason in NOT_OF_THE_PICTURES:
        why = f"{entry.verdict} says nothing of its pictures"
        result.skipped.append(Skipped(entry.number, entry.key, why))
        return
    try:
        verdict = inspector.inspect_part(read_part(entry, inspector))
    except CaptureError as error:
        result.skipped.append(Skipped(entry.number, entry.key, str(error)))
        return
    if verdict.reason in _NOT_MADE_FOR:
        result.skipped.append(Skipped(entry.number, entry.key, verdict.detail))
        return
    if verdict.decision.value == body.verdict:
        result.same += 1
        return
    scored = verdict.decision is not Decision.FAULT
    changed = Changed(
        entry.number, entry.key, entry.time, entry.record.kind, entry.verdict,
        f"{verdict.decision} {verdict.reason}".strip(), body.score, body.threshold,
        verdict.score if scored else None, verdict.threshold if scored else None, verdict.detail,
        str(entry.path),
    )  # fmt: skip
    result.changed.append(changed)
