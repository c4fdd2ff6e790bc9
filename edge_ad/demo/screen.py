"""How the demo looks: the live screen while it runs, and the last one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache
from io import StringIO
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge_ad.bundle.describe import escapes_text
from edge_ad.capture.defects import DEFECTS
from edge_ad.capture.parts import part_number, plate
from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.demo.progress import DEADLINE_MS, HEIGHT, WIDTH, Progress
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
        line = Table.grid(padding=(0, 2))
        line.add_row(
            progress.text, ProgressBar(completed=progress.share * 100, width=24, complete_style="cyan")
        )
        steps.add_row("[cyan]●[/]", f"[b]{progress.step}[/b]", line if progress.share else progress.text)
    body: list[RenderableType] = [steps]
    below = Table.grid(padding=(0, 2))
    if progress.recent:
        below.add_row(_recent(progress), _rejected(progress))
        body += [Text(), below]
    elif progress.tally.records:
        header, body_ = progress.tally.records[-1]
        below.add_row(_passing(progress.options.seed, header.part), Text.assemble(
            (header.part, "b"), "\n\n", (body_.verdict, _VERDICT[body_.verdict]), f" {body_.reason}\n",
            ("without a bundle no part passes", "dim"),
        ))  # fmt: skip
        body += [Text(), below]
    return _panel(Group(*body), now - progress.started, width)


def _recent(progress: Progress) -> Table:
    """The last parts, newest at the bottom, and the counts."""
    verdicts = progress.tally.verdicts()
    counts = "   ".join(f"[{color}]{v}[/] {verdicts[v]}" for v, color in _VERDICT.items())
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, caption=counts, caption_style="")
    for heading in ("part", "truth", "verdict", "score/threshold", "", "ms"):
        table.add_column(heading, justify="right" if heading in ("", "ms") else "left", no_wrap=True)
    for header, body in progress.recent:
        table.add_row(
            header.part,
            _words(progress.tally.truth(header.part)),
            Text(body.verdict, _VERDICT[body.verdict]),
            _gauge(_ratio(body)),
            f"{_ratio(body):.2f}",
            f"{body.latency_ms:.1f}",
        )
    return table


def _rejected(progress: Progress) -> RenderableType:
    """The last rejected part, close up where it has a defect."""
    if progress.rejected is None:
        return Text()
    return _example(progress, *progress.rejected, columns=27)


def _example(progress: Progress, header: Header, body: ScoreBody, columns: int) -> RenderableType:
    defect = progress.tally.truth(header.part)
    caption = Text.assemble(f"{_words(defect)} ", (f"{_ratio(body):.2f}", _VERDICT[body.verdict]))
    return Group(_picture(progress.options.seed, header.part, defect, columns), caption)


@lru_cache(maxsize=16)
def _picture(seed: int, part: str, defect: str, columns: int) -> Text:
    return thumbnail(
        close_up(seed, part_number(part), WIDTH, HEIGHT, defect, 3.0 if defect else 1.0), columns
    )


def _passing(seed: int, part: str) -> Text:
    """A part as a whole."""
    return thumbnail(plate(seed, WIDTH, HEIGHT).render(part_number(part), ""), 50)


def _gauge(ratio: float, width: int = 14) -> Text:
    """A bar of score / threshold with a mark where the threshold is; a score below zero has none."""
    filled, mark = round(min(max(ratio, 0.0), 2.0) * width / 2) if ratio == ratio else 0, width // 2
    return Text.assemble(
        ("━" * min(filled, mark), "green" if ratio <= 1 else "red"),
        ("╌" * (mark - min(filled, mark)), "dim"),
        ("│", "dim"),
        ("━" * max(filled - mark, 0), "red"),
        ("╌" * min(width - filled, mark), "dim"),
    )


def final_screen(
    progress: Progress, result: Result, width: int = COLUMNS, pictures: bool = True
) -> RenderableType:
    """What stays on the terminal: the confusion matrix, examples, and what was proven."""
    width = min(width, COLUMNS)
    parts: list[RenderableType] = [_confusion(result), Text(), _facts(result)]
    if width >= COLUMNS:
        beside = Table.grid(padding=(0, 2))
        beside.add_row(parts[0], parts[2])
        parts = [beside]
    shown = [progress.examples[d] for d in DEFECTS if d in progress.examples]
    if pictures and shown:
        examples = Table.grid(padding=(0, 1))
        columns = (width - 4) // len(DEFECTS) - 1
        examples.add_row(*(_example(progress, *record, columns) for record in shown))
        parts += [Text(), examples]
    return _panel(Group(*parts, Text(), _outcome(result)), result.seconds, width)


def final_picture(progress: Progress, result: Result) -> str:
    """The last screen as SVG, in the viewer's own font: that of rich would be fetched from the web."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), color_system="truecolor")
    console.print(final_screen(progress, result))
    picture = console.export_svg(title="edge-ad demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


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
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("truth", no_wrap=True)
    for verdict, color in _VERDICT.items():
        table.add_column(Text(verdict, color), justify="right", no_wrap=True)
    table.add_column("rejected", justify="right", no_wrap=True)
    for kind in ("good", *DEFECTS):
        row = result.confusion.get(kind, {})
        total = sum(row.values())
        share = percent(row.get("REJECT", 0) / total) if total else "none"
        counts = [str(row[v]) if row.get(v) else "[dim]·[/]" for v in _VERDICT]
        table.add_row(_words("" if kind == "good" else kind), *counts, share)
    return table


def _facts(result: Result) -> Table:
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="dim", justify="right", no_wrap=True)
    _, high = result.promised_false_rejects
    latency, agreement = result.latency_ms, result.agreement
    inside = _tick(result.false_rejects <= high)
    same = _tick(not agreement.difference)
    facts.add_row(
        "false rejects",
        inside,
        f"{result.false_rejects} of {result.good_parts}, promised at most {high}",
    )
    facts.add_row("missed", "", f"{result.missed_defects} of {result.defective_parts} defects")
    known = result.detection
    facts.add_row("escapes", "", f"≤ {escapes_text(known)} ({known.parts} known-bad parts)")
    facts.add_row("verdicts", same, f"daemon {agreement.daemon}, consumer {agreement.consumer}")
    facts.add_row(
        "latency, ms",
        "",
        f"p50 {latency['p50']:.1f}, p99 {latency['p99']:.1f}, max {latency['max']:.1f}",
    )
    facts.add_row(
        "calibration", "", f"{result.calibration_parts} parts, threshold {result.threshold:.1f}"
    )
    facts.add_row("backbone", "", ", ".join([result.backbone, *result.judged_by]))
    if result.plc is not None:
        trip, gate = result.plc.round_trip_ms, result.plc.gate
        facts.add_row(
            "PLC",
            _tick(sum(gate.values()) == sum(result.plc.results.values()) == result.plc.triggers),
            f"{gate['passed']} passed, {gate['rejected']} not; {trip.get('p50', 0):.0f} ms",
        )
    facts.add_row("metrics", "", result.metrics_url)
    facts.add_row("scraped", "", f"edge_ad_parts_total = {result.metrics_parts}")
    return facts


def _outcome(result: Result) -> Text:
    if result.problems:
        return Text.assemble(("failed: ", "b red"), "; ".join(result.problems))
    late = (
        f"[yellow]![/] {result.late} verdicts came after the deadline of {DEADLINE_MS:.0f} ms, as this "
        "machine is busy: FAULT, never PASS.\n"
    )
    return Text.from_markup(
        "[b green]✓[/] Daemon and consumer agree part by part; no excess of false rejects.\n"
        f"{late if result.late else ''}"
        "[dim]  Your own line: edge-ad init, camera list, check, calibrate --parts 300, run[/]"
    )


def _tick(good: bool) -> str:
    return "[green]✓[/]" if good else "[red]✗[/]"


def _ratio(body: ScoreBody) -> float:
    return body.score / body.threshold if body.score is not None and body.threshold else float("nan")


def _words(defect: str) -> str:
    return defect.replace("_", " ") or "good"
