"""What a camera sends, and what the kernels have to make of it before a region can be resized."""

from __future__ import annotations

from dataclasses import dataclass

from edge_ad.capture.pixels import pixel_rule
from edge_ad.errors import ConfigError
from edge_ad.preprocess.cuda.layout import MOST_SIDE

SMALLEST_BAYER = 4  # px of a side; OpenCV leaves smaller ones black


@dataclass(frozen=True, slots=True)
class CameraPixels:
    """One camera's frames as its driver delivers them, rows without gaps: height x width of samples, or
    height x width x channels; samples of 8 bits, of mono10, mono12 and mono16 of 16 (little-endian).

    `pixel_format`, `bit_depth`: as in the configuration; "auto" where a frame was converted before, as
    all of the daemon's are: grey or BGR. `located`: its parts are laid straight.
    """

    name: str
    shape: tuple[int, ...]
    pixel_format: str = "auto"
    bit_depth: int = 0
    located: bool = False


@dataclass(frozen=True, slots=True)
class RawPixels:
    """format: of FORMATS in `layout`, "" where nothing has to be converted. size: bytes of a frame;
    channels: of the image, 1 or 3; flip: it is RGB; depth: bits of a sample that count."""

    format: str
    size: int
    channels: int
    flip: bool = False
    depth: int = 8


def raw_pixels(camera: CameraPixels) -> RawPixels:
    """What is to be done for a camera. Raises ConfigError for a shape that its format cannot have."""
    rule = pixel_rule(camera.pixel_format, camera.bit_depth)
    height, width, *rest = camera.shape
    channels = rest[0] if rest else 1
    pixels, name = height * width, camera.pixel_format
    if not (0 < height <= MOST_SIDE and 0 < width <= MOST_SIDE):
        raise _unlike(camera, f"sides of 1 to {MOST_SIDE} px")
    if name in ("mono10", "mono12", "mono16"):
        _expect(camera, channels == 1, "one channel")
        depth = camera.bit_depth or int(name.removeprefix("mono"))
        return RawPixels("deep", 2 * pixels, 1, depth=depth)
    if name.startswith("bayer"):
        even = height % 2 == width % 2 == 0 and min(height, width) >= SMALLEST_BAYER
        _expect(
            camera, channels == 1 and even, f"one channel, even sides of at least {SMALLEST_BAYER} px"
        )
        return RawPixels(name, pixels, 3)
    if name.startswith("yuv422"):
        _expect(camera, channels == 2 and width % 2 == 0, "two bytes per pixel and an even width")
        return RawPixels(name, 2 * pixels, 3)
    if rule.channels == 3:
        _expect(camera, channels == 3, "three channels")
        return RawPixels("", 3 * pixels, 3, flip=name == "rgb8")
    _expect(camera, channels in (1, 3), "one or three channels")
    if name == "mono8" and channels == 3:
        return RawPixels("grey_of_bgr", 3 * pixels, 1)
    return RawPixels("", channels * pixels, channels)


def _expect(camera: CameraPixels, right: bool, what: str) -> None:
    if not right:
        raise _unlike(camera, what)


def _unlike(camera: CameraPixels, what: str) -> ConfigError:
    shape = " x ".join(str(n) for n in camera.shape)
    return ConfigError(
        f"camera {camera.name}: pixel_format {camera.pixel_format!r} expects {what}, frames are "
        f"{shape}; set pixel_format to what the camera sends"
    )
