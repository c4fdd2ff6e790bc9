"""Whether a free-running camera's frame is the first of a part, by the grey of a region."""

from __future__ import annotations

from collections import deque

from edge_ad.config import Present
from edge_ad.frame import Image

_MOST_SAMPLES = 64  # along each side of the region


class Presence:
    """A part is the `delay_frames`-th frame after the rule became true; not before the grey was back by
    `hysteresis` may the next one be. Not thread safe."""

    def __init__(self, rule: Present) -> None:
        self._sign = 1.0 if rule.side == "above" else -1.0
        self._level = self._sign * rule.grey
        self._hysteresis = rule.hysteresis
        self._delay = rule.delay_frames
        x, y, width, height = rule.roi
        rows = slice(y, y + height, max(1, height // _MOST_SAMPLES))
        self._region = (rows, slice(x, x + width, max(1, width // _MOST_SAMPLES)))
        self._there = True  # what lies there at the start has not just come
        self._frame = 0
        self._due: deque[int] = deque()  # frames that parts are in

    def begins(self, image: Image) -> bool:
        """Whether the part is in this frame, H x W or H x W x 3."""
        region = image[self._region]
        grey = self._sign * float(region.mean()) if region.size else self._level - self._hysteresis - 1
        if self._there:
            self._there = grey > self._level - self._hysteresis
        elif grey > self._level:
            self._there = True
            self._due.append(self._frame + self._delay)
        begins = bool(self._due) and self._due[0] == self._frame
        if begins:
            self._due.popleft()
        self._frame += 1
        return begins
