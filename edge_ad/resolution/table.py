"""The result for people: a row per size, two columns per kind of defect."""

from __future__ import annotations

from rich.table import Table

from edge_ad.bundle.describe import percent_down
from edge_ad.resolution.result import Kind, Resolution, Size, span


def resolution_table(resolution: Resolution) -> Table:
    """Detected of the trials, with the exact 95 % lower bound; below, the size that is found."""
    table = Table(title=f"rendered defects, {resolution.trials} trials each", title_justify="left")
    for name in ("camera px", "network px"):
        table.add_column(name, justify="right")
    for kind in resolution.kinds:
        table.add_column(kind.kind, justify="right")
        table.add_column("at least, 95 %", justify="right")
    tried = {kind.kind: {one.size: one for one in kind.sizes} for kind in resolution.kinds}
    for size in sorted({size for sizes in tried.values() for size in sizes}):
        cells = [cell for kind in resolution.kinds for cell in _cells(tried[kind.kind].get(size))]
        table.add_row(f"{size:g}", span(resolution.network(size)), *cells)
    table.add_section()
    found = [cell for kind in resolution.kinds for cell in (f"[bold]{found_cell(kind)}[/]", "")]
    table.add_row("at 95 %", "", *found)
    return table


def found_cell(kind: Kind) -> str:
    """ "6 px", "> 48 px" where even the largest is not found, "<= 2 px" where the smallest is."""
    if kind.found is None:
        return f"> {kind.sizes[-1].size:g} px"
    return f"{'<= ' if kind.found == kind.sizes[0].size else ''}{kind.found:g} px"


def _cells(one: Size | None) -> tuple[str, str]:
    """Of a size that was tried, or not any more."""
    if one is None:
        return "", ""
    faults = f" [yellow]{one.faults} FAULT[/]" if one.faults else ""
    colour = "green" if one.enough else "red"
    return f"[{colour}]{one.detected} of {one.trials}[/]{faults}", percent_down(one.confident)
