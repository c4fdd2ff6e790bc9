"""Cameras and video files through OpenCV.

- `v4l2:///dev/video0?width=0&height=0&fps=0`: a camera of this machine; 0 leaves the driver's setting.
- `rtsp://user:password@host/path`: a network camera, over TCP.
- `file:///video.mp4?loop=0&fps=0`: a video file; fps=0 reads as fast as it is consumed.

OpenCV's own time limits were seen to be three times late, and its queue to hold 91 stale frames after a
pause of 3 s. So a live camera is read by a thread of its own that keeps only the newest frame, and a
silent one is noticed by this module's clock.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from edge_ad.capture.leaving import stop_at_exit
from edge_ad.capture.pixels import PixelRule, Raw, decoded_format, pixel_rule
from edge_ad.capture.source import Clock, Pacer, Stamper, Uri, parse_uri
from edge_ad.config import Camera
from edge_ad.errors import CaptureError
from edge_ad.frame import Frame
from edge_ad.redact import redact
from edge_ad.verdict import Reason

V4L2_PARAMETERS: dict[str, int | float | str] = {"width": 0, "height": 0, "fps": 0.0}  # of the URI
Opener = Callable[[], Any]  # -> cv2.VideoCapture

_OPEN_TIMEOUT_MS = 5000

# What the driver is asked for, so that it delivers the declared format and not a converted one.
_FOURCC = {
    "mono8": "GREY", "mono10": "Y10 ", "mono12": "Y12 ", "mono16": "Y16 ", "bayerrg8": "RGGB",
    "bayergr8": "GRBG", "bayergb8": "GBRG", "bayerbg8": "BA81", "rgb8": "RGB3", "bgr8": "BGR3",
    "yuv422_yuyv": "YUYV", "yuv422_uyvy": "UYVY",
}  # fmt: skip


class LiveSource:
    """A free-running camera: `read` returns the newest frame, and counts in `skipped` the frames that
    came and went unread. `open`, `read` and `close` as in `Source`."""

    live = True

    def __init__(
        self, camera: Camera, clock: Clock = time.monotonic_ns, opener: Opener | None = None
    ) -> None:
        self.name = camera.name
        self.skipped = 0
        v4l2 = camera.uri.lower().startswith("v4l2:")
        self._size: tuple[int, int] | None = None  # of raw buffers, which may come without a shape
        pixel_format = camera.pixel_format if v4l2 else decoded_format(camera.pixel_format)
        self._rule = pixel_rule(pixel_format, camera.bit_depth)
        self.pixel_rule_name = self._rule.name
        self._where = redact(camera.uri)
        uri = parse_uri(camera, V4L2_PARAMETERS) if v4l2 else None
        self._open_capture = opener or (lambda: _open_live(camera, uri))
        self._max_pixels = camera.max_megapixels * 1e6
        self._silence_s = camera.stale_ms / 1000
        self._stamper = Stamper(camera.name, clock)
        self._changed = threading.Condition()
        # The newest frame, of a camera with shots all of a part's: they come one upon the other.
        self._most = max(1, len(camera.shots))
        self._newest: deque[tuple[Raw, int]] = deque()
        self._session = 0  # counts openings; a reader thread of an older one must stop
        self._open = False
        self._lost = ""
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Connect and start reading. Raises CaptureError when nothing answers."""
        if self._thread is not None:
            self._thread.join(self._silence_s)  # it still holds the device for up to one frame
        capture = self._open_capture()
        if not capture.isOpened():
            capture.release()
            raise CaptureError(
                f"camera {self.name!r}: {self._where} cannot be opened; check that it is connected, "
                "powered, not in use by another program, and that this user may read it"
            )
        if (pixels := _width(capture) * _height(capture)) > self._max_pixels:
            capture.release()
            raise CaptureError(
                f"camera {self.name!r}: {self._where} sends {pixels / 1e6:.1f} megapixels, over the "
                f"limit of {self._max_pixels / 1e6:g}; raise max_megapixels"
            )
        self._size = (_width(capture), _height(capture))
        with self._changed:
            self._session += 1
            self._open, self._lost = True, ""
            self._newest.clear()
            session = self._session
        stop_at_exit(self)
        self._thread = threading.Thread(
            target=self._drain, args=(capture, session), name=f"drain-{self.name}", daemon=True
        )
        self._thread.start()

    def _drain(self, capture: Any, session: int) -> None:
        """Thread: keep the newest frames. Releases the capture itself: OpenCV's may not be released
        while it is being read."""
        while True:
            good, raw = capture.read()
            now = self._stamper.clock()
            with self._changed:
                if session != self._session or not self._open:
                    break
                if not good:
                    self._lost = "the camera stopped sending"
                else:
                    if len(self._newest) == self._most:
                        self._newest.popleft()
                        self.skipped += 1
                    self._newest.append((raw, now))
                self._changed.notify_all()
                if not good:
                    break
        capture.release()

    def read(self) -> Frame | None:
        """The oldest of the newest frames that was not yet returned; None after `close`. Raises
        CaptureError when the camera is lost or silent for `stale_ms`."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: self._newest or self._lost or not self._open, self._silence_s
            )
            if not self._open:
                return None
            if not self._newest:
                why = self._lost if came else f"no frame for {self._silence_s * 1000:.0f} ms (stale_ms)"
                raise CaptureError(f"camera {self.name!r}: {self._where}: {why}; check cable and power")
            raw, taken = self._newest.popleft()
        return _convert(self._rule, raw, self._stamper, taken, self._size)

    def close(self) -> None:
        """Disconnect; a waiting `read` returns None."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def stop(self) -> threading.Thread | None:
        """Close; the thread that then lets go of the camera, where there is one."""
        self.close()
        return self._thread


class VideoFileSource:
    """A video file, frame by frame; it waits for its reader."""

    live = False
    skipped = 0  # it waits for its reader

    def __init__(self, camera: Camera, base: Path, clock: Clock = time.monotonic_ns) -> None:
        uri = parse_uri(camera, {"loop": 0, "fps": 0.0})
        self.name = camera.name
        self._rule = pixel_rule(decoded_format(camera.pixel_format), camera.bit_depth)
        self.pixel_rule_name = self._rule.name
        self.path = (base / Path(uri.path).expanduser()).absolute()
        self._loop = bool(uri.integer("loop"))
        self._max_pixels = camera.max_megapixels * 1e6
        self._stamper = Stamper(camera.name, clock)
        self._closed = threading.Event()
        self._pacer = Pacer(uri.number("fps"), clock, self._closed.wait)
        self._capture: Any = None

    def open(self) -> None:
        """Open the file. Raises CaptureError when it is missing, not a video, or too large."""
        if not self.path.is_file():
            raise CaptureError(f"camera {self.name!r}: {self.path}: no such file; check the uri")
        self._release()
        self._closed.clear()
        quiet()
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise CaptureError(
                f"camera {self.name!r}: {self.path}: not a video that can be decoded; convert it to MP4 "
                "(H.264)"
            )
        self._capture = capture
        if (pixels := _width(capture) * _height(capture)) > self._max_pixels:
            self._release()
            raise CaptureError(
                f"camera {self.name!r}: {self.path}: {pixels / 1e6:.1f} megapixels per frame, over the "
                f"limit of {self._max_pixels / 1e6:g}; raise max_megapixels"
            )

    def read(self) -> Frame | None:
        """The next frame; None at the end of the file or after `close`."""
        if self._closed.is_set() or self._capture is None:
            self._release()
            return None
        self._pacer.pace()
        good, raw = self._capture.read()
        if not good and self._loop:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            good, raw = self._capture.read()
        if not good:
            self._release()
            return None
        return _convert(self._rule, raw, self._stamper, self._stamper.clock())

    def close(self) -> None:
        """End the stream. The file itself is let go of by the reading thread, or with this object."""
        self._closed.set()

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def quiet() -> None:
    """Stop OpenCV and FFmpeg from writing to stderr: what goes wrong is said once, by an error."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when FFmpeg first opens


def _open_live(camera: Camera, uri: Uri | None) -> Any:
    quiet()
    if uri is None:
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(camera.stale_ms),
        ]  # fmt: skip
        return cv2.VideoCapture(camera.uri, cv2.CAP_FFMPEG, limits)
    capture = cv2.VideoCapture(uri.path, cv2.CAP_V4L2)
    if camera.pixel_format != "auto":
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*_FOURCC[camera.pixel_format]))
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    for key, name in (
        (cv2.CAP_PROP_FRAME_WIDTH, "width"),
        (cv2.CAP_PROP_FRAME_HEIGHT, "height"),
        (cv2.CAP_PROP_FPS, "fps"),
    ):
        if uri.number(name):
            capture.set(key, uri.number(name))
    return capture


def _convert(
    rule: PixelRule, raw: Raw, stamper: Stamper, taken: int, size: tuple[int, int] | None = None
) -> Frame:
    try:
        if size is not None:
            raw = rule.raster(raw, *size)
        return stamper.frame(rule.convert(raw), t_trigger_ns=taken)
    except CaptureError as error:
        return stamper.fault(Reason.PIXEL_FORMAT, str(error), t_trigger_ns=taken)


def _width(capture: Any) -> int:
    return int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))


def _height(capture: Any) -> int:
    return int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
