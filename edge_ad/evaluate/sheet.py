"""The contact sheet: parts as pictures, with their anomaly maps and the masks' outlines."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.images import printable, read_image
from edge_ad.capture.pixels import PixelRule
from edge_ad.config import MAX_MEGAPIXELS
from edge_ad.evaluate.masks import Masks, read_mask
from edge_ad.evaluate.scoring import Group, Measured
from edge_ad.frame import Image
from edge_ad.report.pictures import heat_overlay, jpeg_uri, shrink

OUTLINE = (255, 210, 40)  # BGR: light blue, which the map's colours never are
HOTTEST = 0.99  # share of good parts that have no cell of the hottest colour
ENLARGE_TO = 240  # px of the longer side that a small image is enlarged to

Shown = tuple[str, Group, int]  # kind, its group, the part's position there


def contact_sheet(
    m: Measured, masks: Masks | None, threshold: float, rule: PixelRule, most: int
) -> list[tuple[str, str]]:
    """Titles and their cards: missed defects, worst first; found ones that were least certain; the good
    parts with the highest scores. At most `most` cards of misses, and half as many of each other."""
    parts = [(kind, group, i) for kind, group in m.bad.items() for i in range(len(group.paths))]
    parts.sort(key=_score)
    missed = [part for part in parts if _score(part) <= threshold]
    found = parts[len(missed) :]
    good: list[Shown] = [("good", m.good, i) for i in range(len(m.good.paths))]
    good.sort(key=_score, reverse=True)
    hottest = hottest_of(m.good)
    sheets = [
        (f"Missed defects, worst first: {_of(missed, most)}", missed[:most]),
        (f"Found, but least certain: {_of(found, most // 2)}", found[: most // 2]),
        (f"Good parts with the highest scores: {_of(good, most // 2)}", good[: most // 2]),
    ]
    return [
        (title, "".join(_card(part, masks, threshold, hottest, rule) for part in shown))
        for title, shown in sheets
        if shown
    ]


def hottest_of(good: Group) -> float:
    """Where the map's colours end: what 99 % of the good test parts stay below everywhere. Threshold and
    map need not have the same unit, and pictures of one evaluation can be compared."""
    if good.scored.maps is None:
        return 1.0
    highest = good.scored.maps.reshape(len(good.paths), -1).max(axis=1)
    return max(float(np.quantile(highest, HOTTEST)), float(np.finfo(np.float32).tiny))


def outline(mask: NDArray[np.bool_], image: Image) -> Image:
    """`image` (uint8 [h, w, 3]) with the outline of `mask` (bool [H, W], of any size) drawn on it."""
    height, width = image.shape[:2]
    small = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    contours, _ = cv2.findContours(small.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(image.copy(), contours, -1, OUTLINE, 1), np.uint8)


def _card(part: Shown, masks: Masks | None, threshold: float, hottest: float, rule: PixelRule) -> str:
    kind, group, i = part
    path = group.paths[i]
    image = _enlarged(shrink(read_image(path, rule, int(MAX_MEGAPIXELS * 1e6))))
    plain: Image = image if image.ndim == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    pictures = [plain]
    if group.scored.maps is not None:
        pictures.append(heat_overlay(image, group.scored.maps[i], hottest))
    if masks is not None and path in masks.files:
        mask = read_mask(masks.files[path])
        pictures = [outline(mask, picture) for picture in pictures]
    tags = "".join(f'<img src="{jpeg_uri(p)}" alt="{escape(_name(path))}">' for p in pictures)
    score = group.scores[i]
    above = " above" if score > threshold else ""
    share = f" · {100 * score / threshold:.0f} %" if threshold > 0 else ""
    return (
        f'<figure class="part{above}"><div class="frame">{tags}</div><figcaption><b>{escape(kind)}</b>'
        f"<span>{score:.4g}{share}</span>"
        f'<em title="{escape(printable(path))}">{escape(_name(path))}</em></figcaption></figure>'
    )


def _enlarged(image: Image) -> Image:
    """Small images at a size at which an outline of one pixel hides nothing."""
    factor = ENLARGE_TO / max(image.shape[:2])
    if factor <= 1:
        return image
    size = (round(image.shape[1] * factor), max(1, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _name(path: Path) -> str:
    return printable(Path(path.name))


def _score(part: Shown) -> float:
    return float(part[1].scores[part[2]])


def _of(parts: Sequence[Shown], most: int) -> str:
    return str(len(parts)) if len(parts) <= most else f"{most} of {len(parts)}"
