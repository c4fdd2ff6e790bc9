"""How the demo looks: the live screen while it runs, and the last one."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge_ad.capture.defects import DEFECTS
from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.demo.story import HEIGHT, WIDTH, Progress
from edge_ad.demo.tally import Result
from edge_ad.demo.thumbnail import close_up, thumbnail
from edge_ad.gaussian.threshold import percent

PERIOD_S = 0.2
COLUMNS = 100
_VERDICT = {"PASS": "green", "REJECT": "red", "FAULT": "yellow"}
_TITLE = "[b]edge-ad demo[/b]  a rendered production line"


class Screen:
    """Draws `Progress` a few times per second; without a terminal it only says which step is done."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._next = 0.0
        self._said = 0

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """Draw, unless that was done a moment ago."""
        if not self._console.is_terminal:
            for step, text in progress.done[self._said :]:
                self._console.print(f"{step:<10} {text}", highlight=False)
            self._said = len(progress.done)
        elif self._clock() >= self._next:
            self._live.update(
                _running(progress, self._clock(), min(self._console.width, COLUMNS)), refresh=True
            )
            self._next = self._clock() + PERIOD_S


def _running(progress: Progress, now: float, width: int) -> RenderableType:
    steps = Table.grid(padding=(0, 1))
    for step, text in progress.done:
        steps.add_row("[green]✓[/]", f"[b]{step}[/b]", text)
    if progress.step:
        share = ProgressBar(completed=progress.share * 100, width=24)
        steps.add_row("[cyan]●[/]", f"[b]{progress.step}[/b]", progress.text)
        steps.add_row("", "", share)
    body: list[RenderableType] = [steps]
    if progress.recent:
        below = Table.grid(padding=(0, 3))
        below.add_row(_recent(progress), _rejected(progress))
        body += [Text(), below]
    return _panel(Group(*body), now - progress.started, width)


def _recent(progress: Progress) -> Table:
    """The last parts, newest at the bottom."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for heading in ("part", "rendered as", "verdict", "score / threshold", "ms"):
        table.add_column(heading, justify="right" if heading == "ms" else "left")
    for header, body in progress.recent:
        color = _VERDICT[body.verdict]
        truth = _words(progress.tally.truth(header.part))
        table.add_row(
            header.part,
            truth,
            f"[{color}]{body.verdict}[/]",
            _gauge(_ratio(body)),
            f"{body.latency_ms:.1f}",
        )
    return table


def _rejected(progress: Progress) -> RenderableType:
    """The last rejected part, close up where it has a defect."""
    if progress.rejected is None:
        return Text()
    return _example(progress, *progress.rejected, columns=28)


def _example(progress: Progress, header: Header, body: ScoreBody, columns: int) -> RenderableType:
    options = progress.options
    defect = progress.tally.truth(header.part)
    index = int(header.part.removeprefix("S"))
    image = close_up(options.seed, index, WIDTH, HEIGHT, defect, 3.0 if defect else 1.0)
    caption = Text.assemble((body.verdict.lower(), _VERDICT[body.verdict]), f" {_words(defect)} ")
    caption.append(f"{_ratio(body):.2f}", "dim")
    return Group(thumbnail(image, columns), caption)


def _gauge(ratio: float, width: int = 16) -> Text:
    """A bar of score / threshold with a mark where the threshold is."""
    filled, mark = min(width, round(ratio * width / 2)), width // 2
    text = Text()
    for i in range(width):
        over = i >= mark
        text.append(
            "━" if i < filled else "╌",
            "red" if over and i < filled else "green" if i < filled else "dim",
        )
        if i == mark - 1:
            text.append("│", "dim")
    return text.append(f" {ratio:.2f}")


def final_screen(
    progress: Progress, result: Result, width: int = COLUMNS, pictures: bool = True
) -> RenderableType:
    """What stays on the terminal: the confusion matrix, examples, and what was proven."""
    width = min(width, COLUMNS)
    parts: list[RenderableType] = [_confusion(result), _facts(result)]
    if width >= COLUMNS:
        beside = Table.grid(padding=(0, 3))
        beside.add_row(*parts)
        parts = [beside]
    shown = [progress.examples[d] for d in DEFECTS if d in progress.examples]
    if pictures and shown:
        examples = Table.grid(padding=(0, 1))
        columns = (width - 4) // len(DEFECTS) - 1
        examples.add_row(*(_example(progress, *record, columns) for record in shown))
        parts += [Text(), examples]
    return _panel(Group(*parts, Text(), _outcome(result)), result.seconds, width)


def _panel(inside: RenderableType, seconds: float, width: int) -> Panel:
    return Panel(
        inside,
        title=_TITLE,
        title_align="left",
        subtitle=f"{seconds:.0f} s",
        subtitle_align="right",
        width=width,
        box=box.ROUNDED,
        border_style="dim",
    )


def _confusion(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("rendered as")
    for verdict, color in _VERDICT.items():
        table.add_column(Text(verdict, color), justify="right")
    table.add_column("rejected", justify="right")
    for kind in ("good", *DEFECTS):
        row = result.confusion.get(kind, {})
        total = sum(row.values())
        share = percent(row.get("REJECT", 0) / total) if total else "none came"
        counts = [str(row[v]) if row.get(v) else "[dim]·[/]" for v in _VERDICT]
        table.add_row(_words("" if kind == "good" else kind), *counts, share)
    return table


def _facts(result: Result) -> Table:
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="dim", justify="right")
    low, high = result.promised_false_rejects
    latency = result.latency_ms
    same = not result.agreement.difference
    inside = low <= result.false_rejects <= high
    facts.add_row(
        "false rejects",
        f"{_tick(inside)} {result.false_rejects} of {result.good_parts}, promised {low} to {high}",
    )
    facts.add_row("missed defects", f"  {result.missed_defects} of {result.defective_parts}")
    facts.add_row(
        "verdicts",
        f"{_tick(same)} daemon {result.agreement.daemon}, consumer {result.agreement.consumer}",
    )
    facts.add_row(
        "latency", f"  p50 {latency['p50']:.1f}  p99 {latency['p99']:.1f}  max {latency['max']:.1f} ms"
    )
    facts.add_row(
        "calibration", f"  {result.calibration_parts} good parts, threshold {result.threshold:.1f}"
    )
    facts.add_row("backbone", f"  {result.backbone}")
    facts.add_row("metrics", f"  {result.metrics_url}")
    return facts


def _outcome(result: Result) -> Text:
    if result.problems:
        return Text.assemble(("failed: ", "b red"), "; ".join(result.problems))
    return Text.from_markup(
        "[b green]✓[/] Daemon and consumer agree part by part; false rejects are as promised.\n"
        "[dim]Your own line:[/] edge-ad camera list [dim]·[/] edge-ad init [dim]·[/] "
        "edge-ad calibrate -c line.toml --parts 300 [dim]·[/] edge-ad run"
    )


def _tick(good: bool) -> str:
    return "[green]✓[/]" if good else "[red]✗[/]"


def _ratio(body: ScoreBody) -> float:
    return body.score / body.threshold if body.score is not None and body.threshold else float("nan")


def _words(defect: str) -> str:
    return defect.replace("_", " ") or "good"
