"""Whether a frame can be a picture of a part at all: not if it is dark, saturated, or the one before.

What a camera sends after its light failed or its driver hung has the right size and format; it is FAULT
before anything is judged by it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_ad.capture.source import uri_scheme
from edge_ad.config import Camera
from edge_ad.frame import Frame, Image
from edge_ad.verdict import Reason

_GRID = 64  # rows and columns that are looked at
_NEARLY_ALL = 0.99
# Of a scene that stands still a video encoder sends what decodes to the same picture.
_ENCODED = ("rtsp", "rtsps")


class Plausible:
    """Looks at one camera's frames in their order, in its capture thread. 15 to 30 us for each, besides
    those that repeat the one before, which are compared as a whole.

    `frozen`: so many repetitions are FAULT, and all that follow; 0: they are not looked for.
    """

    def __init__(self, dark: int, bright: int, frozen: int) -> None:
        self._dark = dark
        self._bright = bright
        self._frozen = frozen
        self._last: Image | None = None
        self._thin: Image | None = None  # of the last one, what is looked at
        self._repeated = 0

    def check(self, frame: Frame) -> Frame:
        """The frame, with a fault if it is none of a part."""
        image = frame.image
        if image is None or frame.fault or not image.size:
            return frame
        reason, detail = self._doubt(image)
        if reason is Reason.NONE:
            return frame
        return replace(frame, fault=reason.value, detail=f"camera {frame.camera}: {detail}")

    def _doubt(self, image: Image) -> tuple[Reason, str]:
        rows, columns = image.shape[:2]
        thin = image[:: max(1, rows // _GRID), :: max(1, columns // _GRID)]
        repeated = self._repeats(image, thin) if self._frozen else 0
        enough = _NEARLY_ALL * thin.size  # what is clipped repeats itself
        if np.count_nonzero(thin < self._dark) >= enough:
            return (
                Reason.DARK,
                f"99 % of it is below grey value {self._dark}: look at light, lens cap and exposure, or "
                "set camera.dark lower",
            )
        if np.count_nonzero(thin > self._bright) >= enough:
            return (
                Reason.SATURATED,
                f"99 % of it is above grey value {self._bright}: look at exposure and gain, or set "
                "camera.bright higher",
            )
        if self._frozen and repeated >= self._frozen:
            return (
                Reason.FROZEN,
                f"{repeated} times the picture of before, bit for bit; start the camera again, or "
                "set camera.frozen = 0 if its scene is without any noise",
            )
        return Reason.NONE, ""

    def _repeats(self, image: Image, thin: Image) -> int:
        last, before = self._last, self._thin
        same = (
            last is not None
            and last.shape == image.shape
            and np.array_equal(thin, before)  # type: ignore[arg-type]
            and np.array_equal(image, last)
        )
        self._repeated = self._repeated + 1 if same else 0
        self._last, self._thin = image, thin
        return self._repeated


def make_plausible(camera: Camera, live: bool) -> Plausible:
    """As the station file says; `live`: the source is a camera, no file."""
    frozen = camera.frozen
    if frozen == "auto":
        encoded = uri_scheme(camera) in _ENCODED or "rtspsrc" in camera.uri
        frozen = 1 if (live or camera.industrial) and not encoded else 0
    return Plausible(camera.dark, camera.bright, frozen)
