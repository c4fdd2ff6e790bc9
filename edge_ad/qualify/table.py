"""The result of a qualification for people: rich tables, and lines below them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edge_ad.bundle.describe import percent_down, repeatability_text
from edge_ad.bundle.qualification import Detected, Measured, Repeatability

LISTED = 10


def result_tables(measured: Measured) -> RenderableType:
    """Kinds of defect, the misses, repeated parts."""
    tables: list[RenderableType] = [_kinds(measured)]
    if measured.overall.missed:
        tables.append(_misses(measured))
    if measured.repeatability is not None:
        tables.append(_repeated(measured.repeatability))
    return Group(*tables)


def notes(measured: Measured, listed: int = LISTED) -> list[str]:
    """What was not counted, and what a person should know."""
    left_out = [f"not counted, {one.why}: {one.source}: {one.detail}" for one in measured.left_out]
    warnings = [f"warning: {text}" for text in measured.warnings]
    return [*_first(left_out, listed), *_first(warnings, listed)]


def _first(lines: list[str], listed: int) -> list[str]:
    if len(lines) <= listed:
        return lines
    return [*lines[:listed], f"... and {len(lines) - listed} more like these; the report lists them"]


def _kinds(measured: Measured) -> Table:
    table = _table(
        "defect", "parts", "detected", "missed", "FAULT", "rate", "at least, 95 %", "smallest margin"
    )
    for kind, one in measured.kinds.items():
        table.add_row(escape(kind), *_cells(one))
    if len(measured.kinds) > 1:
        table.add_section()
        table.add_row("all", *_cells(measured.overall))
    return table


def _cells(one: Detected) -> list[str]:
    return [
        str(one.parts),
        str(one.detected),
        f"[red]{one.missed}[/]" if one.missed else "0",
        f"[yellow]{one.faults}[/]" if one.faults else "0",
        percent_down(one.rate),
        percent_down(one.confident),
        "" if one.smallest_margin is None else f"{one.smallest_margin:.3f}",
    ]


def _misses(measured: Measured) -> Table:
    misses = [part for part in measured.parts if part.verdict == "PASS"]
    table = _table("missed", "score", "score / threshold")
    table.columns[0].overflow = "fold"
    for part in misses[:LISTED]:
        table.add_row(escape(part.source), f"{part.score:.5g}", f"{part.margin:.3f}")
    if len(misses) > LISTED:
        table.caption = f"and {len(misses) - LISTED} more in the report"
    return table


def _repeated(spread: Repeatability) -> Table:
    table = _table(
        "repeated part", "pictures", "mean", "sd", "lowest", "highest", "distance, sd", "differ"
    )
    for one in spread.parts[:LISTED]:
        distance = "" if one.distance is None else f"{one.distance:+.1f}"
        differ = f"[red]{one.differ}[/]" if one.differ else "0"
        table.add_row(
            escape(one.part), str(one.pictures), f"{one.mean:.5g}", f"{one.sd:.3g}", f"{one.low:.5g}",
            f"{one.high:.5g}", distance, differ,
        )  # fmt: skip
    more = len(spread.parts) - LISTED
    table.caption = repeatability_text(spread)
    if more > 0:
        table.caption += f"; {more} more parts are in the report"
    table.caption_justify = "left"
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table()
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
