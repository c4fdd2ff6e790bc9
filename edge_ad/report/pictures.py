"""Small pictures of parts as data URIs."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from edge_ad.calibration_set import StoredFile, read_frame
from edge_ad.errors import CaptureError
from edge_ad.preprocess import Roi

SIDE = 360  # pixels of the longer side
QUALITY = 85


def thumbnail(directory: Path, stored: StoredFile, roi: Roi | None) -> str:
    """A kept frame, or its region, as a JPEG data URI; "" when the frame has been damaged since."""
    try:
        image = read_frame(directory, stored)
    except CaptureError:
        return ""
    if roi is not None:
        x, y, width, height = roi
        image = np.ascontiguousarray(image[y : y + height, x : x + width])
    scale = SIDE / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
