"""The page itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from edge_ad.bundle import Manifest, Section
from edge_ad.bundle.describe import profile_text
from edge_ad.bundle.views import jitter_texts, view_texts, zone_texts
from edge_ad.gaussian.threshold import (
    CHI2,
    confident_rate,
    parts_needed,
    percent,
    promise_text,
)
from edge_ad.report.histogram import histogram_svg
from edge_ad.report.layout import Card, cards, chapter, document, header, table
from edge_ad.report.parts import declared_chapter, suspects_chapter, unusual

if TYPE_CHECKING:  # pages are used by rooms that calibrate imports
    from edge_ad.calibrate.job import Score, Skipped

SKIPPED_SHOWN = 200


def render_report(
    manifest: Manifest,
    scores: Sequence[Score],
    suspects: Sequence[Score],
    skipped: Sequence[Skipped],
    directory: Path,
) -> str:
    """The whole page. `directory` holds the kept frames that pictures are made of."""
    key, section = next(iter(manifest.engines.items()))
    sample = [score for score in scores if not score.part.declared]
    body = "".join(
        [
            _header(manifest, key, section),
            _promises(section, len(scores)),
            suspects_chapter(manifest, section, suspects, directory),
            declared_chapter(manifest, section, scores, directory),
            chapter("Scores of the good parts", _histogram(section, sample)),
            chapter("Promises and counts", _tables(manifest, section)),
            chapter("The most unusual good parts", unusual(manifest, section, sample, directory)),
            chapter("Skipped parts", _skipped(manifest, skipped)),
            chapter("Gaussians", _levels(manifest, section)),
            chapter("Identity", _identity(manifest, key, section)),
        ]
    )
    return document(f"Calibration of {manifest.product}, {manifest.id}", body)


def _header(manifest: Manifest, key: str, section: Section) -> str:
    facts = [
        ("Bundle", manifest.id),
        ("Created", manifest.created.replace("T", " ").replace("Z", " UTC")),
        (
            "Backbone",
            f"{manifest.backbone.name}, {manifest.preprocess.width} x {manifest.preprocess.height}",
        ),
        ("Engine", key),
    ]
    return header("edge_ad calibration report", manifest.product, facts)


def _promises(section: Section, parts: int) -> str:
    promise = section.promise
    row = [
        Card("Good parts", str(parts), _counted(promise.declared)),
        Card("Threshold", f"{section.threshold:.5g}", f"a part above it is rejected; {promise.method}"),
        Card(
            "False rejects, expected",
            percent(promise.expected),
            f"target {percent(promise.target)}",
            "" if promise.achievable else "warn",
        ),
        Card(
            "False rejects, 95 % confidence",
            f"≤ {percent(promise.confident)}",
            "holds for 19 of 20 calibrations like this one",
            "" if promise.confident <= promise.target else "warn",
        ),
        Card("Escapes", "unknown", "detection not measured; 'edge-ad qualify' does", "warn"),
    ]
    return f'{cards(row)}<p class="promise">{escape(promise_text(promise))}.</p>\n'


def _counted(declared: int) -> str:
    note = "used for the fit"
    return f"{note}, {declared} of them not in the promise" if declared else note


def _tables(manifest: Manifest, section: Section) -> str:
    promise = section.promise
    expected, confident = parts_needed(promise.target)
    target = percent(promise.target)
    promises = [
        ("Target of false rejects", target),
        ("Expected with these parts", percent(promise.expected)),
        ("With 95 % confidence, at most", percent(promise.confident)),
    ]
    from_scores = not promise.method.startswith(CHI2)
    if from_scores:
        promises += [
            (f"Parts needed for {target} expected", str(expected)),
            (f"Parts needed for {target} with 95 % confidence", str(confident)),
        ]
    if from_scores and promise.parts >= confident and promise.confident > promise.target:
        rate = confident_rate(promise.parts, promise.target)
        option = f"--false-reject-rate {rate:.4g}"
        promises.append((f"To hold {target} with 95 % confidence, ask for", option))
    names = {
        "parts": "Parts used", "unreadable": "Skipped: unreadable", "duplicate": "Skipped: duplicate",
        "size": "Skipped: another size or pixel layout", "damaged": "Skipped: kept frame damaged",
        "position": "Skipped: not found in the frame, or lying otherwise",
        "declared": "Used, but declared good by a person: not in the promise",
        "dropped": "Dropped by a person, in all", "screened": "Dropped by screening, in all",
    }  # fmt: skip
    counts = [(names.get(key, key), str(count)) for key, count in manifest.counts.items()]
    return (
        f'<div class="two">{table(["False rejects", ""], promises)}{table(["Counts", ""], counts)}</div>'
    )


def _histogram(section: Section, scores: Sequence[Score]) -> str:
    above = sum(score.score > section.threshold for score in scores)
    caption = f"{above} of {len(scores)} good parts lie above the threshold."
    if section.chi2 is not None:
        chi2 = section.chi2
        caption += (
            f" For comparison, the chi-squared threshold of the publication for {chi2.k} dimensions is "
            f"{chi2.threshold:.5g}: {percent(chi2.observed)} of these parts exceed it, "
            f"{percent(chi2.rate)} were "
            "asked for."
        )
    svg = histogram_svg([score.score for score in scores], section.threshold)
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _skipped(manifest: Manifest, skipped: Sequence[Skipped]) -> str:
    dropped = manifest.counts.get("dropped", 0)
    note = f"<p>Dropped from the kept set by hand: {dropped}.</p>" if dropped else ""
    if not skipped:
        return f"{note}<p>No part was skipped.</p>"
    rows = [(one.source, one.kind, one.detail) for one in skipped[:SKIPPED_SHOWN]]
    rest = len(skipped) - len(rows)
    more = f"<p>and {rest} more.</p>" if rest else ""
    return note + table(["Part", "Why", "Detail"], rows, numbers_from=3) + more


def _levels(manifest: Manifest, section: Section) -> str:
    blocks = []
    for view in manifest.views:
        tiles = _places(manifest, view.name)
        rows = []
        for i, level in enumerate(manifest.levels):
            fits = [section.levels[tile][i] for tile in tiles]
            kept, shrinkage, condition = (
                _range([getattr(fit, name) for fit in fits], digits)
                for name, digits in (("k", "d"), ("shrinkage", ".4f"), ("condition", ".3g"))
            )
            rows.append((level.name, str(level.dim), kept, shrinkage, condition))
        scale = _range([section.scales[tile] for tile in tiles], ".5g")
        title = f"View {view.name}, scale {scale}" if len(manifest.views) > 1 or len(tiles) > 1 else ""
        head = ["Level", "Channels", "Dimensions kept", "Shrinkage", "Condition number"]
        blocks.append((f"<h3>{escape(title)}</h3>" if title else "") + table(head, rows))
    kind = manifest.reduction.kind
    reduction = "none" if kind == "none" else f"{kind.upper()} {100 * manifest.reduction.share:g} %"
    text = f"Profile {profile_text(manifest)}; reduction of the levels: {reduction}."
    return f"<p>{escape(text)}</p>{''.join(blocks)}{_positions(manifest, section)}"


def _positions(manifest: Manifest, section: Section) -> str:
    """How well the Gaussians of the positions are determined."""
    head = ["View", "Regressors", "Shrinkage", "Shared with neighbours"]
    rows = []
    for view in manifest.views if section.local else []:
        fits = [section.local[tile] for tile in _places(manifest, view.name)]
        columns = (("q", "d"), ("shrinkage", ".4f"), ("shared", ".4f"))
        values = [_range([getattr(fit, name) for fit in fits], digits) for name, digits in columns]
        rows.append((view.name, *values))
    return f"<h3>Positions</h3>{table(head, rows)}" if rows else ""


def _places(manifest: Manifest, view: str) -> list[int]:
    """Where a view's tiles are among all."""
    return [place for place, tile in enumerate(manifest.tiles) if tile.view.name == view]


def _range(values: Sequence[float], digits: str) -> str:
    """Of one tile the value, of several the lowest and the highest."""
    low, high = format(min(values), digits), format(max(values), digits)
    return low if low == high else f"{low} to {high}"


def _identity(manifest: Manifest, key: str, section: Section) -> str:
    identity, rule = section.identity, manifest.preprocess
    cameras = "; ".join(
        f"{name}: {camera.pixel_rule}, {camera.channels} channel(s), "
        + (f"{camera.width} x {camera.height} px" if camera.frame_size == "fixed" else "any size")
        for name, camera in rule.cameras.items()
    )
    rows = [
        ("Backbone sha256", manifest.backbone.sha256),
        ("Calibration set sha256", manifest.calibration_set.sha256),
        ("Engine", f"{key}: {identity.text}"),
        ("Preprocess", f"{rule.rule} to {rule.width} x {rule.height}"),
        ("Cameras", cameras),
        *((f"Placing {name}", text) for name, text in jitter_texts(manifest)),
        *((f"View {name}", text) for name, text in view_texts(manifest)),
        *((f"Zone {name}", text) for name, text in zone_texts(manifest)),
        ("edge_ad", manifest.edge_ad),
    ]
    return '<div class="identity">' + table(["", ""], rows, numbers_from=2) + "</div>"
