"""Replicates of a frame as a line might have shown it: lighter, moved, out of focus, noisier.

Small steps only: what is drawn here counts as good, so nothing that a person would call another part.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge_ad.frame import Image

GAIN = 0.1  # share that the brightness may rise or fall by
SHIFT = 0.01  # share of width and height that the part may move by
BLUR = 0.8  # largest sigma, pixels of the frame
NOISE = 2.0  # largest sigma, grey levels of 255


def replicate(image: Image, rng: np.random.Generator) -> Image:
    """An altered copy of `image`, uint8 H x W or H x W x 3."""
    height, width = image.shape[:2]
    gain = 1.0 + rng.uniform(-GAIN, GAIN)
    move = rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
    sigma, noise = rng.uniform(0, BLUR), rng.uniform(0, NOISE)
    matrix = np.array([[1.0, 0.0, move[0]], [0.0, 1.0, move[1]]])
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if sigma > 0.2:  # below that the kernel is a single pixel
        moved = cv2.GaussianBlur(moved, (0, 0), sigma)
    values = gain * moved.astype(np.float32) + noise * rng.standard_normal(moved.shape, np.float32)
    return np.asarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
