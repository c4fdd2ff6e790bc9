"""The inspection thread: takes parts, judges them, hands the verdicts over. It waits for parts only."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.bundle import Bundle
from edge_ad.daemon.cameras import CameraFeed
from edge_ad.daemon.collecting import Collector
from edge_ad.daemon.parts import Part, PartQueue
from edge_ad.daemon.publishing import Publisher
from edge_ad.delivery.outcome import Outcome
from edge_ad.evidence.writer import EvidenceWriter
from edge_ad.frame import Frame, Image
from edge_ad.verdict import Decision, Reason, Verdict, fault

ENGINE_FAILURES = 3  # in a row, then the inspector is built anew


class PartInspector(Protocol):
    """What the loop needs of an `Inspector`; a wrapper with these may stand in for it."""

    @property
    def bundle(self) -> Bundle:
        """What it judges by."""
        ...

    @property
    def identity(self) -> EngineIdentity:
        """What scores."""
        ...

    @property
    def stands_in_for(self) -> str:
        """The engine that failed, where this one has its place; else empty."""
        ...

    @property
    def cameras(self) -> Sequence[str]:
        """Order of a part's images."""
        ...

    @property
    def stamps(self) -> Sequence[int]:
        """Times of the last part, ns: start, located, preprocessed, scored, judged."""
        ...

    def inspect_part(self, images: Sequence[Image]) -> Verdict:
        """Judge one image per camera."""
        ...

    def warm_up(self) -> None:
        """Make the first part as quick as the others."""
        ...

    def close(self) -> None:
        """Release the engine."""
        ...


class Active:
    """What parts are judged by, swapped as one: the inspector (None without a bundle), the product.
    `known`: the station has such a product; `since_ns`: parts triggered earlier are another's."""

    def __init__(
        self,
        inspector: PartInspector | None,
        product: str,
        feeds: Sequence[CameraFeed],
        known: bool = True,
        since_ns: int = 0,
    ) -> None:
        self.inspector = inspector
        self.product = product
        self.known = known
        self.since_ns = since_ns
        self.bundle = ""
        self.engine = ""
        self.degraded = False
        self.cameras: tuple[str, ...] = ()  # of the bundle
        self.views: list[tuple[int, CameraFeed, str]] = []  # place in Part.frames, feed, pixel rule
        if inspector is not None:
            places = [(picture, feed) for feed in feeds for picture in feed.pictures]
            where = {picture: (place, feed) for place, (picture, feed) in enumerate(places)}
            rules = inspector.bundle.manifest.preprocess.cameras
            self.bundle = inspector.bundle.sha256
            self.engine = inspector.identity.key
            self.degraded = bool(inspector.stands_in_for)
            self.cameras = tuple(inspector.cameras)
            self.views = [(*where[c], rules[c].pixel_rule) for c in inspector.cameras]


class InspectionLoop:
    """One thread runs `run`; others set `collector` and `evidence`, `swap` what judges, `abandon` or
    `take_over`.

    Whoever hands a part's verdict over holds `_turn`, so that there is one, whatever happens at the end.
    """

    def __init__(
        self,
        parts: PartQueue,
        publisher: Publisher,
        active: Active,
        station: str,
        epoch: str,
        deadline_ns: int,
        clock: Callable[[], int],
        ask_rebuild: Callable[[PartInspector, str], None],
    ) -> None:
        self.seq = 0
        self.rejects = 0
        self.active = active
        self.collector: Collector | None = None
        self.evidence: EvidenceWriter | None = None
        self._parts = parts
        self._publisher = publisher
        self._name = f"{station}-{epoch}"
        self._deadline_ns = deadline_ns
        self._clock = clock
        self._ask_rebuild = ask_rebuild
        self._failures = 0
        self._abandoned = False
        self._ended = False
        self._turn = threading.Lock()
        self._current: Part | None = None  # the part at hand
        self._offered: deque[tuple[Active, threading.Event]] = deque()

    def swap(self, active: Active, timeout_s: float) -> bool:
        """Put `active` in use before the next part; True once the old one is free to be closed.

        Waits; for one caller at a time.
        """
        swapped = threading.Event()
        self._offered.append((active, swapped))
        for _ in range(max(1, int(timeout_s / 0.1))):
            if swapped.wait(0.1):
                return True
            if self._ended:
                break
        try:
            self._offered.pop()
        except IndexError:  # taken in this very moment
            return swapped.wait()
        return False

    def abandon(self) -> None:
        """From now on every part is FAULT `stopped`."""
        self._abandoned = True

    def run(self) -> None:
        """Judge parts until there are no more."""
        try:
            self._run()
        finally:
            self._ended = True

    def _run(self) -> None:
        while True:
            part = self._parts.take(0.1)
            if self._offered:
                with suppress(IndexError):  # withdrawn in this very moment
                    self._accept(*self._offered.pop())
            if part is not None:
                self.judge(part)
            elif self._parts.finished:
                return

    def _accept(self, active: Active, swapped: threading.Event) -> None:
        self.active = active
        self._failures = 0
        swapped.set()

    def judge(self, part: Part) -> None:
        """Judge one part and hand its verdict over."""
        with self._turn:
            self._current = part
        start = self._clock()
        active = self.active
        verdict, asked = self._verdict(part, active)
        now = self._clock()
        if verdict.decision is not Decision.FAULT and now - part.t_trigger_ns > self._deadline_ns:
            verdict = replace(verdict, decision=Decision.FAULT, reason=Reason.LATE)
        stages = (0, 0, 0, 0)
        if asked and active.inspector is not None and verdict.reason is not Reason.ENGINE:
            began, located, prepared, scored, judged = active.inspector.stamps
            stages = (located - began, prepared - located, scored - prepared, judged - scored)
        with self._turn:
            if self._current is part:  # else it was answered by `take_over`
                self._current = None
                self._hand_over(part, verdict, now, (start - part.t_queued_ns, *stages), asked)

    def take_over(self) -> None:
        """For a thread that is stuck or dead: the caller answers what it has left, FAULT `stopped`."""
        self._abandoned = self._ended = True
        with self._turn:
            left, self._current = self._current, None
            while left is not None or (left := self._parts.take(0.0)) is not None:
                now = self._clock()
                self._hand_over(left, fault(Reason.STOPPED), now, (now - left.t_queued_ns, 0, 0, 0, 0))
                left = None

    def _hand_over(
        self,
        part: Part,
        verdict: Verdict,
        now: int,
        stages_ns: tuple[int, int, int, int, int],
        asked: bool = False,
    ) -> None:
        self.seq += 1
        self.rejects += not verdict.passed
        # A verdict that waits must not hold the features that its maps would be made of.
        verdict = replace(verdict, map_source=None)
        outcome = Outcome(
            self.seq,
            part.key or f"{self._name}-{self.seq:08d}",
            part.t_trigger_ns,
            part.t_wall_ns,
            now,
            verdict,
            self.active.product,
            self.active.bundle,
            self.rejects,
            stages_ns,
            self.active.cameras,
            self.active.engine,
            self.active.degraded,
            asked,
        )
        self._publisher.offer(outcome)
        if self.evidence is not None and not verdict.passed:
            self.evidence.offer(part.frames, outcome)

    def _verdict(self, part: Part, active: Active) -> tuple[Verdict, bool]:
        """The verdict but for its lateness, and whether an inspector was asked."""
        if self._abandoned:
            return fault(Reason.STOPPED), False
        if not active.known:
            return fault(Reason.UNKNOWN_PRODUCT, detail=f"product {active.product!r}"), False
        if part.t_trigger_ns < active.since_ns:
            return fault(Reason.CHANGEOVER, detail=f"now {active.product!r} is made"), False
        collector = self.collector
        collecting = collector is not None and collector.active
        if active.inspector is None and not collecting:
            return fault(Reason.UNCALIBRATED), False
        frames: list[Frame] = []
        for frame in part.frames:
            if frame is None:
                return fault(Reason.MISSING_VIEW), False
            if frame.image is None or frame.fault:
                return fault(Reason(frame.fault or Reason.UNREADABLE), detail=frame.detail), False
            frames.append(frame)
        if collecting and collector is not None:
            collector.offer(frames)
            return fault(Reason.CALIBRATING), False
        assert active.inspector is not None
        return self._inspect(frames, active, active.inspector)

    def _inspect(
        self, frames: Sequence[Frame], active: Active, inspector: PartInspector
    ) -> tuple[Verdict, bool]:
        images: list[Image] = []
        for place, feed, rule in active.views:
            if feed.pixel_rule != rule:
                detail = f"camera {feed.name}: pixel rule {feed.pixel_rule!r}, the bundle has {rule!r}"
                return fault(Reason.PIXEL_FORMAT, detail=detail), False
            image = frames[place].image
            assert image is not None
            images.append(image)
        try:
            verdict = inspector.inspect_part(images)
        except Exception as error:  # noqa: BLE001 - the thread's top: a failing engine is FAULT
            self._failures += 1
            if self._failures % ENGINE_FAILURES == 0:
                why = f"{self._failures} engine failures in a row, the last: {error}"
                self._ask_rebuild(inspector, why)
            return fault(Reason.ENGINE, detail=str(error)), True
        self._failures = 0
        return verdict, True
