"""Small pictures of parts, and anomaly maps laid over them."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.calibration_set import StoredFile, encode_image, read_frame
from edge_ad.errors import CaptureError
from edge_ad.frame import Image
from edge_ad.preprocess import Roi

SIDE = 360  # pixels of the longer side
QUALITY = 85
HEAT = 0.6  # how much of the picture the hottest colour covers


def thumbnail(directory: Path, stored: StoredFile, roi: Roi | None) -> str:
    """A kept frame, or its region, as a JPEG data URI; "" when the frame has been damaged since."""
    try:
        image = read_frame(directory, stored)
    except CaptureError:
        return ""
    return jpeg_uri(shrink(image, roi))


def shrink(image: Image, roi: Roi | None = None) -> Image:
    """The image (uint8, grey or BGR), or its region, with its longer side at most SIDE pixels."""
    if roi is not None:
        x, y, width, height = roi
        image = np.ascontiguousarray(image[y : y + height, x : x + width])
    scale = SIDE / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image


def heat_overlay(image: Image, anomaly: NDArray[np.float32], limit: float) -> Image:
    """The image (uint8, grey or BGR) as BGR under its anomaly map [rows, columns].

    The colour says how near a cell comes to `limit`, in the map's unit: clear at 0, hottest at `limit`
    and above, so that two overlays with one limit can be compared.
    """
    height, width = image.shape[:2]
    base = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    share = np.clip(np.nan_to_num(anomaly, nan=limit, posinf=limit) / limit, 0, 1).astype(np.float32)
    share = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(np.rint(255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = HEAT * share
    # In one pass: with arrays of the frame's size in between it takes five times as long.
    return np.asarray(cv2.blendLinear(colours, base, alpha, 1 - alpha), np.uint8)


def jpeg_uri(image: Image) -> str:
    """The image as a JPEG data URI."""
    data = encode_image(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
