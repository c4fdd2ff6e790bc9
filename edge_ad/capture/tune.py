"""What a person sees who focuses and exposes a camera: sharpness, brightness, saturation, flicker."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from edge_ad.frame import Image

FLICKER_FRAMES = 50  # that brightness is followed over
_DARK, _BRIGHT = 0, 255  # grey values in which nothing can be seen any more


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one picture. `sharpness` is the energy of the gradient by the brightness squared, so that light
    alone does not change it; `best` the largest so far. `flicker` is the range of the mean brightness of
    the last pictures by their mean: of parts that lie still, it is the light's."""

    sharpness: float
    best: float
    mean: float  # grey, 0 to 255
    saturated: float  # share of samples at 255
    black: float  # share of samples at 0
    flicker: float


class Tuner:
    """Reads off one picture after another. `roi`: x, y, width, height in frame pixels, None: all of it.
    Not thread safe."""

    def __init__(self, roi: tuple[int, int, int, int] | None = None) -> None:
        self._roi = roi
        self._best = 0.0
        self._means: deque[float] = deque(maxlen=FLICKER_FRAMES)

    def read(self, image: Image) -> Reading:
        """uint8, H x W grey or H x W x 3 BGR. An empty region reads as dark."""
        if self._roi is not None:
            x, y, width, height = self._roi
            image = image[y : y + height, x : x + width]
        if not image.size:
            return Reading(0.0, self._best, 0.0, 0.0, 0.0, 0.0)
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        mean = float(grey.mean())
        sharpness = _gradient_energy(grey) / max(mean, 1.0) ** 2
        self._best = max(self._best, sharpness)
        self._means.append(mean)
        middle = sum(self._means) / len(self._means)
        return Reading(
            sharpness=sharpness,
            best=self._best,
            mean=mean,
            saturated=float((image == _BRIGHT).mean()),
            black=float((image == _DARK).mean()),
            flicker=(max(self._means) - min(self._means)) / max(middle, 1.0),
        )


def _gradient_energy(grey: Image) -> float:
    """Mean square of the gradient (Tenengrad), grey values per pixel."""
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125)
    return float(np.mean(across * across) + np.mean(down * down))


def advice(reading: Reading) -> str:
    """What to do about it, "" where nothing stands out."""
    if reading.saturated > 0.01:
        return "too bright: shorten the exposure, or light it less"
    if reading.mean < 20:
        return "too dark: lengthen the exposure, or light it more"
    if reading.flicker > 0.05:
        return "flickers: use a light without mains ripple, or expose for whole periods of it"
    if reading.sharpness < 0.8 * reading.best:
        return "was sharper before: turn the focus back"
    return ""
