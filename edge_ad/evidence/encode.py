"""The pictures of a part that is kept, as files: in a process of its own, as long as that does it.

Encoding takes longer than judging. In the daemon, on two cores, it made good parts late that came behind
rejects; a process can give way entirely, which a thread cannot that has Python's lock at times.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from edge_ad.aside import Aside, ProcessGone, ProcessSilent
from edge_ad.calibration_set import encode_frame
from edge_ad.errors import DeviceError
from edge_ad.frame import Image
from edge_ad.locate.pose import Pose
from edge_ad.report.heat import PartDrawer, encode_overlay
from edge_ad.verdict import Maps

# Longest side of a picture under its maps, in pixels: to look at, and soon drawn. The other is lossless.
LARGEST = 1280
# Four colour frames of 5 MP take one to two seconds. Who waits longer gets no core, because other
# programs want them all; then the process has a share of them for a while, as a thread would have.
ANSWER_S = 10.0
START_S = 30.0  # what it imports takes half a second of a core
NICE = 10
RETRY_S = 60.0
NAME, MODULE = "the process that encodes pictures", "edge_ad.evidence.encode_aside"


class Drawing(msgspec.Struct, frozen=True):
    """What a part's maps are drawn by, and at what they are hottest."""

    drawer: PartDrawer
    poses: tuple[Pose | None, ...]
    maps: Maps
    limit: float


class Pictures(msgspec.Struct, frozen=True):
    """A part's frames by camera, uint8, and what is to be drawn over them."""

    frames: dict[str, Image]
    drawing: Drawing | None


class Encoded(msgspec.Struct, frozen=True):
    """By camera the frame as PNG and what is drawn over it as JPEG; why nothing is; why there is not
    even a frame."""

    frames: dict[str, bytes] = {}
    overlays: dict[str, bytes] = {}
    undrawn: str = ""
    error: str = ""


def encode(pictures: Pictures) -> Encoded:
    """Here and now."""
    try:
        frames = {camera: encode_frame(image) for camera, image in pictures.frames.items()}
    except DeviceError as error:
        return Encoded(error=str(error))
    drawing = pictures.drawing
    if drawing is None:
        return Encoded(frames)
    try:
        drawn = drawing.drawer.draw(pictures.frames, drawing.poses, drawing.maps, drawing.limit, LARGEST)
        overlays = {camera: encode_overlay(picture) for camera, picture in drawn.items()}
    except Exception as error:  # noqa: BLE001 - a picture to look at must not cost the lossless ones
        return Encoded(frames, undrawn=repr(error))
    return Encoded(frames, overlays)


class Encoder:
    """Owns the process. For the evidence thread, but for `start` and `hurry`. Where no process does it,
    and where there is no time for one, whoever asks encodes."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()  # of the two below
        self._process: Aside[Pictures, Encoded] | None = None
        self._hurried = False
        self._ready = False  # the process has said so
        self._words: list[str] = []  # that it was started with
        self._pressed_until = self._without_until = -math.inf
        self._told = ""  # why there is none; said once

    def start(self) -> None:
        """Start the process. By the thread that starts the other one: a thread that gives way would have
        Python stand still for longer (see `Aside`)."""
        with suppress(OSError):  # it is tried again, and then said, for the first part
            self._running()

    def encode(self, pictures: Pictures) -> Encoded:
        """Raises DeviceError where a frame cannot be encoded."""
        try:
            encoded = self._ask(pictures)
        except (OSError, ProcessGone) as error:
            self.close()
            encoded = None
            if not self._hurried:
                self._without_until = time.monotonic() + RETRY_S
                self._say_once(f"{error}; pictures are kept without maps until it is started again")
        if encoded is None:
            # What has ended the process may have been the drawing.
            encoded = encode(pictures if self._hurried else Pictures(pictures.frames, None))
        if encoded.error:
            raise DeviceError(encoded.error)
        return encoded

    def hurry(self) -> None:
        """The line stands: nothing has to give way any more. Any thread."""
        with self._lock:
            self._hurried = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()

    def _ask(self, pictures: Pictures) -> Encoded | None:
        """None where no process is to do it. Raises OSError and ProcessGone."""
        for _ in range(2):
            process = self._running()
            if process is None:
                return None
            try:
                if not self._ready:
                    process.hear(START_S)
                    self._ready = True
                encoded = process.ask(pictures, ANSWER_S)
            except ProcessSilent as error:
                if self._words:
                    raise
                self._pressed_until = time.monotonic() + RETRY_S
                self._tell("info", f"evidence: {error}; for {RETRY_S:g} s it gives way less")
            else:
                self._told = ""
                return encoded
        return None

    def _running(self) -> Aside[Pictures, Encoded] | None:
        """Raises OSError where there is none to be had."""
        now = time.monotonic()
        if now < self._without_until:
            return None
        words = [str(NICE)] if now < self._pressed_until else []
        if words != self._words:
            self.close()
        with self._lock:
            if self._hurried:
                return None
            if self._process is None:
                self._ready, self._words = False, words
                self._process = Aside(NAME, Encoded, MODULE, *words)
            return self._process

    def _say_once(self, text: str) -> None:
        if text != self._told:
            self._tell("warning", f"evidence: {text}")
        self._told = text
