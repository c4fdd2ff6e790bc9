from __future__ import annotations

import cv2
import numpy as np

from edge_ad.capture.parts import render_part
from edge_ad.capture.tune import Tuner, advice

PART = render_part(1, 0, 320, 240, 0.0)[0]


def test_sharpness_is_that_of_the_focus_and_not_of_the_light() -> None:
    tuner = Tuner()
    sharp = tuner.read(PART)
    assert sharp.sharpness == sharp.best > 0
    blurred = [tuner.read(cv2.GaussianBlur(PART, (0, 0), sigma)) for sigma in (0.7, 1.5, 3.0)]
    values = [sharp.sharpness, *(reading.sharpness for reading in blurred)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.5 * values[0]
    assert all(reading.best == sharp.best for reading in blurred)
    assert "turn the focus back" in advice(blurred[-1])
    dimmed = Tuner().read((PART * 0.6).astype(np.uint8))
    assert abs(dimmed.sharpness / sharp.sharpness - 1) < 0.1


def test_exposure_is_told_by_what_is_lost_at_its_ends() -> None:
    bright = PART.copy()
    bright[:120] = 255
    reading = Tuner().read(bright)
    assert reading.saturated > 0.49 and reading.black < 0.1 and "too bright" in advice(reading)
    dark = Tuner().read((PART * 0.05).astype(np.uint8))
    assert dark.mean < 20 and "too dark" in advice(dark)
    colour = cv2.cvtColor(PART, cv2.COLOR_GRAY2BGR)
    assert Tuner().read(colour).mean == Tuner().read(PART).mean


def test_flicker_is_the_lights_alone() -> None:
    tuner = Tuner()
    assert tuner.read(PART).flicker == 0
    for level in (1.0, 0.9, 1.0):
        reading = tuner.read((PART * level).astype(np.uint8))
    assert 0.07 < reading.flicker < 0.13 and "flickers" in advice(reading)


def test_only_the_region_counts() -> None:
    picture = np.zeros((40, 60), np.uint8)
    picture[10:20, 30:50] = 200
    reading = Tuner((30, 10, 20, 10)).read(picture)
    assert (reading.mean, reading.black, reading.sharpness) == (200.0, 0.0, 0.0)
    assert Tuner((100, 100, 5, 5)).read(picture).mean == 0.0
