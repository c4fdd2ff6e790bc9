"""The misses as pictures: the view that decided, and beside it its anomaly map, where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle import Manifest
from edge_ad.bundle.qualification import MISSES
from edge_ad.calibration_set import encode_frame
from edge_ad.errors import CaptureError
from edge_ad.frame import Image
from edge_ad.preprocess import Roi
from edge_ad.qualify.judge import Reader
from edge_ad.qualify.measure import Miss
from edge_ad.report.pictures import heat_overlay, shrink

MOST = 60  # misses that are pictured
GAP = 6  # white pixels between a picture and its map


def picture_misses(
    misses: Sequence[Miss], manifest: Manifest, reader: Reader, threshold: float
) -> dict[str, tuple[str, Image]]:
    """By the source of a miss, the name of its file and the picture: those furthest from the threshold.

    Files are read again: to hold every missed part's frames in memory would take gigabytes.
    """
    views = {view.name: view for view in manifest.views}
    cameras = list(manifest.preprocess.cameras)
    furthest = sorted(misses, key=lambda miss: (miss.part.margin or 0.0, miss.part.source))[:MOST]
    pictures: dict[str, tuple[str, Image]] = {}
    for number, miss in enumerate(furthest, 1):
        view = views[miss.part.view]
        try:
            image = reader.read(miss.files)[cameras.index(view.camera)]
        except CaptureError:  # gone since it was judged
            continue
        picture = miss_picture(image, view.roi, miss.anomaly, threshold)
        pictures[miss.part.source] = (f"{MISSES}/{number:04d}.png", picture)
    return pictures


def miss_picture(
    image: Image, roi: Roi | None, anomaly: NDArray[np.float32] | None, threshold: float
) -> Image:
    """A view's region, small, and to its right the same under the anomaly map."""
    small = shrink(image, roi)
    if anomaly is None:
        return small
    left = small if small.ndim == 3 else cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
    gap = np.full((small.shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([left, gap, heat_overlay(small, anomaly, threshold)], axis=1)


def encoded(pictures: dict[str, tuple[str, Image]]) -> dict[str, bytes]:
    """The pictures as PNG files, by name."""
    return {name: encode_frame(image) for name, image in pictures.values()}
