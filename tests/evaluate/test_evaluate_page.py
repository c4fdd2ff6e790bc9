"""The page: whole, self-contained, its curves the scores', its pictures showing the defects."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up_dataset import write_class

from edge_ad.evaluate.metrics import auroc
from edge_ad.evaluate.pixels import area_to
from edge_ad.evaluate.plots import roc_points
from edge_ad.evaluate.scoring import Group
from edge_ad.evaluate.sheet import OUTLINE, hottest_of, outline
from edge_ad.gaussian.view import Scored
from edge_ad.report.histogram import histogram_svg

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


@pytest.mark.parametrize(("profile", "pictures"), [("paper", 1), ("default", 2)])
def test_one_class_has_numbers_curves_and_pictures_and_fetches_nothing(
    run: Run, tmp_path: Path, profile: str, pictures: int
) -> None:
    root = write_class(tmp_path / "<plates>", train=40, good=10, masks=True)
    code, _, _ = run(root, "--profile", profile, "--baselines", "--html", tmp_path / "out.html")
    assert code == 0
    text, tags = page_of(tmp_path / "out.html")
    assert "<plates>" not in text and "&lt;plates&gt;" in text
    for word in ("Image AUROC", "Detected at 1&nbsp;%", "scratch", "Pictures", "one-class SVM", "NPCA"):
        assert word in text
    assert "Level level4" in text and "<polyline" in text
    assert "Good parts with the highest scores: 10" in text
    assert tags.sources and all(source.startswith("data:image/jpeg") for source in tags.sources)
    found = int(re.findall(r"least certain: (?:12 of )?(\d+)", text)[0])
    shown = 10 + (14 - found) + min(found, 12)
    assert len(re.findall(r'<figure class="part', text)) == shown
    assert len(tags.sources) == pictures * shown  # with a map, the picture is there once more below it
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


def test_two_histograms_that_reach_for_each_others_scores_have_one_axis() -> None:
    good, bad = [1.0, 2.0, 2.5], [2.0, 9.0]

    def axis(svg: str) -> list[str]:
        return re.findall(r'class="tick" x="([\d.]+)" y="\d+" text-anchor="middle">([\d.-]+)<', svg)

    first = histogram_svg(good, 3.0, "good", reach=bad)
    second = histogram_svg(bad, 3.0, "bad", reach=good)
    assert axis(first) == axis(second) != axis(histogram_svg(good, 3.0, "good"))


def test_the_hottest_colour_is_kept_for_what_good_parts_do_not_show() -> None:
    maps = np.zeros((200, 3, 3), np.float32)
    maps[:, 1, 1] = np.arange(200)
    scored = Scored(np.zeros(200), np.zeros((200, 1)), maps)
    parts = [Path(str(i)) for i in range(200)]
    group = Group(parts, [(3, 3)] * 200, np.zeros((200, 1), np.float32), scored, [], np.zeros(200))
    assert (maps.reshape(200, -1).max(axis=1) >= hottest_of(group)).sum() == 2
    assert hottest_of(replace(group, scored=replace(scored, maps=None))) == 1
    assert hottest_of(replace(group, scored=replace(scored, maps=-maps))) > 0
