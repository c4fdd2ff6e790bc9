"""Keeping good parts for a calibration: frames to lossless files, in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

from edge_ad.calibration_set import encode_frame
from edge_ad.errors import DeviceError
from edge_ad.frame import Frame, Image

_QUEUED = 8  # parts; pictures are large


class Collector:
    """Writes `wanted` parts below `directory`: 000123.png, or CAMERA/000123.png with several cameras.

    `offer` never waits: a part that the disk has no time for is dropped and counted. A disk that
    refuses ends the collection; `error` says why.
    """

    def __init__(
        self, directory: Path, wanted: int, cameras: Sequence[str], clock: Callable[[], int]
    ) -> None:
        self.directory = directory
        self.wanted = wanted
        self.collected = 0
        self.dropped = 0
        self.error = ""
        self._offered = 0
        self._clock = clock
        self._started_ns = clock()
        self._ended_ns = 0
        self._folders = [directory / name for name in cameras] if len(cameras) > 1 else [directory]
        self._queue: SimpleQueue[list[Image] | None] = SimpleQueue()
        try:
            for folder in self._folders:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeviceError(
                f"{directory}: cannot be made ({error.strerror}); give a writable path"
            ) from error
        self._thread = threading.Thread(target=self._run, name="collect", daemon=True)
        self._thread.start()

    @property
    def active(self) -> bool:
        """True while parts are still wanted."""
        return not self.error and not self._ended_ns and self._offered < self.wanted

    @property
    def done(self) -> bool:
        """True when nothing more will be written."""
        return not self._thread.is_alive()

    def offer(self, frames: Sequence[Frame]) -> None:
        """Take a part's frames. Never blocks."""
        images = [frame.image for frame in frames if frame.image is not None]
        if self._queue.qsize() >= _QUEUED:
            self.dropped += 1
            return
        self._queue.put(images)
        self._offered += 1
        if self._offered >= self.wanted:
            self._queue.put(None)

    def cancel(self) -> None:
        """Stop after what was taken has been written. Idempotent."""
        self.wanted = min(self.wanted, self._offered)
        self._queue.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait until nothing more will be written."""
        self._thread.join(timeout_s)

    def progress(self) -> dict[str, object]:
        """For `status`: collected, wanted, parts per second, dropped, done, error."""
        seconds = ((self._ended_ns or self._clock()) - self._started_ns) / 1e9
        return {
            "collected": self.collected,
            "wanted": self.wanted,
            "rate": self.collected / seconds if seconds > 0 else 0.0,
            "dropped": self.dropped,
            "done": self.done,
            "error": self.error,
            "directory": str(self.directory),
        }

    def _run(self) -> None:
        while (images := self._queue.get()) is not None:
            try:
                for folder, image in zip(self._folders, images, strict=True):
                    _write(folder / f"{self.collected:06d}.png", image)
            except OSError as error:
                self.error = f"{self.directory}: cannot write a frame ({error}); free some space"
                break
            except Exception as error:  # noqa: BLE001 - the thread's top: else COLLECTING had no end
                self.error = f"{self.directory}: cannot write a frame ({error!r}); calibrate again"
                break
            self.collected += 1
        self._ended_ns = self._clock()


def _write(path: Path, image: Image) -> None:
    """Lossless, quickly, and never half a file under its own name."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(encode_frame(image))
    temporary.replace(path)
