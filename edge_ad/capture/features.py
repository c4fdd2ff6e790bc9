"""The features of an industrial camera (GenICam): set at every open, and read back.

A camera keeps what another program, a power cut or its own automatic functions made of it. So nothing
is taken for granted: what the station file says is written, and a camera that then says otherwise is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from edge_ad.config.genicam import FRAME_START, FeatureValue, Genicam
from edge_ad.errors import CaptureError

# Functions by which a camera alters its picture from part to part.
AUTOMATIC = (
    "ExposureAuto", "GainAuto", "BlackLevelAuto", "BalanceWhiteAuto", "FocusAuto",
)  # fmt: skip
OFF = "Off"
# Of a number that was set: cameras round to what their clocks and converters can do.
TOLERANCE = 0.01

# What cameras call the formats of the configuration; the first that a camera has is taken.
FORMATS: dict[str, tuple[str, ...]] = {
    "mono8": ("Mono8",), "mono10": ("Mono10",), "mono12": ("Mono12",), "mono16": ("Mono16",),
    "bayerrg8": ("BayerRG8",), "bayergr8": ("BayerGR8",), "bayergb8": ("BayerGB8",),
    "bayerbg8": ("BayerBG8",), "rgb8": ("RGB8", "RGB8Packed"), "bgr8": ("BGR8", "BGR8Packed"),
    "yuv422_yuyv": ("YUV422_8", "YUV422_YUYV_Packed", "YCbCr422_8"),
    "yuv422_uyvy": ("YUV422_8_UYVY", "YUV422Packed"),
}  # fmt: skip


class Features(Protocol):
    """The features of an open camera. Every call may talk to it, and raises CaptureError where it does
    not answer or refuses, naming the feature."""

    def has(self, name: str) -> bool:
        """Whether the feature exists and is available as the camera is set now."""

    def options(self, name: str) -> tuple[str, ...]:
        """What an enumeration may be set to; () where it does not exist."""

    def get(self, name: str) -> FeatureValue | None:
        """Its value; None of a command, which has none."""

    def set(self, name: str, value: FeatureValue) -> None:
        """Set it; a command is run."""


def configure(features: Features, settings: Genicam, pixel_format: str) -> None:
    """Set a camera, and read all of it back. Raises CaptureError for a feature that it does not have, a
    value that it refuses, or one that it does not keep."""
    plan = dict(_trigger(features, settings))
    if pixel_format != "auto":
        plan["PixelFormat"] = _format(features, pixel_format)
    plan |= {name: OFF for name in AUTOMATIC if features.has(name)}
    plan |= settings.features
    for key, value in plan.items():
        name = _select(features, key)
        if not features.has(name):
            raise CaptureError(f"it has no feature {name} as it is set; correct genicam.features")
        if features.get(name) == value:  # it may well be locked
            continue
        if isinstance(value, str) and (have := features.options(name)) and value not in have:
            raise CaptureError(f"{key} cannot be {value!r}; it has {', '.join(have)}")
        features.set(name, value)
    for key, value in plan.items():
        found = features.get(_select(features, key))
        if found is not None and not _same(value, found):
            raise CaptureError(
                f"{key} is {found!r} after it was set to {value!r}; set it to what the camera can do, "
                "or look which other feature or program alters it"
            )
    for name in automatic(features):  # that exist only as the camera is set now
        if name not in settings.features:
            features.set(name, OFF)
            if (found := features.get(name)) != OFF:
                raise CaptureError(f"{name} stays {found!r}; name it in genicam.features if it is to be")


def automatic(features: Features) -> list[str]:
    """The automatic functions that are on."""
    return [name for name in AUTOMATIC if features.has(name) and features.get(name) != OFF]


def _trigger(features: Features, settings: Genicam) -> Iterator[tuple[str, FeatureValue]]:
    """Every kind of trigger off but that of the frame, which is as it is to be."""
    if features.has("AcquisitionMode"):
        yield "AcquisitionMode", "Continuous"
    selectors = features.options("TriggerSelector")
    for selector in selectors:
        if selector != "FrameStart":
            features.set("TriggerSelector", selector)
            if features.has("TriggerMode") and features.get("TriggerMode") != OFF:
                yield f"TriggerMode[TriggerSelector={selector}]", OFF
    chosen = f"[{FRAME_START}]" if "FrameStart" in selectors else ""
    if not settings.trigger:
        if features.has("TriggerMode"):
            yield f"TriggerMode{chosen}", OFF
        return
    yield f"TriggerSource{chosen}", settings.trigger
    if not settings.asked and features.has("TriggerActivation"):
        yield f"TriggerActivation{chosen}", settings.activation
    yield f"TriggerMode{chosen}", "On"


def _format(features: Features, pixel_format: str) -> str:
    names, have = FORMATS[pixel_format], features.options("PixelFormat")
    for name in names:
        if name in have:
            return name
    raise CaptureError(
        f"it cannot send pixel_format {pixel_format!r} ({' or '.join(names)}); it has {', '.join(have)}"
    )


def _select(features: Features, key: str) -> str:
    """The feature's name, after its selectors were set."""
    name, _, selectors = key.rstrip("]").partition("[")
    for selector in filter(None, selectors.split(",")):
        which, _, value = selector.partition("=")
        features.set(which, value)
    return name


def _same(wanted: FeatureValue, found: FeatureValue) -> bool:
    if isinstance(wanted, float) or isinstance(found, float):
        if isinstance(wanted, str) or isinstance(found, str):
            return False
        return math.isclose(wanted, found, rel_tol=TOLERANCE, abs_tol=1e-6)
    return wanted == found
