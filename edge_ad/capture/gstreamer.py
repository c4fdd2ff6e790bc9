"""Cameras through GStreamer: `gst://PIPELINE`, as `gst-launch-1.0` takes it, without a sink.

- `gst://v4l2src device=/dev/video0 ! image/jpeg,width=1920,height=1080 ! jpegdec`
- `gst://nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),framerate=30/1 ! nvvidconv`

The declared pixel_format says what is appended. Whether the pipeline reads a camera, of which the newest
frame counts, or files, which wait for their reader, is told by its source.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from dataclasses import replace

import numpy as np

from edge_ad.capture.gst.pipeline import SINK, Pipeline
from edge_ad.capture.gst.sample import Sample
from edge_ad.capture.pixels import pixel_rule
from edge_ad.capture.source import Clock, Stamper
from edge_ad.config import Camera
from edge_ad.errors import CaptureError, ConfigError
from edge_ad.frame import Frame
from edge_ad.redact import redact
from edge_ad.verdict import Reason

_STOP_S = 5.0  # how long a pipeline may take to let go of its camera
_POLL_S = 0.05  # how long it takes at most to notice an error or a `close`

# Decoded pictures are converted. Samples that count as the sensor gave them are not: a converter would
# stretch 12 bits to 16, and make up a mosaic. It does not dither.
_CONVERTED = {"auto": "BGR", "bgr8": "BGR", "rgb8": "RGB", "mono8": "GRAY8"}
_AS_IS = {
    "mono10": "video/x-raw,format=GRAY16_LE", "mono12": "video/x-raw,format=GRAY16_LE",
    "mono16": "video/x-raw,format=GRAY16_LE",
    "yuv422_yuyv": "video/x-raw,format=YUY2", "yuv422_uyvy": "video/x-raw,format=UYVY",
    "bayerrg8": "video/x-bayer,format=rggb", "bayergr8": "video/x-bayer,format=grbg",
    "bayergb8": "video/x-bayer,format=gbrg", "bayerbg8": "video/x-bayer,format=bggr",
}  # fmt: skip


def describe(camera: Camera) -> str:
    """The whole pipeline of a `gst://` URI. Raises ConfigError where it has none, or an element of
    the sink's name."""
    body = camera.uri.partition("://")[2].strip().removesuffix("!").strip()
    if not body:
        raise ConfigError(
            f"camera {camera.name!r}: uri {camera.uri!r} names no pipeline; write for example "
            "gst://v4l2src device=/dev/video0"
        )
    if re.search(rf"\bname\s*=\s*[\"']?{SINK}\b", body):
        raise ConfigError(
            f"camera {camera.name!r}: uri {camera.uri!r} has an element named {SINK}, as the sink that "
            "is appended; rename it"
        )
    convert, caps = "", _AS_IS.get(camera.pixel_format, "")
    if not caps:
        convert = "videoconvert dither=none ! "
        caps = f"video/x-raw,format={_CONVERTED[camera.pixel_format]}"
    # Written out as an element: the short form may not follow upon caps that end the body.
    appended = f"{convert}capsfilter caps={caps}"
    # Nothing is dropped where it would not be counted; one frame waits until it is fetched.
    sink = f"appsink name={SINK} max-buffers=1 drop=false sync=false emit-signals=false"
    return f"{body} ! {appended} ! {sink} enable-last-sample=false"


class GStreamerSource:
    """The frames of a pipeline. Of a live one `read` returns the newest, with `overflow = "wait"` the
    oldest that waits; `skipped` counts what was dropped for newer frames, here or by the source. `open`,
    `read` and `close` as in `Source`. A frame's time is that of its arrival, `camera_ticks` its
    presentation time (ns)."""

    def __init__(self, camera: Camera, clock: Clock = time.monotonic_ns) -> None:
        self.name = camera.name
        self.skipped = 0
        self._rule = pixel_rule(camera.pixel_format, camera.bit_depth)
        self.pixel_rule_name = self._rule.name
        self._description = describe(camera)
        self._where = f"camera {camera.name!r}: {camera.uri}"
        self.live = _is_live(self._description)
        self._newest = self.live and camera.overflow != "wait"
        self._max_pixels = camera.max_megapixels * 1e6
        self._silence_s = camera.stale_ms / 1000
        self._stamper = Stamper(camera.name, clock)
        self._changed = threading.Condition()
        # Of a camera with shots all of a part's are kept: they come one upon the other.
        self._most = max(1, len(camera.shots))
        self._waiting: deque[tuple[Sample, int]] = deque()
        self._session = 0  # counts openings; a thread of an older one must stop
        self._open = False
        self._over: str | None = None  # why nothing more will come; "" at the end of files
        self._number: int | None = None  # of the last frame
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the pipeline. Raises CaptureError when it cannot be made or its source refuses."""
        self.close()
        if self._thread is not None:
            self._thread.join(min(self._silence_s, _STOP_S))  # it still holds the device
            if self._thread.is_alive():
                raise self._error(
                    "the pipeline before does not stop; restart the camera's driver (on a Jetson "
                    "'systemctl restart nvargus-daemon')"
                )
        try:
            pipeline = Pipeline(self._description)
        except CaptureError as error:
            raise self._error(str(error)) from error
        try:
            pipeline.play()
        except CaptureError as error:
            pipeline.close()
            raise self._error(str(error)) from error
        with self._changed:
            self._session += 1
            self._open, self._over, self._number = True, None, None
            session = self._session
        self._thread = threading.Thread(
            target=self._drain, args=(pipeline, session), name=f"drain-{self.name}", daemon=True
        )
        self._thread.start()

    def _drain(self, pipeline: Pipeline, session: int) -> None:
        """Thread: fetch frames as they come, so that their time is that of their arrival."""
        try:
            over = None
            while over is None and self._wanted(session):
                sample = pipeline.pull(_POLL_S)
                now = self._stamper.clock()
                problem = pipeline.problem()
                if sample is not None:
                    self._keep(sample, now, session)
                if problem:
                    # It may have come with a frame of before it, of which the sink holds one at most.
                    if (last := pipeline.pull(0.0)) is not None:
                        self._keep(last, now, session)
                    over = problem
                elif sample is None and pipeline.ended:
                    over = "the camera ended the stream; check cable and power" if self.live else ""
            with self._changed:
                if session == self._session:
                    self._over = over
                    self._changed.notify_all()
        finally:
            pipeline.close()

    def _wanted(self, session: int) -> bool:
        return self._open and session == self._session

    def _keep(self, sample: Sample, now: int, session: int) -> None:
        """Queue a frame: instead of an older one, or once there is room."""
        with self._changed:
            if not self._newest:
                self._changed.wait_for(
                    lambda: len(self._waiting) < self._most or not self._wanted(session)
                )
            if not self._wanted(session):
                sample.release()
                return
            number = sample.number
            if self.live and number is not None:
                if self._number is not None and number > self._number:
                    self.skipped += number - self._number - 1
                self._number = number
            if len(self._waiting) == self._most:
                self._waiting.popleft()[0].release()
                self.skipped += 1
            self._waiting.append((sample, now))
            self._changed.notify_all()

    def read(self) -> Frame | None:
        """The next frame; None after `close`, and at the end of files. Raises CaptureError when the
        pipeline fails, ends although it reads a camera, or is silent for `stale_ms`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._over is not None or not self._open, self._silence_s
            )
            if not self._open or (not self._waiting and self._over == ""):
                return None
            if not self._waiting:
                silence = f"no frame for {self._silence_s * 1000:.0f} ms (stale_ms)"
                raise self._error(self._over or f"{silence}; check cable and power, or the trigger")
            sample, taken = self._waiting.popleft()
            self._changed.notify_all()
        try:
            return self._frame(sample, taken)
        finally:
            sample.release()

    def _frame(self, sample: Sample, taken: int) -> Frame:
        """The frame in memory of its own: copied once, by its conversion where it has one."""
        form = sample.format()
        if (pixels := form.width * form.height) > self._max_pixels:
            raise self._error(
                f"sends {pixels / 1e6:.1f} megapixels, over the limit of {self._max_pixels / 1e6:g}; "
                "raise max_megapixels"
            )
        if sample.damaged:
            return self._stamper.fault(Reason.UNREADABLE, sample.damaged, t_trigger_ns=taken)
        try:
            with sample.pixels() as raw:
                image = self._rule.convert(raw)
                if np.may_share_memory(image, raw):
                    image = np.array(image, order="C")
        except CaptureError as error:
            return self._stamper.fault(Reason.PIXEL_FORMAT, str(error), t_trigger_ns=taken)
        return replace(self._stamper.frame(image, t_trigger_ns=taken), camera_ticks=sample.pts_ns)

    def close(self) -> None:
        """Stop; a waiting `read` returns None. The pipeline itself is stopped by its thread."""
        with self._changed:
            self._open = False
            while self._waiting:
                self._waiting.popleft()[0].release()
            self._changed.notify_all()

    def _error(self, text: str) -> CaptureError:
        return CaptureError(redact(f"{self._where}: {text}"))


def _is_live(description: str) -> bool:
    """Whether a pipeline reads a camera. One that cannot be made here is taken for one: `open` says
    what is wrong with it."""
    try:
        pipeline = Pipeline(description)
    except CaptureError:
        return True
    try:
        return pipeline.live
    finally:
        pipeline.close()
