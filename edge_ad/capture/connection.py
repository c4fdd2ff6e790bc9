"""An open industrial camera, whatever library holds it, and its frames in that library's memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.features import Features
from edge_ad.capture.pixels import Raw, pixel_rule
from edge_ad.errors import CaptureError

# PFNC's numbers of the formats of the configuration.
_CODES = {
    0x01080001: "mono8", 0x01100003: "mono10", 0x01100005: "mono12", 0x01100007: "mono16",
    0x01080008: "bayergr8", 0x01080009: "bayerrg8", 0x0108000A: "bayergb8", 0x0108000B: "bayerbg8",
    0x02180014: "rgb8", 0x02180015: "bgr8", 0x0210001F: "yuv422_uyvy", 0x02100032: "yuv422_yuyv",
    0x0210003B: "yuv422_yuyv",
}  # fmt: skip
_AUTO = ("mono8", "bgr8")  # what may be taken as it comes
BUSY = "another program has this camera; end that program first (a running daemon has it too)"
_NOTHING = np.empty(0, np.uint8)


@dataclass(slots=True)
class Picture:
    """A frame in the memory of its library, until `release`."""

    data: NDArray[np.uint8]  # flat; nothing of a frame that is damaged
    width: int
    height: int
    stride: int  # bytes from row to row; 0: as many as the format needs
    pfnc: int  # pixel format
    counter: int | None  # block or frame id
    ticks: int | None  # of the camera's clock
    skipped: int  # frames that the library dropped for this newer one
    damaged: str  # what is wrong with it, or ""
    give_back: Callable[[], None]

    def release(self) -> None:
        """Give the memory back."""
        self.data = _NOTHING
        self.give_back()


class Connection(Protocol):
    """An open camera. All but `trigger` and `features` belong to one thread at a time. Every call raises
    CaptureError when the camera is lost."""

    tick_ns: float  # of its clock; 0: it has none
    address: str  # IP, of a camera on the network; else ""

    @property
    def features(self) -> Features:
        """Its features, which may be asked by any thread."""

    def start(self, buffers: int, newest: int) -> None:
        """Begin to receive into so many buffers. `newest`: how many frames to keep for a reader that
        falls behind, 0: all of them."""

    def pull(self, timeout_s: float) -> Picture | None:
        """The next frame; None where there is none in time."""

    def trigger(self, timeout_s: float) -> None:
        """Take a frame now, or as soon as the camera can within that time."""

    def problem(self) -> str:
        """Why nothing more will come, or ""."""

    def close(self, answers: bool = True) -> None:
        """Let go of the camera, which may have gone silent. Raises nothing."""


def raster(picture: Picture, declared: str) -> Raw:
    """The samples as rows x columns, in the library's memory. Raises CaptureError where the camera sends
    another format than is declared."""
    sent = _CODES.get(picture.pfnc, f"PFNC {picture.pfnc:#010x}")
    if sent != declared and not (declared == "auto" and sent in _AUTO):
        remedy = f"set pixel_format = {sent!r}" if sent in _CODES.values() else "set pixel_format"
        raise CaptureError(f"the camera sends {sent}, pixel_format is {declared!r}; {remedy}")
    rule = pixel_rule(sent)
    row = picture.width * rule.channels * np.dtype(rule.sample).itemsize
    data, height = picture.data, picture.height
    if picture.stride > row and data.size >= picture.stride * height:
        rows = data[: picture.stride * height].reshape(height, picture.stride)
        data = np.ascontiguousarray(rows[:, :row]).reshape(-1)
    return rule.raster(data, picture.width, height)
