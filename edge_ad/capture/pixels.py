"""Pixel formats: what a camera's memory means, as one named rule each. The name goes into the bundle.

Names follow the GenICam PFNC: BayerRG8 has red at (0, 0). OpenCV names the same mosaic after its second
row ("BayerBG"), so its RGGB-style aliases are used here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.config import PixelFormat
from edge_ad.errors import CaptureError, ConfigError
from edge_ad.frame import Image

Raw = NDArray[np.uint8] | NDArray[np.uint16]
FORMATS: tuple[str, ...] = get_args(PixelFormat)

_BAYER = {
    "bayerrg8": cv2.COLOR_BayerRGGB2BGR,
    "bayergr8": cv2.COLOR_BayerGRBG2BGR,
    "bayergb8": cv2.COLOR_BayerGBRG2BGR,
    "bayerbg8": cv2.COLOR_BayerBGGR2BGR,
}
_YUV = {"yuv422_yuyv": cv2.COLOR_YUV2BGR_YUYV, "yuv422_uyvy": cv2.COLOR_YUV2BGR_UYVY}


@dataclass(frozen=True, slots=True)
class PixelRule:
    """One way from raw samples to an image.

    `convert` takes rows x columns [x channels] of uint8 or uint16 and returns uint8, H x W grey or
    H x W x 3 BGR; it raises CaptureError when the samples are not what the format says.
    `sample` and `channels` describe one raw pixel in memory; channels 0: whatever the decoder delivers.
    """

    name: str
    convert: Callable[[Any], Image]
    sample: str = "uint8"
    channels: int = 0

    def raster(self, raw: Raw, width: int, height: int) -> Raw:
        """A driver's buffer, which may be a flat run of bytes, as height x width [x channels]."""
        if self.channels == 0 or (raw.ndim > 1 and 1 not in raw.shape[:2]):
            return raw
        data = np.ascontiguousarray(raw).reshape(-1).view(np.uint8)
        pixel = np.dtype(self.sample).itemsize * self.channels
        if data.size < width * height * pixel:
            raise CaptureError(
                f"the camera delivered {data.size} bytes where {self.name} at {width} x {height} needs "
                f"{width * height * pixel}; set pixel_format to what the camera sends"
            )
        samples = data[: width * height * pixel].view(self.sample)
        shape = (height, width) if self.channels == 1 else (height, width, self.channels)
        return cast(Raw, samples.reshape(shape))


def pixel_rule(pixel_format: str, bit_depth: int = 0) -> PixelRule:
    """The rule of a format of the configuration. `bit_depth`: significant bits of mono10/12/16, 0 for
    the format's own number. Raises ConfigError for an unknown format or an impossible depth."""
    if pixel_format not in FORMATS:
        raise ConfigError(f"pixel_format: unknown {pixel_format!r}; have {', '.join(FORMATS)}")
    if pixel_format in ("mono10", "mono12", "mono16"):
        return _deep(pixel_format, bit_depth)
    if bit_depth not in (0, 8):
        raise ConfigError(
            f"bit_depth: {bit_depth} does not go with pixel_format {pixel_format!r}; "
            "declare mono10, mono12 or mono16"
        )
    if pixel_format == "auto":
        return PixelRule("auto8", _auto)
    if pixel_format == "mono8":
        return PixelRule("mono8", _mono, channels=1)
    if pixel_format in _BAYER:
        code = _BAYER[pixel_format]
        return PixelRule(
            f"{pixel_format}-bilinear", lambda raw: _bayer(raw, pixel_format, code), channels=1
        )
    if pixel_format in _YUV:
        order = _YUV[pixel_format]
        return PixelRule(f"{pixel_format}-bt601", lambda raw: _yuv(raw, pixel_format, order), channels=2)
    if pixel_format == "rgb8":
        return PixelRule("rgb8", lambda raw: _cv(_colour(raw, "rgb8"), cv2.COLOR_RGB2BGR), channels=3)
    return PixelRule("bgr8", lambda raw: _colour(raw, "bgr8"), channels=3)


def file_rule(pixel_format: str, bit_depth: int = 0) -> PixelRule:
    """The rule of a format for picture files: they hold the camera's samples, or a picture that was
    converted before, as `camera grab` writes it; the two differ in depth or channels. ConfigError as in
    `pixel_rule`."""
    rule = pixel_rule(decoded_format(pixel_format), bit_depth)
    if pixel_format in ("mono10", "mono12", "mono16"):
        return replace(rule, convert=lambda raw: raw if _is_grey(raw) else rule.convert(raw))
    if pixel_format in _BAYER or pixel_format in _YUV:
        return replace(rule, convert=lambda raw: raw if _is_colour(raw) else rule.convert(raw))
    return rule


def decoded_format(pixel_format: str) -> str:
    """The format as decoders of files and streams deliver it: BGR, whatever the order was before."""
    return "bgr8" if pixel_format == "rgb8" else pixel_format


def _deep(pixel_format: str, bit_depth: int) -> PixelRule:
    """Mono samples of more than 8 bits: the `depth - 8` lowest bits are dropped."""
    container = int(pixel_format.removeprefix("mono"))
    depth = bit_depth or container
    if not 8 <= depth <= container:
        raise ConfigError(
            f"bit_depth: {bit_depth} does not fit {pixel_format!r}; expected 8 to {container}"
        )

    def convert(raw: Raw) -> Image:
        raw = _flat(raw, pixel_format)
        if raw.dtype != np.uint16:
            raise _unlike(raw, pixel_format, "16-bit samples")
        if raw.size and int(raw.max()) >> depth:
            raise CaptureError(
                f"a sample of {int(raw.max())} does not fit the declared {depth} bits; "
                "set bit_depth to the camera's significant bits"
            )
        return (raw >> (depth - 8)).astype(np.uint8)

    return PixelRule(f"{pixel_format}>>{depth - 8}", convert, sample="uint16", channels=1)


def _auto(raw: Raw) -> Image:
    """8-bit grey or BGR as decoded."""
    raw = _squeeze(raw)
    if raw.dtype != np.uint8:
        raise CaptureError(
            f"samples are {raw.dtype}, and how many bits count is not declared; "
            "set pixel_format to mono10, mono12 or mono16"
        )
    if raw.ndim == 3 and raw.shape[2] == 4:
        raise CaptureError("the image has an alpha channel (RGBA); save it without transparency")
    if raw.ndim != 2 and not (raw.ndim == 3 and raw.shape[2] == 3):
        raise _unlike(raw, "auto", "one or three channels")
    return cast(Image, raw)


def _mono(raw: Raw) -> Image:
    """Grey as is; the BGR that video decoders deliver for grey cameras becomes grey again."""
    raw = _squeeze(raw)
    if raw.dtype == np.uint8 and raw.ndim == 3 and raw.shape[2] == 3:
        return _cv(raw, cv2.COLOR_BGR2GRAY)
    raw = _flat(raw, "mono8")
    if raw.dtype != np.uint8:
        raise _unlike(raw, "mono8", "8-bit samples")
    return cast(Image, raw)


def _bayer(raw: Raw, pixel_format: str, code: int) -> Image:
    raw = _flat(raw, pixel_format)
    if raw.dtype != np.uint8 or raw.shape[0] % 2 or raw.shape[1] % 2:
        raise _unlike(raw, pixel_format, "8-bit samples and even sides")
    return _cv(raw, code)


def _yuv(raw: Raw, pixel_format: str, code: int) -> Image:
    if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 2 or raw.shape[1] % 2:
        raise _unlike(raw, pixel_format, "two bytes per pixel and an even width")
    return _cv(raw, code)


def _colour(raw: Raw, pixel_format: str) -> Image:
    if not _is_colour(raw):
        raise _unlike(raw, pixel_format, "three 8-bit channels")
    return cast(Image, raw)


def _is_grey(raw: Raw) -> bool:
    return raw.dtype == np.uint8 and raw.ndim == 2


def _is_colour(raw: Raw) -> bool:
    return raw.dtype == np.uint8 and raw.ndim == 3 and raw.shape[2] == 3


def _cv(raw: Raw, code: int) -> Image:
    return cast(Image, cv2.cvtColor(raw, code))


def _squeeze(raw: Raw) -> Raw:
    return raw[:, :, 0] if raw.ndim == 3 and raw.shape[2] == 1 else raw


def _flat(raw: Raw, pixel_format: str) -> Raw:
    raw = _squeeze(raw)
    if raw.ndim != 2:
        raise _unlike(raw, pixel_format, "one channel")
    return raw


def _unlike(raw: Raw, pixel_format: str, expected: str) -> CaptureError:
    shape = " x ".join(str(n) for n in raw.shape)
    return CaptureError(
        f"pixel_format {pixel_format!r} expects {expected}, found {shape} {raw.dtype}; "
        "set pixel_format to what the camera sends"
    )
