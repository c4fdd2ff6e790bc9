"""The result of an evaluation for people: rich tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edge_ad.evaluate.metrics import Interval
from edge_ad.evaluate.result import Evaluation, Summary
from edge_ad.gaussian.threshold import percent


def evaluation_tables(e: Evaluation) -> RenderableType:
    """One class: what was measured, working points, kinds of defect, levels."""
    # Names of folders may hold what rich takes for markup.
    head = Text.from_markup(
        f"[bold]{escape(e.name)}[/]  profile {e.profile}, {escape(e.backbone.name)}, "
        f"{e.engine.key}, reduction {e.reduction}\n"
        f"{e.parts.train} good parts fitted, {e.parts.good} good and {e.parts.defect} bad tested; "
        f"{e.ms_per_part:.1f} ms per part\n"
        f"[bold]image AUROC {e.image_auroc:.3f}[/] {_span(e.image_auroc_interval)}; {e.map_note}"
    )
    foot = [f"promise: {e.promise_text}"]
    if e.chi_squared is not None:
        c = e.chi_squared
        foot.append(
            f"chi-squared threshold {c.threshold:.2f} ({c.dims} dimensions) for {percent(c.target)}: "
            f"false rejects {percent(c.false_reject_rate)}, detected {percent(c.detection_rate)}"
        )
    return Group(head, _points(e), _defects(e), _levels(e), Text("\n".join(foot)))


def summary_table(summary: Summary) -> Table:
    """Several classes, one line each, and their mean."""
    table = _table("class", "image AUROC", "95 %", "false rejects", "predicted 95 %", "detected")
    table.title = f"{len(summary.classes)} classes, false-reject target {_target(summary)}"
    for c in summary.classes:
        table.add_row(
            escape(c.name),
            f"{c.image_auroc:.3f}",
            _span(c.image_auroc_interval),
            percent(c.false_reject_rate),
            _percents(c.false_reject_interval),
            percent(c.detection_rate),
        )
    table.add_section()
    table.add_row(
        "mean",
        f"{summary.image_auroc:.3f}",
        "",
        percent(summary.false_reject_rate),
        "",
        percent(summary.detection_rate),
    )
    return table


def _points(e: Evaluation) -> Table:
    table = _table(
        "target", "threshold", "false rejects", "predicted 95 %", "inside", "detected", "95 %"
    )
    for p in e.working_points:
        table.add_row(
            percent(p.target),
            f"{p.threshold:.2f}",
            percent(p.false_reject_rate),
            _percents(p.false_reject_interval),
            "yes" if p.inside else "[red]no[/]",
            percent(p.detection_rate),
            _percents(p.detection_interval),
        )
    return table


def _defects(e: Evaluation) -> Table:
    detected = f"detected at {percent(e.target_false_reject_rate)}"
    table = _table("defect", "parts", "image AUROC", "95 %", detected, "95 %")
    for kind, d in e.per_defect.items():
        table.add_row(
            escape(kind),
            str(d.parts),
            f"{d.image_auroc:.3f}",
            _span(d.image_auroc_interval),
            percent(d.detection_rate),
            _percents(d.detection_interval),
        )
    return table


def _levels(e: Evaluation) -> Table:
    table = _table("level", "image AUROC", "dimensions", "shrinkage", "condition")
    for name, level in e.per_level.items():
        table.add_row(
            escape(name),
            f"{level.image_auroc:.3f}",
            str(level.dims),
            f"{level.shrinkage:.3f}",
            f"{level.condition:.2g}",
        )
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table(title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _span(interval: Interval) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _percents(interval: Interval) -> str:
    return f"{percent(interval[0])} to {percent(interval[1])}"


def _target(summary: Summary) -> str:
    return percent(summary.target_false_reject_rate)
