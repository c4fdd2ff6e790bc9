"""The inspection thread: takes parts, judges them, hands the verdicts over. It waits for parts only."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from edge_ad import failpoints
from edge_ad.daemon.active import Active, PartInspector
from edge_ad.daemon.challenge import Challenges, Round
from edge_ad.daemon.collecting import Collector
from edge_ad.daemon.part import Part, Parts
from edge_ad.daemon.publishing import Publisher
from edge_ad.delivery.outcome import Outcome
from edge_ad.delivery.verdicts import VerdictServer
from edge_ad.evidence.writer import EvidenceWriter
from edge_ad.frame import Frame, Image
from edge_ad.verdict import Decision, Reason, Verdict, fault

ENGINE_FAILURES = 3  # in a row, then the inspector is built anew
# Nothing that the line could be stopped for.
_NOT_LEARNT = (Reason.UNCALIBRATED, Reason.CALIBRATING, Reason.CHALLENGE)


class Taker(Protocol):
    """Looks at some of the parts that were judged, where it wants to."""

    wants: bool

    def take(self, frames: Sequence[Frame | None], outcome: Outcome) -> None:
        """A part; must not block."""
        ...


class InspectionLoop:
    """One thread runs `run`; others set `collector`, `evidence`, `verdicts`, `takers`, `challenges` and
    `announced`, `swap` what judges, `abandon` or `take_over`.

    Whoever hands a part's verdict over holds `_turn`, so that there is one, whatever happens at the end.
    """

    def __init__(
        self,
        parts: Parts,
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
        self.missed = 0  # parts whose verdict came after the deadline
        self.faults = 0  # in a row
        self.line_stop_after = 0  # of them; 0: never
        self.progress = 0  # turns of the loop
        self.progress_ns = clock()  # when the last one began
        self.active = active
        self.announced = 0, 0  # products so far; since when what is in use may not be the last (ns)
        self.collector: Collector | None = None
        self.evidence: EvidenceWriter | None = None
        self.verdicts: VerdictServer | None = None
        self.takers: tuple[Taker, ...] = ()
        self.challenges: Challenges | None = None
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
        self._offer = threading.Event()

    def swap(self, active: Active, timeout_s: float) -> bool:
        """Put `active` in use before the next part; True once the old one is free to be closed.

        Waits; for one caller at a time.
        """
        swapped = threading.Event()
        self._offered.append((active, swapped))
        self._offer.set()
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

    @property
    def line_stop(self) -> bool:
        """Whether so many parts in a row were FAULT that the line should stop."""
        return 0 < self.line_stop_after <= self.faults

    def progress_age_s(self) -> float:
        """Seconds since the thread last came by: more than a part takes means that it hangs."""
        return (self._clock() - self.progress_ns) / 1e9

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
            self.progress += 1
            self.progress_ns = self._clock()
            if self._offered and not self._before_offer(part):
                self._take_offer()
            if part is not None:
                if part.product and part.product != self.active.product:
                    self._change_over(part)
                self.judge(part)
            elif self._parts.finished:
                return

    def _take_offer(self) -> None:
        with suppress(IndexError):  # withdrawn in this very moment
            self._accept(*self._offered.pop())

    def _before_offer(self, part: Part | None) -> bool:
        """Whether the part is still of the product of before, which judges it then."""
        if part is None or part.product != self.active.product:
            return False
        with suppress(IndexError):
            return self._offered[-1][0].product != part.product
        return False

    def _change_over(self, part: Part) -> None:
        """The part is the first of a product that is being changed over to: wait for what judges it as
        long as it may take. Behind it come only parts like it."""
        if self.collector is not None and self.collector.active:
            return
        end = part.t_trigger_ns + self._deadline_ns // 2
        while not self._abandoned and part.fault is Reason.NONE:
            self._offer.clear()
            if self._offered:
                self._take_offer()
            self.progress_ns = now = self._clock()
            left_ns = end - now
            if part.product == self.active.product or left_ns <= 0:
                return
            self._offer.wait(min(left_ns / 1e9, 0.1))

    def _accept(self, active: Active, swapped: threading.Event) -> None:
        self.active = active
        self._failures = 0
        swapped.set()

    def judge(self, part: Part) -> None:
        """Judge one part and hand its verdict over."""
        with self._turn:
            self._current = part
        if failpoints.active:
            failpoints.active.hit("inspect.captured")
        start = self._clock()
        if failpoints.active:
            failpoints.active.hit("inspect.before")
        active, known = self.active, self._round(part)
        verdict, asked = self._verdict(part, active, known is not None)
        now = self._clock()
        if now - part.t_trigger_ns > self._deadline_ns:
            self.missed += 1
            if verdict.decision is not Decision.FAULT:
                verdict = replace(verdict, decision=Decision.FAULT, reason=Reason.LATE)
        stages = (0, 0, 0, 0)
        if asked and active.inspector is not None and verdict.reason is not Reason.ENGINE:
            began, located, prepared, scored, judged = active.inspector.stamps
            stages = (located - began, prepared - located, scored - prepared, judged - scored)
        with self._turn:
            if self._current is part:  # else it was answered by `take_over`
                self._current = None
                if part.number >= 0:
                    reason, detail = self._parts.settle(part)
                    if reason is not Reason.NONE and verdict.decision is not Decision.FAULT:
                        verdict = replace(verdict, decision=Decision.FAULT, reason=reason, detail=detail)
                kept = self.verdicts
                if kept is not None and kept.full and verdict.passed:
                    verdict = replace(
                        verdict, decision=Decision.FAULT, reason=Reason.NOT_KEPT, detail=kept.full
                    )
                self._hand_over(part, verdict, now, (start - part.t_queued_ns, *stages), asked, known)

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
        known: Round | None = None,
    ) -> None:
        self.seq += 1
        judged = verdict
        if known is not None and self.challenges is not None:
            verdict = self.challenges.shown(known, verdict)
        self.rejects += not verdict.passed
        if judged.decision is not Decision.FAULT:
            self.faults = 0
        elif known is None and judged.reason not in _NOT_LEARNT:
            self.faults += 1
        # A verdict that waits must not hold the features that its maps would be made of; only those that
        # wait for the evidence do, within its bounds.
        maps, verdict = verdict.map_source, replace(verdict, map_source=None)
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
            part.trigger,
            part.count,
            part.encoder,
            part.advisory,
            self.line_stop,
            known is not None,
        )
        if self.verdicts is not None:  # first: the gate waits for it
            self.verdicts.offer(outcome)
        self._publisher.offer(outcome)
        if self.evidence is not None:
            self.evidence.offer(part.frames, outcome, maps, self.active.drawer)
        if known is not None and self.challenges is not None:
            self.challenges.take(known, outcome, judged)
        elif asked:
            for taker in self.takers:
                if taker.wants:
                    taker.take(part.frames, outcome)

    def _round(self, part: Part) -> Round | None:
        """The challenge that the part is of."""
        one = None if self.challenges is None else self.challenges.round
        return None if one is None or part.t_trigger_ns < one.began_ns else one

    def _verdict(self, part: Part, active: Active, known: bool) -> tuple[Verdict, bool]:
        """The verdict but for its lateness, and whether an inspector was asked. `known`: the part is of
        a challenge."""
        if self._abandoned:
            return fault(Reason.STOPPED), False
        if part.fault is not Reason.NONE:
            return fault(part.fault, detail=part.detail), False
        if part.product and part.product != active.product:
            detail = f"of product {part.product!r}, while {active.product!r} is made"
            return fault(Reason.CHANGEOVER, detail=detail), False
        if not active.known:
            return fault(Reason.UNKNOWN_PRODUCT, detail=f"product {active.product!r}"), False
        if not part.product and self._between_products(part, active):
            return fault(Reason.CHANGEOVER, detail=f"{active.product!r} judges"), False
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
            if not known:  # who knows what it is
                collector.offer(frames)
            return fault(Reason.CALIBRATING), False
        guard = self.challenges
        if not known and guard is not None and guard.guards and active.judge not in guard.allowed:
            return fault(Reason.CHALLENGE, detail="'edge-ad challenge' begins a round"), False
        assert active.inspector is not None
        return self._inspect(frames, active, active.inspector)

    def _between_products(self, part: Part, active: Active) -> bool:
        """Whether it was triggered before the product that is in use was announced, or after another
        one was that is not in use yet."""
        order, since_ns = self.announced
        if active.order < order and part.t_trigger_ns >= since_ns:
            return True
        return part.t_trigger_ns < active.since_ns

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
            if failpoints.active:
                failpoints.active.hit("inspect.raise")
            verdict = inspector.inspect_part(images)
        except Exception as error:  # noqa: BLE001 - the thread's top: a failing engine is FAULT
            self._failures += 1
            if self._failures % ENGINE_FAILURES == 0:
                why = f"{self._failures} engine failures in a row, the last: {error}"
                self._ask_rebuild(inspector, why)
            return fault(Reason.ENGINE, detail=str(error)), True
        self._failures = 0
        return verdict, True
