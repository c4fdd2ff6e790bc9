"""The qualification's report.html, in the style of the calibration's: escapes, misses, repeatability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from edge_ad.bundle import Manifest
from edge_ad.bundle.describe import escapes_text, percent_down
from edge_ad.bundle.qualification import (
    BadPart,
    Detected,
    LeftOut,
    Measured,
    Qualification,
    Repeatability,
)
from edge_ad.frame import Image
from edge_ad.gaussian.threshold import percent
from edge_ad.report.histogram import histogram_svg
from edge_ad.report.layout import Card, cards, chapter, document, header, table
from edge_ad.report.pictures import SIDE, jpeg_uri

CAP = 4.0  # margins above it share the histogram's last bin, so that those around 1 can be told apart
ROWS = 1000  # of the long tables; qualification.json has all
PROOF = (
    "The bound is exact (Clopper and Pearson) and holds for parts like these, each counted once: with "
    "95 % confidence at most 5 % escape after no miss in 59 parts, at most 1 % after none in 299."
)


def render_page(
    qualification: Qualification, manifest: Manifest, key: str, pictures: Mapping[str, Image]
) -> str:
    """The whole page. `pictures` are those of missed parts, by source."""
    measured = qualification.engines[key]
    created = qualification.created.replace("T", " ").replace("Z", " UTC")
    facts = [("Bundle", manifest.id), ("Measured", created), ("Engine", key)]
    misses = [part for part in measured.parts if part.verdict == "PASS"]
    chapters = [
        ("Detection per kind of defect", _kinds(measured)),
        ("Margins of the known-bad parts", _margins(measured)),
        ("The misses", _misses(misses, pictures)),
        ("Repeatability", _repeatability(measured)),
        ("Every known-bad part", _parts(measured.parts)),
        ("Not counted", _left_out(measured.left_out)),
        ("Identity", _identity(qualification, manifest, key)),
    ]
    body = "".join(
        [
            header("edge_ad qualification report", manifest.product, facts),
            _numbers(measured),
            *(f'<p class="warning">{escape(text)}</p>' for text in measured.warnings),
            *(chapter(title, content) for title, content in chapters),
        ]
    )
    return document(f"Qualification of {manifest.product}, {manifest.id}", body)


def _numbers(measured: Measured) -> str:
    one, spread = measured.overall, measured.repeatability
    kinds = len(measured.kinds)
    faults = f"; {one.faults} FAULT" if one.faults else ""
    nearest = "unknown" if spread is None or spread.nearest is None else f"{spread.nearest:.1f} sd"
    differ = spread is not None and spread.differ > 0
    return cards(
        [
            Card("Known-bad parts", str(one.parts), f"{kinds} kind{'s' if kinds > 1 else ''} of defect"),
            Card(
                "Detected", percent_down(one.rate), f"{one.detected} of {one.parts}{faults}", _state(one)
            ),
            Card("Escapes, 95 % confidence", f"≤ {escapes_text(one)}", "of bad parts like these"),
            Card("Missed", str(one.missed), "known-bad parts that passed", "warn" if one.missed else ""),
            Card(
                "Nearest repeated part",
                nearest,
                "repeatability not measured" if spread is None else "from the threshold",
                "warn" if spread is None or differ else "",
            ),
        ]
    )


def _state(one: Detected) -> str:
    return "" if one.detected == one.parts else "warn"


def _kinds(measured: Measured) -> str:
    head = ["Kind", "Parts", "Detected", "Missed", "FAULT", "Rate", "At least, 95 %", "Smallest margin"]
    rows = [_kind_row(kind, one) for kind, one in measured.kinds.items()]
    text = PROOF
    if len(rows) > 1:
        rows.append(_kind_row("all", measured.overall))
        text += " The last line holds for a line where the kinds are as frequent as here."
    if measured.overall.faults:
        text += " A FAULT does not pass, but is no detection either: it counts as a part not detected."
    return f"{table(head, rows)}<p>{escape(text)}</p>"


def _kind_row(name: str, one: Detected) -> list[str]:
    return [
        name, str(one.parts), str(one.detected), str(one.missed), str(one.faults),
        percent_down(one.rate), percent_down(one.confident), _margin(one.smallest_margin),
    ]  # fmt: skip


def _margins(measured: Measured) -> str:
    margins = [part.margin for part in measured.parts if part.margin is not None]
    label = "score / threshold of known-bad parts"
    if max(margins) > CAP:
        label += f"; {CAP:g} stands for {CAP:g} and more"
    svg = histogram_svg([min(margin, CAP) for margin in margins], 1.0, label, ("reject", "pass"))
    missed = measured.overall.missed
    text = (
        f"{missed} of {len(margins)} scored parts lie at or below the good parts' threshold of "
        f"{measured.threshold:.5g}, drawn at 1, and would escape. The nearer a detected part is to it, "
        "the sooner a change of light, focus or material lets its like escape."
    )
    return f"<figure>{svg}<figcaption>{escape(text)}</figcaption></figure>"


def _misses(misses: Sequence[BadPart], pictures: Mapping[str, Image]) -> str:
    if not misses:
        return "<p>No known-bad part passed.</p>"
    shown = [part for part in misses if part.source in pictures]
    figures = "".join(_figure(part, pictures[part.source]) for part in shown)
    text = "Those furthest from the threshold come first; the second number is score / threshold."
    pairs = any(pictures[part.source].shape[1] > SIDE for part in shown)
    if pairs:
        text += " On the right, where it is unusual: clear for not at all, yellow for the threshold."
    columns = "pairs" if pairs else "misses"
    rest = len(misses) - len(shown)
    more = f"<p>and {rest} more, in the table of every part.</p>" if rest else ""
    return f'<p>{escape(text)}</p><div class="parts {columns}">{figures}</div>{more}'


def _figure(part: BadPart, picture: Image) -> str:
    source = escape(part.source)
    return (
        f'<figure class="part above"><div class="frame"><img src="{jpeg_uri(picture)}" alt="{source}">'
        f"</div><figcaption><b>{escape(part.kind)}</b><span>{_score(part.score)} · "
        f'{_margin(part.margin)}</span><em title="{source}">{source}</em></figcaption></figure>'
    )


def _repeatability(measured: Measured) -> str:
    spread = measured.repeatability
    if spread is None:
        return (
            "<p>Not measured: <code>edge-ad qualify --repeat DIR</code> takes pictures of one part.</p>"
        )
    head = [
        "Part",
        "Pictures",
        "Mean",
        "sd",
        "Lowest",
        "Highest",
        "Distance, sd",
        "Verdicts that differ",
    ]
    rows = [
        [
            one.part, str(one.pictures), f"{one.mean:.5g}", f"{one.sd:.3g}", f"{one.low:.5g}",
            f"{one.high:.5g}", "-" if one.distance is None else f"{one.distance:+.1f}", str(one.differ),
        ]
        for one in spread.parts
    ]  # fmt: skip
    return f"<p>{escape(_spread_text(measured, spread))}</p>{table(head, rows)}"


def _spread_text(measured: Measured, spread: Repeatability) -> str:
    share = percent(spread.sd / measured.threshold)
    text = (
        f"The same part, pictured again and again, scores with a standard deviation of {spread.sd:.3g} "
        f"(over all parts), {share} of the threshold {measured.threshold:.5g}. The distance is from a "
        "part's mean to the threshold, in its own sd; below it is negative. "
    )
    if not spread.differ:
        return text + "Every part had one verdict throughout."
    count = f"{spread.differ} of {spread.pictures} verdicts differ from the part's most frequent one"
    return f"{text}{count}: a part so near the threshold is judged by chance."


def _parts(parts: Sequence[BadPart]) -> str:
    rows = [
        (
            part.source, part.kind,
            f"FAULT {part.reason}" if part.verdict == "FAULT" else part.verdict, part.view,
            _score(part.score), _margin(part.margin),
        )
        for part in parts[:ROWS]
    ]  # fmt: skip
    head = ["Part", "Kind", "Verdict", "View", "Score", "Score / threshold"]
    rest = len(parts) - len(rows)
    more = f"<p>and {rest} more in qualification.json.</p>" if rest else ""
    return f"{table(head, rows, numbers_from=4)}{more}"


def _left_out(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return "<p>Every picture was counted.</p>"
    rows = [(one.source, one.why, one.detail) for one in left_out[:ROWS]]
    rest = len(left_out) - len(rows)
    more = f"<p>and {rest} more in qualification.json.</p>" if rest else ""
    return table(["Picture", "Why", "Detail"], rows, numbers_from=3) + more


def _identity(qualification: Qualification, manifest: Manifest, key: str) -> str:
    engine = qualification.engines[key].engine
    rows = [
        ("Bundle's manifest sha256", qualification.bundle_sha256),
        ("Backbone", f"{manifest.backbone.name} {manifest.backbone.sha256}"),
        ("Engine", f"{key}: {engine.text}"),
        ("edge_ad", qualification.edge_ad),
    ]
    return '<div class="identity">' + table(["", ""], rows, numbers_from=2) + "</div>"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _margin(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
