"""The page: whole, self-contained, its curves the scores', its pictures showing the defects."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up_dataset import write_class

from edge_ad.evaluate.metrics import auroc
from edge_ad.evaluate.pixels import area_to
from edge_ad.evaluate.plots import roc_points
from edge_ad.evaluate.sheet import OUTLINE, outline

Run = Callable[..., tuple[int, str, str]]


class Tags(HTMLParser):
    """Every tag opened and not closed, and every source that a browser would fetch."""

    VOID = ("meta", "img", "br", "path", "rect", "line", "polyline", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page_of(path: Path) -> tuple[str, Tags]:
    text = path.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return text, tags


def test_one_class_has_numbers_curves_and_pictures_and_fetches_nothing(run: Run, tmp_path: Path) -> None:
    root = write_class(tmp_path / "<plates>", train=40, good=10, masks=True)
    code, _, _ = run(root, "--baselines", "--html", tmp_path / "out.html")
    assert code == 0
    text, tags = page_of(tmp_path / "out.html")
    assert "<plates>" not in text and "&lt;plates&gt;" in text
    for word in ("Image AUROC", "Detected at 1&nbsp;%", "scratch", "Pictures", "one-class SVM", "NPCA"):
        assert word in text
    assert "Level level4" in text and "<polyline" in text
    assert "Good parts with the highest scores: 10" in text
    assert tags.sources and all(source.startswith("data:image/jpeg") for source in tags.sources)
    pictures = len(re.findall(r'class="part', text)) - len(re.findall(r'class="parts', text))
    found = int(re.findall(r"least certain: (?:12 of )?(\d+)", text)[0])
    shown = 10 + (14 - found) + min(found, 12)
    assert pictures == len(tags.sources) == shown  # without a map, one picture of each part
    assert "<script" not in text


def test_several_classes_share_a_page(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_class(tmp_path / name, train=25, good=6)
    code, _, _ = run(tmp_path, "--html", tmp_path / "out.html")
    assert code == 0
    text, _ = page_of(tmp_path / "out.html")
    assert text.count("<h2>Defects</h2>") == 2
    assert "<h2>Classes</h2>" in text


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_the_curve_is_the_scores(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    good, bad = (rng.normal(size=70) + 3).round(decimals), (rng.normal(size=50) + 4).round(decimals)
    points = roc_points(good, bad)
    x, y = (np.array(values) for values in zip(*points, strict=True))
    assert points[0] == (0, 0) and points[-1] == (1, 1)
    assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    # Ties are straight slopes, so the area under the corners alone is AUROC.
    assert area_to(x, y, 1.0) == pytest.approx(auroc(good, bad))


def test_an_outline_goes_round_the_defect_and_covers_nothing_else() -> None:
    mask = np.zeros((400, 200), bool)
    mask[100:200, 40:100] = True
    image = np.full((100, 50, 3), 9, np.uint8)
    drawn = outline(mask, image)
    coloured = (drawn == OUTLINE).all(axis=2)
    rows, columns = np.nonzero(coloured)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 49, 10, 24)
    assert not coloured[26:49, 11:24].any()
    assert (image == 9).all()


def test_a_defect_smaller_than_a_pixel_of_the_picture_is_still_outlined() -> None:
    mask = np.zeros((1000, 1000), bool)
    mask[500:502, 500:502] = True
    assert (outline(mask, np.zeros((100, 100, 3), np.uint8)) == OUTLINE).all(axis=2).any()
