"""Pictures in a terminal: two grey pixels per character cell."""

from __future__ import annotations

import cv2
import numpy as np
from rich.text import Text

from edge_ad.capture.parts import plate
from edge_ad.frame import Image


def thumbnail(image: Image, columns: int) -> Text:
    """A grey image as text of `columns` characters per line, each showing two pixels."""
    rows = max(2, round(columns * image.shape[0] / image.shape[1] / 2) * 2)
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    text = Text(no_wrap=True)
    for y in range(0, rows, 2):
        for top, bottom in zip(small[y].tolist(), small[y + 1].tolist(), strict=True):
            text.append("▀", f"{_grey(top)} on {_grey(bottom)}")
        if y + 2 < rows:
            text.append("\n")
    return text


def close_up(seed: int, index: int, width: int, height: int, defect: str, zoom: float = 3.0) -> Image:
    """The surroundings of a rendered defect: where the part differs from itself without the defect."""
    line = plate(seed, width, height)
    image = line.render(index, defect)
    change = cv2.absdiff(image, line.render(index, "")).astype(np.float64) ** 2
    weight = change.sum() or 1.0
    reach_x, reach_y = int(width / zoom / 2), int(height / zoom / 2)
    x = int((change.sum(axis=0) @ np.arange(width)) / weight)
    y = int((change.sum(axis=1) @ np.arange(height)) / weight)
    x = min(max(x, reach_x), width - reach_x)
    y = min(max(y, reach_y), height - reach_y)
    return image[y - reach_y : y + reach_y, x - reach_x : x + reach_x]


def _grey(value: int) -> str:
    return f"#{value:02x}{value:02x}{value:02x}"
