"""Frame -> network input: region, resize, three channels. The only implementation, for calibration and
inspection alike; its rule's name is stored in the bundle.

Colours are not normalised here: the graph does that.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import ConfigError
from edge_ad.frame import Image

RULE = "halve-area-1"
"""The resize filter, antialiased at every scale and by that no defect falls between two samples:

1. While both sides stay at least as long as the target's: halve by the mean of 2 x 2 pixels,
   `(a + b + c + d + 2) >> 2`; an odd last row or column counts twice.
2. `cv2.resize` with INTER_AREA to the target: where the image was not larger than twice the target on
   both sides, this is all that happens.
3. Grey becomes three equal channels.
"""

Roi = tuple[int, int, int, int]


class Preprocessor:
    """Prepares frames for one input size. Owns its scratch memory: not thread safe, one per thread."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width
        self._scratch = [np.empty(0, np.uint8), np.empty(0, np.uint8)]

    def prepare(self, image: Image, roi: Roi | None, out: NDArray[np.uint8]) -> None:
        """Write `image` (uint8, H x W grey or H x W x 3 BGR), or its region `roi` (x, y, width, height),
        into `out` (uint8, height x width x 3, contiguous). After the first frame of a size nothing of an
        image's size is allocated. Raises ConfigError when the region does not lie inside the frame.
        """
        if roi is not None:
            image = _crop(image, roi)
        height, width = image.shape[:2]
        turn = 0
        while height >= 2 * self.height and width >= 2 * self.width:
            height, width = (height + 1) // 2, (width + 1) // 2
            half = self._view(turn, (height, width, *image.shape[2:]))
            halve(image, half)
            image = half
            turn = 1 - turn
        size = (self.width, self.height)
        if image.ndim == 3:
            cv2.resize(image, size, dst=out, interpolation=cv2.INTER_AREA)
            return
        small = self._view(turn, (self.height, self.width))
        cv2.resize(image, size, dst=small, interpolation=cv2.INTER_AREA)
        cv2.cvtColor(small, cv2.COLOR_GRAY2BGR, dst=out)

    def _view(self, turn: int, shape: tuple[int, ...]) -> Image:
        """Scratch memory of this shape; the two turns never overlap."""
        size = int(np.prod(shape))
        if self._scratch[turn].size < size:
            self._scratch[turn] = np.empty(size, np.uint8)
        return self._scratch[turn][:size].reshape(shape)


def halve(image: Image, out: Image) -> None:
    """Mean of 2 x 2 pixels, `(a + b + c + d + 2) >> 2`; an odd last row or column counts twice."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    # OpenCV's INTER_AREA at exactly one half is this integer formula, vectorised.
    even = image[: 2 * height, : 2 * width]
    cv2.resize(even, (width, height), dst=out[:height, :width], interpolation=cv2.INTER_AREA)
    if image.shape[1] % 2:
        column = image[: 2 * height, -1].astype(np.uint16)
        out[:height, -1] = (column[0::2] + column[1::2] + 1) >> 1
    if image.shape[0] % 2:
        row = image[-1, : 2 * width].astype(np.uint16)
        out[-1, :width] = (row[0::2] + row[1::2] + 1) >> 1
    if image.shape[0] % 2 and image.shape[1] % 2:
        out[-1, -1] = image[-1, -1]


def _crop(image: Image, roi: Roi) -> Image:
    x, y, width, height = roi
    if x < 0 or y < 0 or x + width > image.shape[1] or y + height > image.shape[0]:
        raise ConfigError(
            f"roi {list(roi)} (x, y, width, height) does not lie inside a frame of "
            f"{image.shape[1]} x {image.shape[0]} px; correct the view's roi"
        )
    return image[y : y + height, x : x + width]
