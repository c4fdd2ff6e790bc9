"""The renderer's defects stay what they were, bit for bit; `insertion` has their shapes as well."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_ad.capture import defects
from edge_ad.capture.defects import DRAW
from edge_ad.capture.parts import part_defect, render_part
from edge_ad.frame import Image


def scratch(rng: np.random.Generator, image: Image, metal: Image, unit: float) -> None:
    """As it was first written, all in one."""
    x, y = defects._place(rng, metal)
    length = rng.uniform(80, 140) * unit
    angle = rng.uniform(0.3, np.pi - 0.3)
    t = np.linspace(-0.5, 0.5, 12)
    bend = rng.uniform(-10, 10) * unit * (t**2 * 4 - 0.5)
    xs = x + t * length * np.cos(angle) - bend * np.sin(angle)
    ys = y + t * length * np.sin(angle) + bend * np.cos(angle)
    line = np.stack([xs, ys], axis=1)
    thick = max(1, round(rng.uniform(2.4, 3.4) * unit))
    layers = []
    for points, grey in ((line, rng.integers(60, 90)), (line + thick, rng.integers(40, 60))):
        layer = np.zeros_like(image)
        fixed = np.round(points * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(layer, [fixed], False, int(grey), thick, cv2.LINE_AA, 4)
        layers.append(layer)
    cv2.subtract(image, layers[1], dst=image, mask=metal)
    cv2.add(image, layers[0], dst=image, mask=metal)


def stain(rng: np.random.Generator, image: Image, metal: Image, unit: float) -> None:
    """As it was first written, all in one."""
    radius = rng.uniform(20, 32) * unit
    window, dx, dy = defects._window(rng, image, metal, radius)
    phase = rng.uniform(0, 2 * np.pi, 2)
    angle = np.arctan2(dy, dx)
    rim = radius * (1 + 0.2 * np.sin(2 * angle + phase[0]) + 0.12 * np.sin(5 * angle + phase[1]))
    depth = rng.uniform(0.35, 0.5) / (1 + np.exp((np.hypot(dx, dy) - rim) / (1.5 * unit)))
    after = np.clip(image[window] * (1 - depth), 0, 255)
    image[window] = np.where(metal[window] > 0, after, image[window]).astype(np.uint8)


@pytest.mark.parametrize(("kind", "reference"), [("scratch", scratch), ("stain", stain)])
def test_the_same_picture_as_ever(
    kind: str, reference: defects.Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the first drawing and not beside a hash: OpenCV's filters round differently from version to
    version."""
    indices = [i for i in range(60) if part_defect(1, i, 1.0) == kind]
    assert len(indices) > 5
    now = [render_part(1, i, 640, 480, 1.0)[0] for i in indices]
    monkeypatch.setitem(DRAW, kind, reference)
    for i, image in zip(indices, now, strict=True):
        np.testing.assert_array_equal(image, render_part(1, i, 640, 480, 1.0)[0])
        assert (image != render_part(1, i, 640, 480, 0.0)[0]).any()
