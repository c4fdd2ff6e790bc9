"""Zones drawn as a label image: a grey picture of the frame's size, each zone in a grey of its own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.headers import read_header
from edge_ad.errors import CaptureError, ConfigError
from edge_ad.zones.files import listed, read

EXTRA_BYTES = 16 << 20  # of metadata; no pixel has more than 8 bytes


def read_label(path: Path, label: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a grey value, bool [H, W].

    Raises ConfigError, without the file's name, for a file that cannot be read or decoded, that is not
    grey (8 or 16 bit) or not of the frame's `shape` (found in its header, before it is decoded), and for
    a value that no pixel has.
    """
    image = _read(path, shape)
    chosen = image == label
    if not chosen.any():
        have = listed(np.unique(image).tolist())
        raise ConfigError(f"no pixel has the label {label}; have {have}")
    return np.asarray(chosen)


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    height, width = shape
    data = read(path, 8 * height * width + EXTRA_BYTES, "check the path")
    try:
        header = read_header(data)
    except CaptureError as error:
        raise ConfigError(f"{error}") from error
    if (header.height, header.width) != shape:
        raise ConfigError(
            f"the label image is of {header.width} x {header.height} px, the camera's frame of {width} "
            f"x {height}; draw on a picture of 'edge-ad camera grab'"
        )
    if not header.complete:
        raise ConfigError(f"the {header.kind} file is truncated or damaged; save it again")
    return _decode(data, header.kind, shape)


def _decode(data: bytes, kind: str, shape: tuple[int, int]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != shape:
        raise ConfigError(f"the {kind} file cannot be decoded; save it again as PNG")
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        what = "of colours, or has a palette or an alpha channel" if image.ndim == 3 else image.dtype
        raise ConfigError(f"the label image is {what}; save it as grey of 8 or 16 bit")
    return image  # type: ignore[no-any-return]
