"""The entries of the archive for a person and for programs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from edge_ad.evidence.entry import Entry
from edge_ad.evidence.find import Found

COLOURS = {"PASS": "green", "REJECT": "red", "FAULT": "yellow"}


class Line(msgspec.Struct):
    """One line of `--json`. Numbers that do not exist are null; zone: of the first finding, "" for the
    rest of the part, null where nothing was found; kind: why it was kept."""

    number: int
    kind: str
    key: str
    time: str
    verdict: str
    reason: str
    score: float | None
    threshold: float | None
    zone: str | None
    detail: str
    product: str
    bundle: str
    cameras: list[str]
    path: str


def entry_line(entry: Entry) -> Line:
    """An entry in short."""
    body, header = entry.record.body, entry.record.header
    return Line(
        entry.number,
        entry.record.kind,
        entry.key,
        entry.time,
        body.verdict,
        body.reason,
        body.score,
        body.threshold,
        body.findings[0].zone if body.findings else None,
        body.detail,
        header.product,
        header.bundle,
        list(entry.record.pictures),
        str(entry.path),
    )


def entries_table(entries: Sequence[Entry]) -> Table:
    """All of them, oldest first."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("no.", justify="right")
    table.add_column("key", overflow="fold")
    for name in ("time (UTC)", "verdict", "reason or kind", "score, x threshold", "zone"):
        table.add_column(name, no_wrap=True)
    for entry in entries:
        line = entry_line(entry)
        colour = COLOURS.get(line.verdict, "white")
        table.add_row(
            str(line.number),
            escape(line.key),
            line.time[5:].replace("T", " ").rstrip("Z"),
            f"[{colour}]{escape(line.verdict)}[/]",
            escape(line.reason or line.kind),
            _ratio(line),
            "" if line.zone is None else escape(line.zone) or "the rest",
        )
    return table


class FoundLine(msgspec.Struct):
    """One line of `find --json`, one row of `--csv`. Numbers that do not exist are null; number, kind
    and path are of the pictures, where there are any."""

    time: str
    part: str
    product: str
    verdict: str
    reason: str
    score: float | None
    threshold: float | None
    view: str
    latency_ms: float
    bundle: str
    engine: str
    epoch: str
    seq: int
    challenge: bool
    number: int | None
    kind: str | None
    path: str | None


def found_line(found: Found) -> FoundLine:
    """A part in short."""
    row, entry = found.row, found.entry
    return FoundLine(
        found.time, row.part, row.product, row.verdict, row.reason, row.score, row.threshold, row.view,
        row.latency_ms, row.bundle, row.engine, row.epoch, row.seq, bool(row.challenge),
        entry.number if entry else None, entry.record.kind if entry else None,
        str(entry.path) if entry else None,
    )  # fmt: skip


def found_table(parts: Sequence[Found]) -> Table:
    """All of them, the earliest first; the number is of the pictures."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("key", overflow="fold", min_width=8)
    several = len({found.row.product for found in parts}) > 1
    for name in ("time (UTC)", "verdict", "reason", "score, x threshold", "no."):
        table.add_column(name, no_wrap=True)
    if several:
        table.add_column("product", overflow="fold")
    for line in map(found_line, parts):
        colour = COLOURS.get(line.verdict, "white")
        table.add_row(
            escape(line.part),
            line.time[5:19].replace("T", " "),
            f"[{colour}]{escape(line.verdict)}[/]",
            "challenge" if line.challenge else escape(line.reason),
            _ratio(line),
            "" if line.number is None else str(line.number),
            *([escape(line.product)] if several else []),
        )
    return table


def entry_text(entry: Entry) -> list[str]:
    """All about a part that has pictures, for a person."""
    header, body, line = entry.record.header, entry.record.body, entry_line(entry)
    lines = [
        f"part       {entry.key}, number {entry.number}, kept as {entry.record.kind}",
        f"verdict    {entry.verdict}{f': {body.detail}' if body.detail else ''}",
        f"time       {entry.time}, {body.latency_ms:.1f} ms from trigger to verdict",
        f"made as    {header.product}, judged by bundle {header.bundle[:12] or '(none)'} {body.engine}",
        f"counted    {header.seq} of epoch {header.epoch}",
    ]
    if ratio := _ratio(line):
        lines.insert(2, f"score      {ratio} the threshold, in view {body.view}")
    for one in body.findings or []:
        allowed = ", excused by its zone" if one.allowed else ""
        lines.append(
            f"finding    {one.zone or 'the rest'}, view {one.view}, at {one.x:.0f}, {one.y:.0f} px, "
            f"{one.area:.0f} px^2, peak {one.peak:.2f}{allowed}"
        )
    lines += [f"picture    {entry.path / one.file}" for one in entry.record.pictures.values()]
    return lines + [f"overlay    {entry.path / file}" for file in entry.record.overlays.values()]


def _ratio(line: Line | FoundLine) -> str:
    if line.score is None or not line.threshold:
        return ""
    return f"{line.score:.3g}, {line.score / line.threshold:.2f} x"
