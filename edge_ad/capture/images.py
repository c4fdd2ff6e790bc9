"""Image files, read so that what cannot be trusted is refused: OpenCV alone decodes half a PNG or JPEG
with only a warning, and allocates whatever a header claims.

EXIF orientation is ignored on purpose: a camera on a line has one orientation, and calibration and
inspection must see the same pixels.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from edge_ad.capture.headers import ImageHeader, read_header
from edge_ad.capture.pixels import PixelRule
from edge_ad.errors import CaptureError
from edge_ad.frame import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

# No uncompressed pixel is larger (16-bit RGBA); the rest is room for metadata.
_BYTES_PER_PIXEL = 8
_METADATA_BYTES = 16 << 20


def read_image(path: Path, rule: PixelRule, max_pixels: int) -> Image:
    """The file's image, uint8, H x W grey or H x W x 3 BGR, converted by `rule`.

    Raises CaptureError, naming the file, when it is missing, empty, truncated, damaged, not an image,
    over `max_pixels` (checked in the header, before anything is decoded), has an alpha channel, or has
    more than 8 bits per sample without a declared depth.
    """
    where = printable(path)
    try:
        size = path.stat().st_size
        if size > max_pixels * _BYTES_PER_PIXEL + _METADATA_BYTES:
            raise CaptureError(
                f"{where}: {size / 1e6:.0f} MB is more than an image of the allowed "
                f"{max_pixels / 1e6:g} megapixels; raise max_megapixels"
            )
        data = path.read_bytes()
    except OSError as error:
        raise CaptureError(
            f"{where}: cannot read the image ({error.strerror}); check the path"
        ) from error
    if not data:
        raise CaptureError(f"{where}: the file is empty (zero bytes); remove it or take it again")
    try:
        header = read_header(data)
        _check(header, max_pixels)
        return rule.convert(_decode(data, header))
    except CaptureError as error:
        raise CaptureError(f"{where}: {error}") from error


def printable(path: Path) -> str:
    """A path as text that can be shown and kept: what is not UTF-8 in a name stands as `\\xff`."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def list_images(directory: Path) -> list[Path]:
    """Every image file under `directory`, at any depth, sorted by path. Raises CaptureError when the
    directory is missing or holds none."""
    where = printable(directory)
    if not directory.is_dir():
        raise CaptureError(f"{where}: no such directory; give a folder of images")
    found = sorted(p for p in directory.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not found:
        raise CaptureError(
            f"{where}: no images in the folder; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return found


def _check(header: ImageHeader, max_pixels: int) -> None:
    pixels = header.width * header.height
    if pixels > max_pixels:
        raise CaptureError(
            f"{header.width} x {header.height} is {pixels / 1e6:.1f} megapixels, over the limit of "
            f"{max_pixels / 1e6:g}; raise max_megapixels if this is what the camera sends"
        )
    if header.alpha:
        raise CaptureError("the image has an alpha channel (RGBA); save it without transparency")
    if not header.complete:
        raise CaptureError(
            f"the {header.kind} file is truncated or damaged; copy it again from its source"
        )


def _decode(data: bytes, header: ImageHeader) -> Image:
    try:
        # IMREAD_UNCHANGED keeps the bit depth and ignores the EXIF orientation.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        decoded = None
    if decoded is None or decoded.shape[:2] != (header.height, header.width):
        raise CaptureError(f"the {header.kind} file cannot be decoded; save it again as PNG")
    image: Image = decoded
    return image
