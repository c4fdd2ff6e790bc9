"""The entries of the archive for a person and for programs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from edge_ad.evidence.entry import Entry

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


def _ratio(line: Line) -> str:
    if line.score is None or not line.threshold:
        return ""
    return f"{line.score:.3g}, {line.score / line.threshold:.2f} x"
