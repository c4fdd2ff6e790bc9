"""Industrial cameras, whatever library they are read through: frames, counters, triggers, frame age.

Where every part counts - the line triggers the camera, or `overflow = "wait"` - every frame is kept
until it is read; what finds no buffer shows as a gap in the camera's block ids. Else the newest frame
counts. A frame that arrived incomplete is a frame with a fault, never a picture. The time without a
frame is measured here: libraries were seen to notice a camera that stopped only after 5 s, or never. Of
a camera that the line triggers silence says nothing: it is lost when it does not answer any more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edge_ad.capture.connection import Connection, Picture, raster
from edge_ad.capture.counting import Unwrapped
from edge_ad.capture.features import Features, configure
from edge_ad.capture.leaving import stop_at_exit
from edge_ad.capture.pixels import pixel_rule
from edge_ad.capture.source import Clock, Stamper
from edge_ad.config import Camera
from edge_ad.config.genicam import Genicam
from edge_ad.errors import CaptureError
from edge_ad.frame import Frame
from edge_ad.verdict import Reason

_STOP_S = 5.0  # how long `open` waits until a camera before is let go of
_SPARE = 4  # buffers that are being filled, or read
_STUCK_S = 5.0  # a library that does not return for so long hangs
_POLL_S = 0.05  # how long it takes at most to notice a `close`
LAST_BLOCK = 65535  # of GigE Vision 1, which begins at 1 again; others never come to where they wrap


class IndustrialSource:
    """A camera that runs free or is triggered by the line. `open`, `read` and `close` as in `Source`.
    `lost` counts frames that the camera sent and that did not arrive; `patient`: no part, no frame."""

    live = True
    counts_triggers = True

    def __init__(self, camera: Camera, connect: Callable[[], Connection], clock: Clock) -> None:
        self.name = camera.name
        self.skipped = self.lost = 0
        self.tick_ns = 0.0
        self.settings = camera.genicam or Genicam()
        self._camera = camera
        self._connect = connect
        self._rule = pixel_rule(camera.pixel_format, camera.bit_depth)
        self.pixel_rule_name = self._rule.name
        self._where = f"camera {camera.name!r}: {camera.uri}"
        every = camera.overflow == "wait" or (camera.overflow == "auto" and bool(self.settings.trigger))
        # Of a camera with shots all of a part's are kept: they come one upon the other.
        self._newest = 0 if every else max(1, len(camera.shots))
        self._most = self._newest or self.settings.buffers
        self._max_pixels = camera.max_megapixels * 1e6
        self.patient = bool(self.settings.trigger) and not self.settings.asked
        self._silence_s = camera.stale_ms / 1000
        self._beat_ns = 0  # when the thread that fetches came by
        self._stamper = Stamper(camera.name, clock)
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Picture, int]] = deque()
        self._session = 0  # counts openings; a thread of an older one must stop
        self._open = False
        self._over = ""  # why nothing more will come
        self._silent = False
        self._counter = Unwrapped(1, LAST_BLOCK)
        self._number: int | None = None  # of the last frame
        self._thread: threading.Thread | None = None
        self._using = threading.Lock()  # held while a command is sent, so that nobody closes meanwhile
        self._connection: Connection | None = None

    def open(self) -> None:
        """Connect, set the camera's features and read them back, and start. Raises CaptureError."""
        self.close()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            if self._thread.is_alive():
                raise self._error("it is still being let go of; is it connected and powered?")
        connection = None
        try:
            connection = self._connect()
            configure(connection.features, self.settings, self._camera.pixel_format)
            connection.start(self._most + self.settings.buffers + _SPARE, self._newest)
        except CaptureError as error:
            if connection is not None:
                connection.close()
            raise self._error(str(error)) from error
        self.tick_ns = connection.tick_ns
        with self._changed:
            self._session += 1
            self._open, self._over, self._silent, self._number = True, "", False, None
            self._beat_ns = self._stamper.clock()
            self._counter = Unwrapped(1, LAST_BLOCK)
            session = self._session
        with self._using:
            self._connection = connection
        stop_at_exit(self)
        self._thread = threading.Thread(
            target=self._drain, args=(connection, session), name=f"drain-{self.name}", daemon=True
        )
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why nothing more will come; empty while it may."""
        return self._over

    def features(self) -> Features:
        """Of the open camera, for who looks at it. Raises CaptureError when it is closed."""
        return self._held().features

    def address(self) -> str:
        """IP of the open camera, "" where it is not on the network. CaptureError as in `features`."""
        return self._held().address

    def _held(self) -> Connection:
        connection = self._connection
        if connection is None:
            raise self._error("is not open")
        return connection

    def _drain(self, connection: Connection, session: int) -> None:
        """Thread: fetch frames as they come, so that their time is that of their arrival."""
        over = ""
        try:
            while self._wanted(session):
                if not self._newest and not self._room(session):
                    self._beat_ns = self._stamper.clock()
                    continue
                picture = connection.pull(_POLL_S)
                now = self._beat_ns = self._stamper.clock()
                if picture is not None:
                    self._keep(picture, now, session)
                elif over := connection.problem():
                    break
        except CaptureError as error:
            over = str(error)
        except Exception as error:  # noqa: BLE001 - a thread's top: any failure is a lost camera
            over = repr(error)
        finally:
            with self._changed:
                silent = self._silent
                if session == self._session:
                    self._over = over or "stopped"
                    self._changed.notify_all()
            with self._using:
                if self._connection is connection:
                    self._connection = None
            connection.close(not over and not silent)

    def _wanted(self, session: int) -> bool:
        return self._open and session == self._session

    def _room(self, session: int) -> bool:
        """Whether another frame may be fetched, where each is kept; waits for a while."""
        with self._changed:
            return self._changed.wait_for(
                lambda: len(self._waiting) < self._most or not self._wanted(session), _POLL_S
            )

    def _keep(self, picture: Picture, now: int, session: int) -> None:
        """Queue a frame, where the newest count instead of an older one; count what is missing."""
        with self._changed:
            if not self._wanted(session):
                picture.release()
                return
            self.skipped += picture.skipped
            if picture.counter is not None:
                number = picture.counter = self._counter.of(picture.counter)
                if self._number is not None:
                    self.lost += max(0, number - self._number - 1 - picture.skipped)
                    if number <= self._number:  # one that was counted as lost when it was overtaken
                        self.skipped += 1
                        picture.release()
                        return
                self._number = number
            elif self._number is not None:  # they come in order
                self._number += 1
            if len(self._waiting) == self._most:
                self._waiting.popleft()[0].release()
                self.skipped += 1
            self._waiting.append((picture, now))
            self._changed.notify_all()

    def read(self) -> Frame | None:
        """The next frame; None after `close`. Raises CaptureError when the camera is lost, or silent for
        `stale_ms` where the line does not trigger it."""
        return self._next(self._silence_s)

    def _next(self, wait_s: float) -> Frame | None:
        with self._changed:
            while not self._changed.wait_for(
                lambda: self._waiting or self._over or not self._open, wait_s
            ):
                stuck = (self._stamper.clock() - self._beat_ns) / 1e9 > max(_STUCK_S, wait_s)
                if stuck or not self.patient:
                    break
            if not self._open:
                return None
            if not self._waiting:
                self._silent = not self._over
                silence = f"no frame for {self._silence_s * 1000:.0f} ms (stale_ms)"
                raise self._error(self._over or f"{silence}; check cable, power and trigger")
            picture, taken = self._waiting.popleft()
            self._changed.notify_all()
        try:
            return self._frame(picture, taken)
        finally:
            picture.release()

    def _frame(self, picture: Picture, taken: int) -> Frame:
        """The frame in memory of its own."""
        if (pixels := picture.width * picture.height) > self._max_pixels:
            raise self._error(
                f"sends {pixels / 1e6:.1f} megapixels, over the limit of {self._max_pixels / 1e6:g}; "
                "raise max_megapixels"
            )
        if picture.damaged:
            frame = self._stamper.fault(Reason.UNREADABLE, picture.damaged, t_trigger_ns=taken)
        else:
            try:
                raw = raster(picture, self._camera.pixel_format)
                image = self._rule.convert(raw)
                if np.may_share_memory(image, picture.data):
                    image = np.array(image, order="C")
                frame = self._stamper.frame(image, t_trigger_ns=taken)
            except CaptureError as error:
                frame = self._stamper.fault(Reason.PIXEL_FORMAT, str(error), t_trigger_ns=taken)
        return replace(frame, counter=picture.counter, camera_ticks=picture.ticks)

    def close(self) -> None:
        """Stop; a waiting `read` returns None. The camera itself is let go of by its thread."""
        with self._changed:
            self._open = False
            self._flush()
            self._changed.notify_all()

    def stop(self) -> threading.Thread | None:
        """Close; the thread that then lets go of the camera, where there is one."""
        self.close()
        return self._thread

    def _flush(self) -> int:
        """Drop what waits. Lock must be held by caller."""
        count = len(self._waiting)
        while self._waiting:
            self._waiting.popleft()[0].release()
        return count

    def _error(self, text: str) -> CaptureError:
        return CaptureError(f"{self._where}: {text}")


class AskedIndustrialSource(IndustrialSource):
    """A camera that takes a picture when it is asked, by its software trigger: also where it is read."""

    live = False

    def read(self) -> Frame | None:
        """A picture taken now; None after `close`."""
        with self._changed:
            self.skipped += self._flush()  # nothing that was not asked for is this picture
        end = time.monotonic() + self._silence_s
        with self._using:
            if self._connection is not None and self._open:
                try:
                    self._connection.trigger(self._silence_s)
                except CaptureError as error:
                    raise self._error(str(error)) from error
        return self._next(max(0.0, end - time.monotonic()))

    def take(self, key: str, shot: int) -> Frame | None:
        """As `AskedSource.take`. A picture that does not come within `stale_ms` means that the camera is
        lost: opened anew, it cannot be taken for the next part's."""
        frame = self.read()
        if frame is None:
            return None
        return replace(frame, part_key=key, shot=shot if self._camera.shots else None)


def industrial_source(
    camera: Camera, connect: Callable[[], Connection], clock: Clock
) -> IndustrialSource:
    """The source of the camera's kind of trigger, not yet opened."""
    asked = camera.genicam is not None and camera.genicam.asked
    return (AskedIndustrialSource if asked else IndustrialSource)(camera, connect, clock)
