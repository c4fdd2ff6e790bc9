"""`synthetic://?seed=1&width=640&height=480&defect_rate=0.05&good_first=0&parts=0&fps=0&pool=0&shift=0
&angle=0&cameras=1&camera=0&lose=0&drop=0&wrap=0`: rendered parts, where no camera is at hand.

parts: end after so many (0: never). fps: pace (0: as fast as they are read). pool: render so many parts
once and cycle through them (0: a new part each time), where rendering must not cost anything.
good_first: the first so many parts have no defect, so that a line can be calibrated on them. shift,
angle: parts lie up to so much of the frame's width and height and so many degrees off, either way.
cameras, camera: one of several that see the same parts from different sides; a defect is on one side.
lose: share of the parts that this camera misses, or of its pictures where it takes several: of a camera
with shots the first is as described, and others are under grazing light, where edges are bright.
drop: share of the pictures that are taken and counted, but lost on their way. wrap: the camera's counter
begins at 1 again after so many (0: never), as a GigE camera's does after 65535.
"""

from __future__ import annotations

import re
import threading
import time

from edge_ad.capture.counting import Unwrapped
from edge_ad.capture.parts import (
    grazing_light,
    part_dropped,
    part_key,
    part_lost,
    part_number,
    render_part,
)
from edge_ad.capture.pixels import pixel_rule
from edge_ad.capture.source import Clock, Pacer, Stamper, parse_uri
from edge_ad.config import Camera
from edge_ad.errors import ConfigError
from edge_ad.frame import Frame, Image

_KEY = re.compile(r"S\d{8,}")
_DEFAULTS: dict[str, int | float | str] = {
    "seed": 1, "width": 640, "height": 480, "defect_rate": 0.05, "good_first": 0, "parts": 0, "fps": 0.0,
    "pool": 0, "shift": 0.0, "angle": 0.0,
    "cameras": 1, "camera": 0, "lose": 0.0, "drop": 0.0, "wrap": 0,
}  # fmt: skip


class SyntheticSource:
    """Rendered parts as a camera. The part key is "S" and the part's number, which `render_part` takes.
    Reopening goes on with the next part, as a camera would. Asked to take a picture of a part whose key
    is such a one, it renders that part, else the next."""

    live = False
    skipped = 0  # it waits for its reader
    counts_triggers = True  # a gap in its counter is a frame that was lost

    def __init__(self, camera: Camera, clock: Clock = time.monotonic_ns) -> None:
        uri = parse_uri(camera, _DEFAULTS)
        if camera.pixel_format not in ("auto", "mono8"):
            raise ConfigError(
                f"camera {camera.name!r}: pixel_format {camera.pixel_format!r} is not what a synthetic "
                "source renders; use mono8 or auto"
            )
        self.pixel_rule_name = pixel_rule(camera.pixel_format, camera.bit_depth).name
        self.name = camera.name
        self._seed, self._parts = uri.integer("seed"), uri.integer("parts")
        self._width, self._height = uri.integer("width"), uri.integer("height")
        self._rate, self._good_first = uri.number("defect_rate"), uri.integer("good_first")
        self._shift, self._angle = uri.number("shift"), uri.number("angle")
        self._cameras, self._camera = uri.integer("cameras"), uri.integer("camera")
        self._lose = uri.number("lose")
        self._drop, self._wrap = uri.number("drop"), uri.integer("wrap")
        self._counter = Unwrapped(1, self._wrap)
        self._shots = len(camera.shots)
        self._counted = 0  # pictures taken
        self._next = 0  # number of the picture that comes next
        self._check(camera)
        self._pool_size = uri.integer("pool")
        self._pool: list[Image] = []
        self._stamper = Stamper(camera.name, clock)
        self._closed = threading.Event()
        self._pacer = Pacer(uri.number("fps"), clock, self._closed.wait)

    def _check(self, camera: Camera) -> None:
        where = f"camera {camera.name!r}: uri {camera.uri!r}"
        if not (32 <= self._width <= 8192 and 32 <= self._height <= 8192):
            raise ConfigError(f"{where}: width and height are 32 to 8192")
        if self._width * self._height > camera.max_megapixels * 1e6:
            raise ConfigError(f"{where}: larger than max_megapixels = {camera.max_megapixels:g}")
        if not 0 <= self._rate <= 1:
            raise ConfigError(f"{where}: defect_rate is 0 to 1")
        if not (0 <= self._shift <= 1 and 0 <= self._angle <= 180):
            raise ConfigError(f"{where}: shift is 0 to 1, angle 0 to 180 degrees")
        if not (self._camera < self._cameras <= 16 and self._lose < 1 and self._drop < 1):
            raise ConfigError(
                f"{where}: camera is 0 to cameras - 1, cameras at most 16, lose and drop below 1"
            )

    def open(self) -> None:
        """Render the pool, if there is one."""
        self._closed.clear()
        while len(self._pool) < self._pool_size:
            self._pool.append(self._render(len(self._pool)))

    def read(self) -> Frame | None:
        """The next part."""
        while True:
            index, shot = divmod(self._next, max(1, self._shots))
            if self._closed.is_set() or (self._parts and index >= self._parts):
                return None
            self._next += 1
            if self._lose and part_lost(self._seed, index, self._camera, self._lose, shot):
                self._pacer.pace()  # it passed this camera all the same
                continue
            counter = self._counter.of(
                self._counted % self._wrap + 1 if self._wrap else self._counted + 1
            )
            self._counted += 1
            if self._drop and part_dropped(self._seed, index, self._camera, self._drop, shot):
                self._pacer.pace()
                continue
            image = self._picture(index, shot)
            self._pacer.pace()
            return self._stamper.frame(
                image, part_key(index), shot=shot if self._shots else None, counter=counter
            )

    def take(self, key: str, shot: int) -> Frame | None:
        """The part that the key names, else the next."""
        now = self._stamper.clock()
        index = part_number(key) if _KEY.fullmatch(key) else self._next
        if not shot:
            self._next = index + 1
        elif not _KEY.fullmatch(key):
            index -= 1
        lost = part_lost(self._seed, index, self._camera, self._lose, shot) if self._lose else False
        if self._closed.is_set() or lost:
            return None
        return self._stamper.frame(self._picture(index, shot), key, now, shot if self._shots else None)

    def _picture(self, index: int, shot: int) -> Image:
        image = self._pool[index % len(self._pool)] if self._pool else self._render(index)
        return grazing_light(image) if shot else image

    def _render(self, index: int) -> Image:
        image, _ = render_part(
            self._seed, index, self._width, self._height, self._rate, self._good_first, self._shift,
            self._angle, self._cameras, self._camera,
        )  # fmt: skip
        image.flags.writeable = False
        return image

    def close(self) -> None:
        """End the stream."""
        self._closed.set()
