"""Chapters of the page that show parts: those separated from the rest, and the most unusual ones."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from edge_ad.bundle import Manifest, Section
from edge_ad.bundle.describe import as_good_text, declared_lines, suspects_text
from edge_ad.preprocess import tile_names
from edge_ad.preprocess.views import view_boxes
from edge_ad.report.layout import chapter
from edge_ad.report.pictures import thumbnail

if TYPE_CHECKING:  # pages are used by rooms that calibrate imports
    from edge_ad.calibrate.job import Score

MOST_UNUSUAL = 12
SUSPECTS_SHOWN = 60
DECLARED_SHOWN = 60


def unusual(manifest: Manifest, section: Section, scores: Sequence[Score], directory: Path) -> str:
    """The parts with the highest scores, to be looked at."""
    worst = sorted(scores, key=lambda score: -score.score)[:MOST_UNUSUAL]
    ratios = [score.score / section.threshold for score in worst]
    figures = [
        _figure(manifest, score, f"{score.score:.5g} · {100 * ratio:.0f} %", ratio > 1, directory)
        for score, ratio in zip(worst, ratios, strict=True)
    ]
    text = (
        "Look at each: a defect among the good parts widens the Gaussians and raises the threshold. "
        "Remove one "
        "with <code>edge-ad calibrate --drop ID --reason TEXT</code>; no new parts are needed. The "
        "second number is score / threshold."
    )
    return f'<p>{text}</p><div class="parts">{"".join(figures)}</div>'


def suspects_chapter(
    manifest: Manifest, section: Section, suspects: Sequence[Score], directory: Path
) -> str:
    """Parts that are separated from the rest, and the promise should the dropped ones have been good."""
    found = section.screening
    if found is None or not (suspects or found.dropped):
        return ""
    text = f"<p>{escape(suspects_text(found))}.</p>" if suspects else ""
    if found.as_good is not None:
        text += f'<p class="promise">{escape(as_good_text(found.dropped, found.as_good))}.</p>'
        text += "<p>The promise above counts them as bad: they were left out of the fit and of n.</p>"
    elif suspects:
        text += (
            "<p>Remove the defective ones with <code>edge-ad calibrate --drop IDS --reason TEXT</code>, "
            "or all with <code>edge-ad calibrate --refit --screen drop</code>.</p>"
        )
    shown = [
        _figure(
            manifest,
            one,
            f"{one.score:.5g} · gap {found.suspects[one.part.id].gap:.3g}",
            True,
            directory,
        )
        for one in suspects[:SUSPECTS_SHOWN]
    ]
    rest = [one.part.id for one in suspects[SUSPECTS_SHOWN:]]
    more = f"<p>And {escape(', '.join(rest))}.</p>" if rest else ""
    return chapter("Look at these first", f'{text}<div class="parts">{"".join(shown)}</div>{more}')


def declared_chapter(
    manifest: Manifest, section: Section, scores: Sequence[Score], directory: Path
) -> str:
    """Parts that were rejected once and declared good by a person: what the fit makes of each now."""
    if not section.declared:
        return ""
    found = [score for score in scores if score.part.id in section.declared]
    found.sort(key=lambda score: -section.declared[score.part.id].score)
    shown = []
    for one in found[:DECLARED_SHOWN]:
        now = section.declared[one.part.id]
        numbers = (
            f"{now.score:.5g} · {100 * now.score / section.threshold:.0f} %, "
            f"without it {100 * now.left_out / section.threshold:.0f} %"
        )
        shown.append(_figure(manifest, one, numbers, now.score > section.threshold, directory))
    text = "".join(f"<p>{escape(text)}.</p>" for _, text in declared_lines(section))
    more = f"<p>And {len(found) - len(shown)} more.</p>" if len(found) > len(shown) else ""
    body = f'{text}<div class="parts">{"".join(shown)}</div>{more}'
    return chapter("Parts declared good by a person", body)


def _figure(manifest: Manifest, score: Score, numbers: str, above: bool, directory: Path) -> str:
    """A part's picture with its id, numbers and source."""
    view = next(view for view in manifest.views if view.name == score.view)
    part = score.part
    stored = part.files[view.camera]
    uri = thumbnail(directory, stored, view_boxes(view, stored.shape)[score.place])
    picture = f'<img src="{uri}" alt="part {escape(part.id)}">' if uri else "<p>no picture</p>"
    name = tile_names(view.name, view.tiles)[score.place]
    where = f" · {escape(name)}" if len(manifest.tiles) > 1 else ""
    return (
        f'<figure class="part{" above" if above else ""}"><div class="frame">{picture}</div>'
        f"<figcaption><b>{escape(part.id)}</b><span>{escape(numbers)}</span>"
        f'<em title="{escape(part.source)}">{escape(part.source)}{where}</em></figcaption></figure>'
    )
