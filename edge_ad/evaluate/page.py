"""`edge-ad evaluate --html`: the numbers with their intervals, curves, and the parts behind them.

One page without scripts, in the style of the calibration's report.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from edge_ad.capture.pixels import PixelRule
from edge_ad.evaluate.masks import Masks
from edge_ad.evaluate.plots import components_svg, roc_svgs
from edge_ad.evaluate.result import Defect, Evaluation, Summary
from edge_ad.evaluate.scoring import Measured
from edge_ad.evaluate.sheet import contact_sheet
from edge_ad.evaluate.words import number, percents, rate_with, span
from edge_ad.gaussian.threshold import percent
from edge_ad.report.histogram import histogram_svg
from edge_ad.report.layout import Card, cards, chapter, document, header, table

MISSES = 24  # pictures of missed defects; of several classes, each has a third of it
LEFT_OUT_SHOWN = 100


def class_chapters(
    e: Evaluation, m: Measured, masks: Masks | None, rule: PixelRule, classes: int
) -> str:
    """Everything about one of `classes` classes, as HTML."""
    sheets = contact_sheet(m, masks, e.threshold, rule, MISSES if classes == 1 else MISSES // 3)
    chapters = [
        ("Defects", _defects(e)),
        ("Thresholds from the good parts", _points(e)),
        ("ROC", _roc(e, m)),
        ("Scores", _scores(e, m)),
        ("Pictures", _pictures(e, sheets)),
        ("Levels", _levels(e)),
    ]
    if e.baselines is not None:
        chapters.append(("Baselines of the publication", _baselines(e)))
    if e.components is not None:
        chapters.append(("Principal components", _components(e)))
    chapters.append(("Left out", _left_out(e.left_out)))
    return _cards(e) + "".join(chapter(title, content) for title, content in chapters)


def render_page(results: Sequence[Evaluation], bodies: Sequence[str], summary: Summary | None) -> str:
    """The page of one class, or of several below a table of all of them."""
    first = results[0]
    facts = [
        ("Profile", f"{first.profile}, reduction {first.reduction}"),
        ("Backbone", f"{first.backbone.name}, {first.preprocess.rpartition(', ')[2]}"),
        ("Engine", first.engine.key),
        ("Defects", "all" if first.split == "all" else f"{first.split} half"),
    ]
    if summary is None:
        facts.append(("Parts", _parts(first)))
        body = header("edge_ad evaluation", first.name, facts) + bodies[0]
        return document(f"Evaluation of {first.name}", body)
    body = header("edge_ad evaluation", summary.dataset, facts) + chapter("Classes", _classes(summary))
    for result, one in zip(results, bodies, strict=True):
        body += header(_parts(result), result.name, []) + one
    return document(f"Evaluation of {summary.dataset}", body)


def _parts(e: Evaluation) -> str:
    return f"{e.parts.train} fitted; {e.parts.good} good and {e.parts.defect} defective tested"


def _cards(e: Evaluation) -> str:
    at = e.detection_at[0]
    inside = "as promised" if e.false_reject_inside else "outside what was promised"
    items = [
        Card("Image AUROC", f"{e.image_auroc:.3f}", f"95 %: {span(e.image_auroc_interval)}"),
        Card(
            f"Detected at {percent(at.target)} false rejects",
            percent(at.detection_rate),
            f"95 %: {percents(at.detection_interval)}",
        ),
        Card(
            f"False rejects, {percent(e.target_false_reject_rate)} asked for",
            percent(e.false_reject_rate),
            f"{inside}: {percents(e.false_reject_interval)}",
            "" if e.false_reject_inside else "warn",
        ),
        Card("AUPRO, to 30 % false positives", number(e.aupro), "mean overlap of a region"),
        Card("Pixel AUROC", number(e.pixel_auroc), "every pixel alike"),
    ]
    notes = f"{e.map_note}. Promise: {e.promise_text}."
    return f'{cards(items)}<p class="promise">{escape(notes[0].upper() + notes[1:])}</p>\n'


def _classes(summary: Summary) -> str:
    head = ["Class", "Image AUROC", "95 %", "Pixel AUROC", "AUPRO", "False rejects", "Detected"]
    rows = [
        [
            c.name, f"{c.image_auroc:.3f}", span(c.image_auroc_interval), number(c.pixel_auroc),
            number(c.aupro), percent(c.false_reject_rate), percent(c.detection_rate),
        ]
        for c in summary.classes
    ]  # fmt: skip
    rows.append([
        "mean", f"{summary.image_auroc:.3f}", "", number(summary.pixel_auroc), number(summary.aupro),
        percent(summary.false_reject_rate), percent(summary.detection_rate),
    ])  # fmt: skip
    lost = f"<h3>Incomplete classes</h3>{_left_out(summary.incomplete)}" if summary.incomplete else ""
    return table(head, rows) + lost


def _defects(e: Evaluation) -> str:
    targets = [percent(d.target) for d in e.detection_at]
    head = [
        "Kind",
        "Parts",
        "Image AUROC (95 %)",
        *(f"Detected at {target} (95 %)" for target in targets),
    ]
    head.append(f"By the threshold for {percent(e.target_false_reject_rate)} (95 %)")
    rows = [_defect(kind, d.parts, d) for kind, d in e.per_defect.items()]
    rows.append(_defect("all", e.parts.defect, e))
    allowed = " and ".join(
        f"{d.false_rejects} of {d.good} (threshold {d.threshold:.4g})" for d in e.detection_at
    )
    note = (
        f"Detected at {' and '.join(targets)}: by the lowest threshold that rejects no more than this "
        f"share of the good test parts themselves, which is {allowed}. The last column is by the "
        "threshold that the calibration sets without seeing them."
    )
    return f"{table(head, rows)}<figcaption>{escape(note)}</figcaption>"


def _defect(name: str, parts: int, of: Defect | Evaluation) -> list[str]:
    return [
        name,
        str(parts),
        f"{of.image_auroc:.3f} ({span(of.image_auroc_interval)})",
        *(rate_with(d.detection_rate, d.detection_interval) for d in of.detection_at),
        rate_with(of.detection_rate, of.detection_interval),
    ]


def _points(e: Evaluation) -> str:
    head = ["Target", "Threshold", "False rejects", "Predicted 95 %", "Inside", "Detected", "95 %"]
    rows = [
        [
            percent(p.target) + ("" if p.promise.achievable else " (too few parts)"),
            f"{p.threshold:.5g}", percent(p.false_reject_rate), percents(p.false_reject_interval),
            "yes" if p.inside else "NO", percent(p.detection_rate), percents(p.detection_interval),
        ]
        for p in sorted(e.working_points, key=lambda p: -p.target)
    ]  # fmt: skip
    return table(head, rows)


def _roc(e: Evaluation, m: Measured) -> str:
    whole, low = roc_svgs(m.good.scores, m.bad_scores, e.working_points)
    caption = (
        f"{e.parts.good} good parts: one of them is {percent(1 / e.parts.good)}. Dots: the thresholds "
        "that the calibration sets for these targets."
    )
    return (
        f'<figure><div class="two">{whole}{low}</div><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _scores(e: Evaluation, m: Measured) -> str:
    good, bad = m.good.scores, m.bad_scores
    top = max(float(good.max()), e.threshold)
    # A long tail of clear defects would push the good parts into a corner.
    end = top + 1.5 * (top - float(min(good.min(), bad.min())))
    beyond = int((bad > end).sum())
    clipped = np.minimum(bad, end)
    svgs = [
        histogram_svg(list(values), e.threshold, label, reach=list(other))
        for values, other, label in (
            (good, clipped, "score of good parts"),
            (clipped, good, "score of defects"),
        )
    ]
    caption = f"{beyond} defects above {end:.4g} are counted at the right edge." if beyond else ""
    return f"<figure>{''.join(svgs)}<figcaption>{escape(caption)}</figcaption></figure>"


def _pictures(e: Evaluation, sheets: Sequence[tuple[str, str]]) -> str:
    legend = f"The numbers are the score, and its share of the threshold {e.threshold:.4g}."
    if e.masks is not None:
        legend += (
            " The light outline is the mask. Colours end where 99 % of the good test parts have no cell."
        )
    legend += f" {e.map_note[0].upper()}{e.map_note[1:]}."
    return f"<p>{escape(legend)}</p>" + "".join(
        f'<h3>{escape(title)}</h3><div class="parts sheet">{content}</div>' for title, content in sheets
    )


def _levels(e: Evaluation) -> str:
    head = ["Level", "Image AUROC", "Dimensions", "Shrinkage", "Condition number"]
    rows = [
        [name, f"{v.image_auroc:.3f}", str(v.dims), f"{v.shrinkage:.4f}", f"{v.condition:.3g}"]
        for name, v in e.per_level.items()
    ]
    return table(head, rows)


def _baselines(e: Evaluation) -> str:
    levels = list(e.per_level)
    rows = [
        [
            b.name,
            number(b.image_auroc),
            span(b.image_auroc_interval) if b.image_auroc_interval else b.note,
            *(number(b.per_level.get(level)) for level in levels),
        ]
        for b in e.baselines or []
    ]
    note = "Image AUROC of the sum over levels, and of each level alone, on pooled features."
    return f"<p>{note}</p>" + table(["Method", "Sum", "95 %", *levels], rows)


def _components(e: Evaluation) -> str:
    curves = e.components or []
    values = [v for c in curves for v in (*c.first, *c.rest) if v is not None]
    lowest = max(0.0, np.floor(min([*values, 0.5]) * 10) / 10)
    figures = "".join(
        f"<div><h3>Level {escape(c.level)}</h3>{components_svg(c, float(lowest))}</div>" for c in curves
    )
    note = (
        '<p>AUROC over the number of components: <span class="key first">with the first ones</span>, '
        '<span class="key rest">with all others</span>. Dashed: where the first ones explain 95, 99, '
        "99.9 and 99.99 % of the good parts' variance.</p>"
    )
    return f'{note}<div class="two">{figures}</div>'


def _left_out(lines: Sequence[str]) -> str:
    if not lines:
        return "<p>Nothing.</p>"
    rows = [[line] for line in lines[:LEFT_OUT_SHOWN]]
    rest = len(lines) - len(rows)
    return table([f"{len(lines)} in all"], rows) + (f"<p>and {rest} more.</p>" if rest else "")
