"""The thread that keeps evidence: takes what the inspection thread offers, encodes and writes it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import msgspec

from edge_ad.calibration_set import encode_frame
from edge_ad.config import Evidence
from edge_ad.delivery.outcome import Outcome, messages
from edge_ad.errors import EdgeAdError
from edge_ad.evidence.archive import Archive
from edge_ad.evidence.entry import RECORD, EntryRecord, Picture
from edge_ad.frame import Frame, Image
from edge_ad.verdict import Decision, Reason

NICE = 10  # encoding gives way to inspecting
# Parts that nobody looked at are no evidence. Those of before a changeover would lie under the wrong
# product, collected ones are kept good parts already.
NOT_LOOKED_AT = frozenset(
    {
        Reason.UNCALIBRATED, Reason.CALIBRATING, Reason.UNKNOWN_PRODUCT, Reason.CHANGEOVER,
        Reason.STOPPED, Reason.OVERFLOW, Reason.CHALLENGE,
    }
)  # fmt: skip
QUEUE, DISK, SPACE = "queue", "disk", "space"  # why a part was not kept


@dataclass(frozen=True, slots=True)
class _Case:
    """A part to be kept: its frames that have a picture, and the pixel rule of each."""

    frames: list[tuple[str, Image]]
    rules: list[str]
    outcome: Outcome


class EvidenceWriter:
    """Owns the archive and its thread. `offer` is for the inspection thread: it never waits.

    `pictures` are those of a part, in the order of its frames, and what gives the pixel rule of each;
    `tell` takes one line per event and must not block. What cannot be kept is counted in `dropped` and
    told once, until something is kept again.
    """

    def __init__(
        self,
        state: Path,
        settings: Evidence,
        station: str,
        epoch: str,
        pictures: Mapping[str, Callable[[], str]],
        tell: Callable[[str, str], None],
        archive: Archive | None = None,
    ) -> None:
        self.archive = archive or Archive(state)
        self.kept = 0
        self.dropped = {QUEUE: 0, DISK: 0, SPACE: 0}  # each is counted by one thread
        self._settings = settings
        self._station = station
        self._epoch = epoch
        self._pictures = dict(pictures)
        self._tell = tell
        self._opened = False
        self._failing = False
        self._abandoned = False
        self._queue: SimpleQueue[_Case | Evidence | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._queue.put(self._settings)
        self._thread.start()

    def configure(self, settings: Evidence) -> None:
        """Keep by other settings from now on; what no longer has room goes."""
        self._settings = settings
        self._queue.put(settings)

    def offer(self, frames: Sequence[Frame | None], outcome: Outcome) -> None:
        """Take a part that was judged, if it is one to keep. Never blocks. The pictures are not copied:
        a source does not write to a frame again."""
        verdict, settings = outcome.verdict, self._settings
        if settings.keep == "none" or verdict.decision is Decision.PASS:
            return
        if verdict.reason in NOT_LOOKED_AT:
            return
        seen = [
            (name, frame.image)
            for name, frame in zip(self._pictures, frames, strict=False)
            if frame and frame.image is not None
        ]
        if not seen:
            return
        if self._queue.qsize() >= settings.queue:
            self.dropped[QUEUE] += 1
            return
        self._queue.put(_Case(seen, [self._pictures[name]() for name, _ in seen], outcome))

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, within bounds. Idempotent."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._abandoned = True  # it ends after the part at hand
            left = max(0, self._queue.qsize() - 1)
            self.dropped[QUEUE] += left
            self._tell("warning", f"evidence: {left} parts not written within {timeout_s:g} s")

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # on Linux a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (item := self._queue.get()) is not None and not self._abandoned:
            try:
                self._open()
                if isinstance(item, Evidence):
                    self.archive.make_room(0, item)
                else:
                    self._keep(item)
            except (OSError, EdgeAdError) as error:
                self._shed(DISK, item, f"cannot be written ({error}); look at the disk")
            except Exception as error:  # noqa: BLE001 - the thread's top: the next part may be kept
                self._shed(DISK, item, f"a part was lost ({error!r}); please report this")

    def _open(self) -> None:
        if not self._opened:
            self.archive.open()
            self._opened = True

    def _keep(self, case: _Case) -> None:
        """Raises OSError and DeviceError."""
        outcome, number = case.outcome, self.archive.new_number()
        files = {f"{camera}.png": encode_frame(image) for camera, image in case.frames}
        pictures = {
            camera: Picture(f"{camera}.png", rule, _shape(image))
            for (camera, image), rule in zip(case.frames, case.rules, strict=True)
        }
        header, body = messages(outcome, self._station, self._epoch)
        record = EntryRecord(number, header, body, list(outcome.cameras), pictures)
        files[RECORD] = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
        if not self.archive.make_room(sum(map(len, files.values())), self._settings):
            self._shed(
                SPACE,
                case,
                "no room within evidence.max_megabytes and evidence.min_free; free some space",
            )
            return
        self.archive.write(number, outcome.product, outcome.part, files)
        self.kept += 1
        self._failing = False

    def _shed(self, why: str, item: _Case | Evidence, text: str) -> None:
        if isinstance(item, _Case):
            self.dropped[why] += 1
        if not self._failing:  # said once, not for every part
            self._tell("warning", f"evidence {self.archive.root}: {text}; parts are judged as before")
        self._failing = True


def _shape(image: Image) -> tuple[int, int, int]:
    return image.shape[0], image.shape[1], 1 if image.ndim == 2 else image.shape[2]
