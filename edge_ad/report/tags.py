"""Names on a picture: each near what it names, none over another as long as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2

from edge_ad.frame import Image
from edge_ad.preprocess import Roi

Colour = tuple[int, int, int]
Side = Literal["top left", "top right", "bottom left", "bottom right", "above", "below", "middle"]
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.43  # of a picture of 640 x 480: letters are 9 px high
INK: Colour = (20, 20, 20)


class Tags:
    """Collects the names of a picture of this shape (rows, columns, ...) and draws them last, over
    everything else. `scale` is how much larger than one of 640 x 480 it is."""

    def __init__(self, shape: Sequence[int], scale: float) -> None:
        self._shape = shape
        self._scale = scale
        self._placed: list[tuple[Roi, str, Colour]] = []

    def add(self, text: str, colour: Colour, box: Roi, sides: Sequence[Side]) -> None:
        """Name what lies in `box`: on the first of `sides` where the name fits and covers no other, else
        further down from the first, else over another one."""
        width, height = self._size(text)
        spots = [self._spot(box, side, width, height) for side in sides]
        first = spots[0]
        spots += [(first[0], first[1] + k * height) for k in range(1, 12)]
        free = [(x, y) for x, y in spots if self._free((x, y, width, height))]
        x, y = free[0] if free else self._inside(first, width, height)
        self._placed.append(((x, y, width, height), text, colour))

    def draw(self, picture: Image) -> None:
        """Draw all names onto the picture (uint8, H x W x 3 BGR)."""
        pad, thick = self._pad, max(1, round(1.1 * self._scale))
        for (x, y, width, height), text, colour in self._placed:
            cv2.rectangle(picture, (x, y), (x + width - 1, y + height - 1), colour, cv2.FILLED)
            cv2.rectangle(picture, (x, y), (x + width - 1, y + height - 1), INK, max(1, thick // 2))
            below = self._letters(text)[1]
            start = (x + pad, y + height - pad - below)
            cv2.putText(picture, text, start, FONT, self._font, INK, thick, cv2.LINE_AA)

    @property
    def _pad(self) -> int:
        return max(2, round(3 * self._scale))

    @property
    def _font(self) -> float:
        return FONT_SCALE * max(self._scale, 0.8)

    def _letters(self, text: str) -> tuple[tuple[int, int], int]:
        """Width and height above the base line, and depth below it."""
        (width, height), below = cv2.getTextSize(
            text, FONT, self._font, max(1, round(1.1 * self._scale))
        )
        return (width, height), below // 2

    def _size(self, text: str) -> tuple[int, int]:
        (width, height), below = self._letters(text)
        return width + 2 * self._pad, height + below + 2 * self._pad

    def _spot(self, box: Roi, side: Side, width: int, height: int) -> tuple[int, int]:
        """Where a name of this size begins."""
        x, y, wide, high = box
        if side in ("above", "below", "middle"):
            gap = self._pad
            top = {
                "above": y - height - gap,
                "below": y + high + gap,
                "middle": y + (high - height) // 2,
            }
            left = x + (wide - width) // 2
            return max(0, min(left, self._shape[1] - width)), top[side]
        return (
            x if side.endswith("left") else x + wide - width,
            y if side.startswith("top") else y + high - height,
        )

    def _free(self, box: Roi) -> bool:
        x, y, width, height = box
        inside = x >= 0 and y >= 0 and x + width <= self._shape[1] and y + height <= self._shape[0]
        return inside and all(
            x + width <= a or a + c <= x or y + height <= b or b + d <= y
            for (a, b, c, d), _, _ in self._placed
        )

    def _inside(self, spot: tuple[int, int], width: int, height: int) -> tuple[int, int]:
        return (
            max(0, min(spot[0], self._shape[1] - width)),
            max(0, min(spot[1], self._shape[0] - height)),
        )
