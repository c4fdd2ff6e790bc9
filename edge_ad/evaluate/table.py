"""The result of an evaluation for people: rich tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edge_ad.evaluate.result import Defect, Evaluation, Summary
from edge_ad.evaluate.words import number, percents, rate_with, span
from edge_ad.gaussian.threshold import percent


def evaluation_tables(e: Evaluation) -> RenderableType:
    """One class: what was measured, working points, kinds of defect, levels, baselines."""
    half = "" if e.split == "all" else f", {e.split} half of the defects"
    # Names of folders may hold what rich takes for markup.
    head = Text.from_markup(
        f"[bold]{escape(e.name)}[/]  profile {e.profile}, {escape(e.backbone.name)}, "
        f"{e.engine.key}, reduction {e.reduction}{half}\n"
        f"{e.parts.train} good parts fitted, {e.parts.good} good and {e.parts.defect} bad tested; "
        f"{e.ms_per_part:.1f} ms per part\n"
        f"[bold]image AUROC {e.image_auroc:.3f}[/] {span(e.image_auroc_interval)}{_pixels(e)}\n"
        f"{e.map_note}"
    )
    foot = [f"promise: {e.promise_text}"]
    if e.chi_squared is not None:
        c = e.chi_squared
        foot.append(
            f"chi-squared threshold {c.threshold:.2f} ({c.dims} dimensions) for {percent(c.target)}: "
            f"false rejects {percent(c.false_reject_rate)}, detected {percent(c.detection_rate)}"
        )
    tables = [_points(e), _defects(e), _levels(e), *([_baselines(e)] if e.baselines else [])]
    return Group(head, *tables, Text("\n".join(foot)))


def summary_table(summary: Summary) -> Table:
    """Several classes, one line each, and their mean."""
    table = plain_table(
        "class", "image AUROC", "95 %", "pixel AUROC", "AUPRO", "false rejects", "predicted", "detected"
    )
    table.title = f"{len(summary.classes)} classes, false-reject target {_target(summary)}"
    for c in summary.classes:
        table.add_row(
            escape(c.name),
            f"{c.image_auroc:.3f}",
            span(c.image_auroc_interval),
            number(c.pixel_auroc),
            number(c.aupro),
            percent(c.false_reject_rate),
            percents(c.false_reject_interval),
            percent(c.detection_rate),
        )
    table.add_section()
    table.add_row(
        "mean",
        f"{summary.image_auroc:.3f}",
        "",
        number(summary.pixel_auroc),
        number(summary.aupro),
        percent(summary.false_reject_rate),
        "",
        percent(summary.detection_rate),
    )
    return table


def plain_table(first: str, *columns: str) -> Table:
    """Names on the left, numbers on the right."""
    table = Table(title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _pixels(e: Evaluation) -> str:
    if e.pixel_auroc is None or e.aupro is None:
        return ""
    return f"; [bold]AUPRO {e.aupro:.3f}[/] (to 30 % false positives), pixel AUROC {e.pixel_auroc:.3f}"


def _points(e: Evaluation) -> Table:
    table = plain_table(
        "threshold for", "threshold", "false rejects", "predicted 95 %", "inside", "detected", "95 %"
    )
    for p in sorted(e.working_points, key=lambda p: -p.target):
        table.add_row(
            percent(p.target) + ("" if p.promise.achievable else " *"),
            f"{p.threshold:.4g}",
            percent(p.false_reject_rate),
            percents(p.false_reject_interval),
            "yes" if p.inside else "[red]no[/]",
            percent(p.detection_rate),
            percents(p.detection_interval),
        )
    if not all(p.promise.achievable for p in e.working_points):
        table.caption = "* too few good parts: the highest score is the threshold"
    return table


def _defects(e: Evaluation) -> Table:
    """By thresholds on the good test parts themselves, so that nothing but the scores is compared."""
    columns = [f"detected at {percent(d.target)} (95 %)" for d in e.detection_at]
    table = plain_table("defect", "parts", "image AUROC (95 %)", *columns)
    rejected = " and ".join(str(d.false_rejects) for d in e.detection_at)
    table.caption = (
        f"thresholds on the {e.parts.good} good test parts themselves reject {rejected} of them"
    )
    for kind, one in e.per_defect.items():
        table.add_row(escape(kind), str(one.parts), *_found(one))
    table.add_section()
    table.add_row("all", str(e.parts.defect), *_found(e))
    return table


def _found(of: Defect | Evaluation) -> list[str]:
    value = f"{of.image_auroc:.3f} ({span(of.image_auroc_interval)})"
    return [value, *(rate_with(d.detection_rate, d.detection_interval) for d in of.detection_at)]


def _levels(e: Evaluation) -> Table:
    table = plain_table("level", "image AUROC", "dimensions", "shrinkage", "condition")
    for name, level in e.per_level.items():
        table.add_row(
            escape(name),
            f"{level.image_auroc:.3f}",
            str(level.dims),
            f"{level.shrinkage:.3f}",
            f"{level.condition:.2g}",
        )
    return table


def _baselines(e: Evaluation) -> Table:
    table = plain_table("baseline", "sum", "95 %", *e.per_level)
    for b in e.baselines or []:
        interval = span(b.image_auroc_interval) if b.image_auroc_interval else escape(b.note)
        levels = [number(b.per_level.get(level)) for level in e.per_level]
        table.add_row(b.name, number(b.image_auroc), interval, *levels)
    return table


def _target(summary: Summary) -> str:
    return percent(summary.target_false_reject_rate)
