"""The thread that keeps evidence: takes what the inspection thread offers, has it encoded, writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_ad.config import Evidence
from edge_ad.delivery.outcome import Outcome, messages
from edge_ad.errors import EdgeAdError
from edge_ad.evidence.archive import Archive
from edge_ad.evidence.encode import Drawing, Encoder, Pictures
from edge_ad.evidence.entry import KINDS, NEAR, RECORD, REJECTS, SAMPLE, EntryRecord, Picture
from edge_ad.evidence.keeper import DISK, QUEUE, SPACE, Keeper
from edge_ad.frame import Frame, Image
from edge_ad.report.heat import PartDrawer
from edge_ad.verdict import Decision, Maps, Reason

# Parts that nobody looked at are no evidence; those of a round of known parts were looked at. Those of
# before a changeover would lie under the wrong product, collected ones are kept good parts already. What
# is FAULT on a full disk is good for the most part, and would take the room of those that are not.
NOT_LOOKED_AT = frozenset(
    {
        Reason.UNCALIBRATED, Reason.CALIBRATING, Reason.UNKNOWN_PRODUCT, Reason.CHANGEOVER,
        Reason.STOPPED, Reason.OVERFLOW, Reason.CHALLENGE, Reason.NOT_KEPT,
    }
)  # fmt: skip
# Why a part was not kept; PASSED: it had passed, and gave way to such as did not.
PASSED = "passed"
DRAWING = "drawing"  # why a map was not drawn, if not for the queue


@dataclass(frozen=True, slots=True)
class _Case:
    """A part to be kept: its frames that have a picture, the pixel rule of each, and their bytes; its
    maps, None where they are not to be drawn, and what of the bundle that judged draws them."""

    frames: list[tuple[str, Image]]
    rules: list[str]
    outcome: Outcome
    kind: str
    size: int
    maps: Callable[[], Maps] | None
    drawer: PartDrawer | None


@dataclass(slots=True)
class _Amount:
    """Of parts that wait."""

    parts: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.size += size
        self.parts += 1


class EvidenceWriter(Keeper[_Case]):
    """Owns the archive and its thread. `offer` is for the inspection thread: it never waits.

    `pictures` are those of a part, in the order of its frames, and what gives the pixel rule of each;
    `tell` takes one line per event and must not block. What cannot be kept is counted in `dropped` and
    told once, until something is kept again. Parts that were kept without their maps are counted in
    `undrawn`.
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
        super().__init__("evidence", settings)
        self.archive = archive or Archive(state)
        self.kept = dict.fromkeys(KINDS, 0)
        self._dropped = {QUEUE: 0, DISK: 0, SPACE: 0}  # each is counted by one thread
        self.undrawn = {QUEUE: 0, DRAWING: 0}
        self._gave_way = [0, 0]  # PASSED, counted by the inspection thread and by the evidence thread
        self._station = station
        self._epoch = epoch
        self._pictures = dict(pictures)
        self._tell = tell
        self._encoder = Encoder(tell)
        self._put, self._taken = _Amount(), _Amount()  # into and from the queue, each by one thread
        self._passed = 0  # PASS parts since the last one of the sample
        self._opened = False
        self._failing: set[str] = set()  # kinds, and DRAWING; and said

    @property
    def dropped(self) -> dict[str, int]:
        """Parts that were not kept, by why. Any thread."""
        return {**self._dropped, PASSED: sum(self._gave_way)}

    def offer(
        self,
        frames: Sequence[Frame | None],
        outcome: Outcome,
        maps: Callable[[], Maps] | None = None,
        drawer: PartDrawer | None = None,
    ) -> None:
        """Take a part that was judged, if it is one to keep; its maps are made and drawn later. Never
        blocks. The pictures are not copied: a source does not write to a frame again."""
        verdict, settings, kind = outcome.verdict, self._settings, REJECTS
        if settings.keep == "none":
            return
        if verdict.decision is Decision.PASS:
            kind = self._kind_of_pass(verdict.score, verdict.threshold, settings)
            if not kind:
                return
        elif verdict.reason in NOT_LOOKED_AT and not outcome.challenge:
            return
        seen = [
            (name, frame.image)
            for name, frame in zip(self._pictures, frames, strict=False)
            if frame and frame.image is not None
        ]
        if not seen:
            return
        if not settings.overlay or verdict.decision is Decision.FAULT:
            maps = None
        # What a map is made of is of the frame's size, too, where that has many tiles.
        size = sum(image.nbytes for _, image in seen) + getattr(maps, "nbytes", 0)
        fill = self._fill(settings, size)
        if kind is not REJECTS and fill > 0.5:
            self._gave_way[0] += 1  # the other half is for those that did not pass
            return
        if fill > 1:
            self._dropped[QUEUE] += 1
            return
        rules = [self._pictures[name]() for name, _ in seen]
        self._put.add(size)
        self._queue.put(_Case(seen, rules, outcome, kind, size, maps, drawer))

    def _fill(self, settings: Evidence, size: int = 0) -> float:
        """Share of what may wait that does, with a part of so many bytes more; one may always."""
        parts = self._put.parts - self._taken.parts
        if parts <= 0:
            return 0.0
        held = self._put.size - self._taken.size + size
        return max((parts + (size > 0)) / settings.queue, held / (settings.queue_megabytes * 1e6))

    def _kind_of_pass(self, score: float, threshold: float, settings: Evidence) -> str:
        """Why a part that passed is kept; "" for one that is not. A threshold may be negative."""
        if settings.near and score >= threshold - settings.near * abs(threshold):
            return NEAR
        if settings.sample:
            self._passed += 1
            if self._passed >= settings.sample:
                self._passed = 0
                return SAMPLE
        return ""

    def start(self) -> None:
        """Start the process that encodes, and the thread."""
        if self._settings.keep != "none":
            self._encoder.start()
        super().start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, within bounds; no part is judged any more. Idempotent."""
        self._encoder.hurry()
        super().close(timeout_s)

    def _give_up(self, left: int, timeout_s: float) -> None:
        self._dropped[QUEUE] += left
        self._tell(
            "warning", f"evidence: {left} parts not written within {timeout_s:g} s, one is being written"
        )

    def _run(self) -> None:
        try:
            self._empty_queue()
        finally:
            self._encoder.close()

    def _empty_queue(self) -> None:
        while (item := self._queue.get()) is not None and not self._abandoned:
            if isinstance(item, _Case):
                self._taken.add(item.size)
            try:
                self._open()
                if isinstance(item, Evidence):
                    self.archive.trim(item)
                else:
                    self._keep(item)
                while self.archive.told:
                    self._tell("warning", f"evidence: {self.archive.told.pop(0)}")
            except (OSError, EdgeAdError) as error:
                self._opened = False  # a person may have removed what was there
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
        drawing = self._drawing(case)
        encoded = self._encoder.encode(Pictures(dict(case.frames), drawing))
        if encoded.overlays:
            self._failing.discard(DRAWING)
        elif drawing is not None:
            self._not_drawn(encoded.undrawn)
        pictures = {
            camera: Picture(f"{camera}.png", rule, _shape(image))
            for (camera, image), rule in zip(case.frames, case.rules, strict=True)
        }
        overlays = {camera: f"{camera}.overlay.jpg" for camera in encoded.overlays}
        files = {pictures[camera].file: data for camera, data in encoded.frames.items()}
        files |= {overlays[camera]: data for camera, data in encoded.overlays.items()}
        header, body = messages(outcome, self._station, self._epoch)
        record = EntryRecord(number, header, body, list(outcome.cameras), pictures, case.kind, overlays)
        files[RECORD] = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
        if not self.archive.make_room(sum(map(len, files.values())), self._settings, case.kind):
            quota = "max" if case.kind == REJECTS else case.kind
            self._shed(
                SPACE if case.kind == REJECTS else PASSED,
                case,
                f"no room within evidence.{quota}_megabytes and evidence.min_free; free some space",
            )
            return
        self.archive.write(number, outcome.product, outcome.part, files, case.kind)
        self.kept[case.kind] += 1
        self._failing.discard(case.kind)

    def _drawing(self, case: _Case) -> Drawing | None:
        """None where there are no maps, or is no time for any."""
        if case.maps is None or case.drawer is None:
            return None
        if self._fill(self._settings) > 0.5:
            self.undrawn[QUEUE] += 1  # rather a part without it than none of the next
            return None
        verdict = case.outcome.verdict
        try:
            maps = case.maps()
        except Exception as error:  # noqa: BLE001 - a picture to look at must not cost the lossless ones
            self._not_drawn(repr(error))
            return None
        return Drawing(case.drawer, verdict.poses, maps, verdict.threshold)

    def _not_drawn(self, why: str) -> None:
        self.undrawn[DRAWING] += 1
        if why and DRAWING not in self._failing:
            self._tell("warning", f"evidence: a map was not drawn ({why}); please report this")
            self._failing.add(DRAWING)

    def _shed(self, why: str, item: _Case | Evidence, text: str) -> None:
        kind = REJECTS
        if isinstance(item, _Case):
            kind = item.kind
            if why == PASSED:
                self._gave_way[1] += 1
            else:
                self._dropped[why] += 1
        if kind not in self._failing:  # said once, not for every part
            self._tell("warning", f"evidence {self.archive.root}: {text}; parts are judged as before")
        self._failing.add(kind)


def _shape(image: Image) -> tuple[int, int, int]:
    return image.shape[0], image.shape[1], 1 if image.ndim == 2 else image.shape[2]
