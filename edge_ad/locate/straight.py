"""A frame laid straight by a matrix. One place for it: a kernel computes the same, bit by bit."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.frame import Image


def lay_straight(image: Image, move: NDArray[np.float64], out: Image) -> None:
    """Write a frame into `out` (of its shape) so that what `move` [2, 3] takes to a place of the frame
    comes from there, bilinear. What came from outside of the frame repeats its edge."""
    cv2.warpAffine(
        image,
        move,
        image.shape[1::-1],
        dst=out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
