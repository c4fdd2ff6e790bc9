"""Rendered parts in MVTec layout, with masks if wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

KINDS = ("scratch", "stain")


def size_of(seed: int) -> tuple[int, int]:
    """Rows and columns: of any size, as real tiles are."""
    rng = np.random.default_rng(seed)
    return int(rng.integers(70, 110)), int(rng.integers(70, 110))


def draw(image: Any, defect: str, colour: int) -> Any:
    """Draw a defect of this kind."""
    height, width = image.shape
    if defect == "scratch":
        cv2.line(image, (5, 8), (width - 9, height - 6), colour, 2)
    elif defect == "stain":
        cv2.circle(image, (width // 2, height // 2), 14, colour, -1)
    return image


def picture(seed: int, defect: str = "") -> Any:
    """A grey part with texture."""
    height, width = size_of(seed)
    rng = np.random.default_rng(seed)
    rng.integers(70, 110, 2)
    image = np.clip(120 + rng.normal(0, 8, (height, width)) + rng.normal(0, 4), 0, 255).astype(np.uint8)
    image = np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8)
    return draw(image, defect, 255 if defect == "scratch" else 40)


def write_class(root: Path, train: int = 60, good: int = 20, masks: bool = False) -> Path:
    """8 scratches and 6 stains beside good parts."""
    for folder, count, defect, seed in (
        ("train/good", train, "", 0),
        ("test/good", good, "", 1000),
        ("test/scratch", 8, "scratch", 2000),
        ("test/stain", 6, "stain", 3000),
    ):
        (root / folder).mkdir(parents=True)
        if masks and defect:
            (root / "ground_truth" / defect).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(root / folder / f"{i:03}.png"), picture(seed + i, defect))
            if masks and defect:
                mask = draw(np.zeros(size_of(seed + i), np.uint8), defect, 255)
                cv2.imwrite(str(root / "ground_truth" / defect / f"{i:03}_mask.png"), mask)
    return root
