"""How a chaos run looks in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_ad.chaos.checker import Verdicts
from edge_ad.chaos.plan import Options
from edge_ad.chaos.run import Say

_ROWS = (
    ("unanswered", "triggers without exactly one gate action"),
    ("bad_passed", "bad parts that passed"),
    ("wrong_part", "parts that passed by another part's PASS"),
    ("lost", "committed verdicts that the station does not have"),
    ("altered", "verdicts that it has otherwise"),
    ("duplicated", "verdicts that it has twice, or acted on twice"),
    ("reordered", "verdicts out of order"),
    ("good_rejected_outside_windows", "good parts rejected outside of windows"),
    ("unexplained_rejects", "rejects without a daemon's verdict, outside of windows"),
)


@contextmanager
def show_progress(console: Console, options: Options) -> Iterator[Say]:
    """A bar, where there is a terminal."""
    console.print(
        f"{options.parts} parts at {options.rate:g}/s, {options.kills} kills of daemon and station "
        f"each, seed {options.seed}"
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("start", total=1.0)
        yield lambda text, done: progress.update(task, description=text, completed=done)


def show_result(console: Console, result: Verdicts) -> None:
    """What must not happen, and how often it did."""
    kills = ", ".join(f"{name} {count}" for name, count in sorted(result.kills.items())) or "none"
    console.print(
        f"triggers {result.triggers}, gate actions {result.gate_actions}, passed {result.passed}, bad "
        f"parts {result.bad_parts}, triggers that went wrong {result.wrong_triggers}, killed: {kills}"
    )
    table = Table("must not happen", "times", box=None, pad_edge=False)
    for key, text in _ROWS:
        count = getattr(result, key)
        table.add_row(text, f"[red]{count}[/red]" if count else "[green]0[/green]")
    console.print(table)
    for kind, examples in result.examples.items():
        console.print(f"[red]{kind}[/red]: {'; '.join(examples[:5])}")
