"""An example of each defect as a PNG file: the place before, and to its right with the defect."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge_ad.calibration_set import encode_frame
from edge_ad.frame import Image
from edge_ad.resolution.trials import Altered

CROP = 64  # camera pixels that are shown at least, so that a small defect has surroundings
SIDE = 320  # pixels of a smaller crop's side in the file, about: each camera pixel is a square
GAP = 6  # white pixels between the two


class Examples:
    """Writes into a directory, KIND-SIZEpx.png, over what is there. Raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def __call__(self, kind: str, size: float, before: Image, altered: Altered) -> None:
        """Write one."""
        picture = beside(before, altered)
        (self._directory / f"{kind}-{size:g}px.png").write_bytes(encode_frame(picture))


def beside(before: Image, altered: Altered) -> Image:
    """The surroundings of the defect, before and after."""
    x, y, width, height = altered.spot
    side = max(CROP, 2 * max(width, height))
    left, top = max(0, x + width // 2 - side // 2), max(0, y + height // 2 - side // 2)
    zoom = max(1, SIDE // side)
    pair = [
        cv2.resize(
            image[top : top + side, left : left + side], None, fx=zoom, fy=zoom,
            interpolation=cv2.INTER_NEAREST,
        )
        for image in (before, altered.images[altered.camera])
    ]  # fmt: skip
    gap = np.full((pair[0].shape[0], GAP, *pair[0].shape[2:]), 255, np.uint8)
    return np.concatenate([pair[0], gap, pair[1]], axis=1)
