"""`folder:///directory?loop=0&fps=0`: every image under a directory, sorted by path, one part each.

The part key is the path relative to the directory; from the second lap on "#2", "#3", ... is appended.
Of a camera with shots so many files in succession are one part, which has the key of the first. Asked to
take a picture of a part whose key is a file's, it takes that file, else the next.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from edge_ad.capture.images import list_images, printable, read_image
from edge_ad.capture.pixels import file_rule
from edge_ad.capture.source import Clock, Pacer, Stamper, parse_uri
from edge_ad.config import Camera
from edge_ad.errors import CaptureError
from edge_ad.frame import Frame
from edge_ad.verdict import Reason


class FolderSource:
    """Image files as a camera. A file that cannot be read is a frame with fault `unreadable`."""

    live = False
    skipped = 0  # it waits for its reader

    def __init__(self, camera: Camera, base: Path, clock: Clock = time.monotonic_ns) -> None:
        uri = parse_uri(camera, {"loop": 0, "fps": 0.0})
        self._rule = file_rule(camera.pixel_format, camera.bit_depth)
        self.name = camera.name
        self.pixel_rule_name = self._rule.name
        self.directory = (base / Path(uri.path).expanduser()).absolute()
        self._loop = bool(uri.integer("loop"))
        self._max_pixels = int(camera.max_megapixels * 1e6)
        self._stamper = Stamper(camera.name, clock)
        self._closed = threading.Event()
        self._pacer = Pacer(uri.number("fps"), clock, self._closed.wait)
        self._shots = len(camera.shots)
        self._files: list[Path] = []
        self._places: dict[str, int] = {}
        self._next = 0

    def open(self) -> None:
        """List the files. Raises CaptureError when there is no directory, or no image in it."""
        self._closed.clear()
        self._files = list_images(self.directory)
        self._places = {printable(f.relative_to(self.directory)): i for i, f in enumerate(self._files)}
        self._next = 0

    def read(self) -> Frame | None:
        """The next file as a frame; None after the last one."""
        if self._closed.is_set() or (self._next >= len(self._files) and not self._loop):
            return None
        self._pacer.pace()
        lap, place = divmod(self._next, len(self._files))
        path = self._files[place]
        self._next += 1
        shot = place % self._shots if self._shots else None
        first = self._files[place - (shot or 0)]
        key = printable(first.relative_to(self.directory)) + (f"#{lap + 1}" if lap else "")
        return self._frame(path, key, shot)

    def take(self, key: str, shot: int) -> Frame | None:
        """The file that the key names, else the next; None after the last one."""
        place = self._places.get(key)
        if place is not None:
            self._next = place + shot
        if self._closed.is_set() or (self._next >= len(self._files) and not self._loop):
            return None
        path = self._files[self._next % len(self._files)]
        self._next += 1
        return self._frame(path, key, shot if self._shots else None)

    def _frame(self, path: Path, key: str, shot: int | None) -> Frame:
        # The part "arrives" before its file is decoded, as a camera's trigger precedes the transfer.
        now = self._stamper.clock()
        try:
            image = read_image(path, self._rule, self._max_pixels)
        except CaptureError as error:
            return self._stamper.fault(Reason.UNREADABLE, str(error), key, now, shot)
        return self._stamper.frame(image, key, now, shot)

    def close(self) -> None:
        """End the stream."""
        self._closed.set()
