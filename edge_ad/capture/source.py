"""`open_source`: a camera of the configuration as a stream of frames.

Adding a kind of source takes one file with a class, and one line in `_open`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qsl, unquote, urlsplit

from edge_ad.config import Camera
from edge_ad.errors import ConfigError
from edge_ad.frame import Frame, Image
from edge_ad.verdict import Reason

Clock = Callable[[], int]  # nanoseconds


class Source(Protocol):
    """A stream of frames. `open`, `read` and the waiting in them belong to one thread; `close` may be
    called from any thread, ends a waiting `read`, and may be repeated. After it `open` starts anew.

    A source may also have `tick_ns`, the nanoseconds of one of its `camera_ticks`, where these are of
    the camera's own clock; `counts_triggers`, true where `Frame.counter` is the camera's own;
    `lost`, frames that the camera counted and did not deliver; and `trouble`, why nothing more will
    come, where it knows without being asked for a picture."""

    name: str  # the camera's
    live: bool  # free-running: frames are lost, not delayed, when nobody reads
    pixel_rule_name: str
    skipped: int  # frames that a free-running source dropped for newer ones before `read`

    def open(self) -> None:
        """Raises CaptureError when there is no camera, file or folder."""

    def read(self) -> Frame | None:
        """The next frame; None at the end of a finite source. One file or frame that cannot be
        understood comes as a frame with `fault` set; CaptureError means that the camera is lost."""

    def close(self) -> None:
        """Let go of the camera."""


@runtime_checkable
class AskedSource(Protocol):
    """A source that takes a picture when it is asked to, instead of `read`; one thread does either."""

    def take(self, key: str, shot: int) -> Frame | None:
        """A picture taken now, the `shot`-th of the part with this key; None where none can be taken.
        Raises CaptureError when the camera is lost."""


def uri_scheme(camera: Camera) -> str:
    """The kind of source, as "rtsp"."""
    return camera.uri.partition(":")[0].lower()


def open_source(camera: Camera, base: Path) -> Source:
    """The source of `camera`, not yet opened. `base`: what relative paths in its URI are relative to.
    Raises ConfigError for an unknown scheme, parameter or pixel format."""
    scheme = uri_scheme(camera)
    if scheme == "folder":
        from edge_ad.capture.folder import FolderSource

        return FolderSource(camera, base)
    if scheme == "synthetic":
        from edge_ad.capture.synthetic import SyntheticSource

        return SyntheticSource(camera)
    if scheme == "file":
        from edge_ad.capture.opencv import VideoFileSource

        return VideoFileSource(camera, base)
    if scheme in ("v4l2", "rtsp", "rtsps"):
        from edge_ad.capture.opencv import LiveSource

        return LiveSource(camera)
    if scheme == "gst":
        from edge_ad.capture.gstreamer import GStreamerSource

        return GStreamerSource(camera)
    if scheme == "basler":
        from edge_ad.capture.basler import basler_source

        return basler_source(camera)
    if scheme == "genicam":
        from edge_ad.capture.aravis.camera import aravis_source

        return aravis_source(camera)
    raise ConfigError(
        f"camera {camera.name!r}: uri {camera.uri!r} has no known scheme; use v4l2:///dev/video0, "
        "rtsp://host/path, gst://PIPELINE, basler://SERIAL, genicam://ID, file:///video.mp4, "
        "folder:///directory or synthetic://?seed=1"
    )


@dataclass(frozen=True, slots=True)
class Uri:
    """A source's URI taken apart; every parameter has a default, whose type it must have."""

    path: str  # netloc and path joined: folder:///abs and folder://relative both work
    parameters: dict[str, int | float | str]

    def number(self, key: str) -> float:
        """A parameter that has a numeric default."""
        return float(self.parameters[key])

    def integer(self, key: str) -> int:
        """A parameter that has an integer default."""
        return int(self.parameters[key])


def parse_uri(camera: Camera, defaults: dict[str, int | float | str]) -> Uri:
    """Take `camera.uri` apart. Raises ConfigError that names the camera, the parameter and its type."""
    where = f"camera {camera.name!r}: uri {camera.uri!r}"
    try:
        # "#" may be part of a folder's name.
        parts = urlsplit(camera.uri, allow_fragments=False)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; correct it") from error
    values = dict(defaults)
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key not in defaults:
            raise ConfigError(
                f"{where}: unknown parameter {key!r}; have {', '.join(defaults) or 'none'}"
            )
        kind = type(defaults[key])
        try:
            values[key] = kind(text)
        except ValueError as error:
            raise ConfigError(f"{where}: {key}={text!r} is not {_A[kind]}") from error
        if kind is not str and not 0 <= float(values[key]) < 2**63:
            raise ConfigError(f"{where}: {key}={text} is out of range; expected >= 0")
    return Uri(unquote(parts.netloc + parts.path), values)


_A = {int: "an integer", float: "a number", str: "a text"}


class Stamper:
    """Numbers and stamps the frames of one camera. Not thread safe."""

    def __init__(
        self, camera: str, clock: Clock = time.monotonic_ns, wall: Clock = time.time_ns
    ) -> None:
        self.camera = camera
        self.count = 0
        self.clock = clock
        self.wall = wall

    def frame(
        self,
        image: Image,
        part_key: str | None = None,
        t_trigger_ns: int | None = None,
        shot: int | None = None,
        counter: int | None = None,
    ) -> Frame:
        """A good frame, taken now or at `t_trigger_ns`."""
        return self._make(image, part_key, t_trigger_ns, "", "", shot, counter)

    def fault(
        self,
        reason: Reason,
        detail: str,
        part_key: str | None = None,
        t_trigger_ns: int | None = None,
        shot: int | None = None,
    ) -> Frame:
        """A frame that was taken but cannot be used."""
        return self._make(None, part_key, t_trigger_ns, reason.value, detail, shot)

    def _make(
        self,
        image: Image | None,
        part_key: str | None,
        at: int | None,
        fault: str,
        detail: str,
        shot: int | None,
        counter: int | None = None,
    ) -> Frame:
        now = self.clock() if at is None else at
        index = self.count
        self.count += 1
        return Frame(
            self.camera,
            index,
            image,
            now,
            self.wall(),
            part_key,
            fault,
            detail,
            shot=shot,
            counter=counter,
        )


class Pacer:
    """Holds a source at `fps` frames per second (0: no pace) until it is stopped."""

    def __init__(self, fps: float, clock: Clock, wait: Callable[[float], bool]) -> None:
        """`wait(seconds)` sleeps and returns True when the source was closed meanwhile."""
        self._period_ns = int(min(1e9 / fps, 1e18)) if fps > 0 else 0
        self._clock = clock
        self._wait = wait
        self._due = 0

    def pace(self) -> None:
        """Wait until the next frame is due; a late frame is not made up for by a burst."""
        if not self._period_ns:
            return
        now = self._clock()
        if self._due > now:
            self._wait((self._due - now) / 1e9)
        self._due = max(self._due, now) + self._period_ns
