"""Announced parts: each trigger becomes one part with the frames that are provably its own.

A part is announced by `trigger`, and comes out of `take` exactly once, in the order of the triggers:
with all its frames, or with what is wrong with it. A camera that takes a picture when it is asked is
asked with the part's number, and its frame bears it. The frames of other cameras are matched by time: a
frame is of the one trigger in whose window, from `early_ns` before it to `frame_ns` after it, it was
taken. Where windows overlap, or a window holds more frames than the part has pictures, nothing is proven
and all parts concerned are FAULT; so the time between two parts must be more than a window.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from edge_ad.capture.shots import Place
from edge_ad.daemon.announced import Announced, Answer, Asked, Call, TriggeredLane
from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.part import Part
from edge_ad.frame import Frame
from edge_ad.verdict import Reason

MOST_WAITING = 4096  # parts with and without pictures
MOST_KEYS = 8192  # of the epoch's last parts
_LONG = 3600.0  # seconds


class TriggeredParts:
    """Where triggers announce parts, capture threads put frames and the inspection thread takes parts.
    Thread safe. `limit` parts may wait with their pictures; the next is FAULT `overflow`, without."""

    def __init__(
        self,
        lanes: Sequence[TriggeredLane],
        limit: int,
        frame_ns: int,
        early_ns: int,
        clock: Callable[[], int],
        kind: str = "message",
    ) -> None:
        self.lanes = lanes
        self.join_ns = frame_ns  # the name that captures know it by
        self.count = 0  # triggers whose parts have a verdict, or will have one
        self.ambiguous = 0  # frames that could be of several parts, or were one too many
        self.held = 0  # parts that wait with their pictures, or for them
        self._limit = limit
        self._frame_ns = frame_ns
        self._early_ns = early_ns
        self._clock = clock
        self._kind = kind
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._request = threading.Condition(self._lock)
        self._closed = False
        self._waiting: deque[Announced] = deque()
        self._recent: deque[Announced] = deque(maxlen=2 * MOST_WAITING)  # whose windows may be open
        self._keys: OrderedDict[str, Announced] = OrderedDict()
        self._at_hand: Announced | None = None
        self._pictures = 0
        for place, lane in enumerate(lanes):
            lane.place, lane.first = place, self._pictures
            self._pictures += lane.shots

    def trigger(self, call: Call) -> Answer:
        """Announce a part. Never waits."""
        with self._lock:
            if self._closed:
                return Answer(False, "not_ready", "the daemon is stopping")
            if len(self._waiting) >= MOST_WAITING:
                text = f"{MOST_WAITING} parts wait for their verdict; this one has none"
                return Answer(False, Reason.OVERFLOW.value, text)
            fault, detail = call.fault, call.detail
            first = self._keys.get(call.key)
            if first is not None:
                # A PASS under this key could be either part's.
                fault, detail = Reason.KEY_REUSED, f"key {call.key!r} was announced twice"
                self._spoil(first, fault, detail)
            elif fault is Reason.NONE and self.held >= self._limit:
                fault, detail = Reason.OVERFLOW, f"{self.held} parts were waiting (trigger.queue)"
            self.count += 1
            part = Announced(
                call, self.count, len(self.lanes), self._pictures, fault, detail, self._clock()
            )
            self._add(part)
            return Answer(True, fault.value, detail)

    def next_request(self, lane: TriggeredLane, timeout_s: float) -> Asked | None:
        """For the thread of a camera that is asked: the picture to take; None when none came in time."""
        with self._lock:
            if not lane.requests and not self._closed:
                self._request.wait(timeout_s)
            while lane.requests:
                asked = lane.requests.popleft()
                part = self._of_number(asked.number)
                # A picture that is taken too late shows another part.
                if part is not None and self._clock() - part.call.t_ns <= self._frame_ns:
                    return asked
            return None

    def put(self, lane: Lane, frame: Frame, opening: int) -> None:
        """A frame came: it goes to its part, or is counted as unmatched."""
        assert isinstance(lane, TriggeredLane)
        with self._lock:
            lane.down, lane.missed_parts = False, 0
            if lane.asked:
                part = None if frame.trigger is None else self._of_number(frame.trigger)
                if part is None or frame.t_trigger_ns - part.call.t_ns > self._frame_ns:
                    lane.unmatched += 1
                else:
                    self._place(part, lane, frame)
            else:
                self._match(lane, frame)
            self._ready.notify()

    def put_shot(self, lane: Lane, frame: Frame, opening: int, place: Place | None) -> None:
        """As `put`: which picture it is, the frame says, or the order within the part's window."""
        self.put(lane, frame, opening)

    def set_down(self, lane: Lane, down: bool) -> None:
        """Say that nothing is to be expected from the lane now, so that no part waits for it."""
        assert isinstance(lane, TriggeredLane)
        with self._lock:
            lane.down, lane.missed_parts = down, 0
            if down:
                lane.requests.clear()
            self._ready.notify()

    def end(self, lane: Lane) -> None:
        """Say that nothing will ever come again from the lane."""
        with self._lock:
            lane.ended = True
            self._ready.notify()

    def close(self) -> None:
        """Accept no further trigger."""
        with self._lock:
            self._closed = True
            self._ready.notify()
            self._request.notify_all()

    @property
    def finished(self) -> bool:
        """True when no trigger is accepted any more and every part was taken."""
        with self._lock:
            self._closed |= all(lane.ended for lane in self.lanes)
            return self._closed and not self._waiting

    def take(self, timeout_s: float) -> Part | None:
        """The next part; None when there is none in time, or never again (see `finished`)."""
        end = self._clock() + int(timeout_s * 1e9)
        with self._lock:
            while True:
                now = self._clock()
                self._drop_early(now)
                wait_s = self._wait_s(self._waiting[0], now) if self._waiting else _LONG
                if wait_s <= 0:
                    return self._take()
                left_s = (end - now) / 1e9
                if left_s <= 0 or (self._closed and not self._waiting):
                    return None
                self._ready.wait(min(left_s, wait_s))

    def settle(self, part: Part) -> tuple[Reason, str]:
        """See `Parts.settle`."""
        with self._lock:
            announced = self._at_hand
            if announced is None or announced.number != part.number:
                return Reason.NONE, ""
            announced.settled = True
            return announced.fault, announced.detail

    # The lock must be held by the callers of what follows.

    def _add(self, part: Announced) -> None:
        self._keys.setdefault(part.call.key, part)
        if len(self._keys) > MOST_KEYS:
            self._keys.popitem(last=False)
        # As long as a part waits, those whose windows overlap its own contend for its frames.
        oldest = self._waiting[0] if self._waiting else part
        past_ns = min(oldest.call.t_ns, part.call.t_ns) - 2 * self._frame_ns - self._early_ns
        while self._recent and self._recent[0].call.t_ns < past_ns:
            self._recent.popleft()
        self._waiting.append(part)
        self._recent.append(part)
        self.held += part.with_pictures
        for lane in self.lanes:
            if not lane.asked:
                self._look_back(part, lane)
            elif part.with_pictures and not lane.silent_for_now:
                lane.requests.append(Asked(part.number, part.call.key))
        self._request.notify_all()
        self._ready.notify()

    def _look_back(self, part: Announced, lane: TriggeredLane) -> None:
        """Frames that came before their trigger: those that wait for one, and those that another part
        has and that may be this one's."""
        begin_ns = part.call.t_ns - self._early_ns
        for other in tuple(self._recent):
            if other is not part and other.last_ns[lane.place] >= begin_ns:
                self._doubt((part, other), lane)
        early, lane.early = lane.early, deque()
        for frame in early:
            self._match(lane, frame)

    def _match(self, lane: TriggeredLane, frame: Frame) -> None:
        at = frame.t_trigger_ns
        candidates = [
            part
            for part in self._recent
            if part.call.t_ns - self._early_ns <= at <= part.call.t_ns + self._frame_ns
        ]
        if not candidates:
            lane.early.append(frame)
            if len(lane.early) > lane.limit:
                lane.early.popleft()
                lane.unmatched += 1
        elif len(candidates) == 1:
            self._place(candidates[0], lane, frame)
        else:
            lane.unmatched += 1
            for part in candidates:
                part.last_ns[lane.place] = max(part.last_ns[lane.place], at)
            self._doubt(candidates, lane)

    def _place(self, part: Announced, lane: TriggeredLane, frame: Frame) -> None:
        """Put a frame to the one part that it can be of."""
        place = lane.place
        shot = part.seen[place] if frame.shot is None else frame.shot
        part.seen[place] += 1
        part.last_ns[place] = max(part.last_ns[place], frame.t_trigger_ns)
        if part.seen[place] > lane.shots or shot >= lane.shots:
            lane.unmatched += 1
            self._doubt((part,), lane)
        elif part.taken:
            lane.unmatched += 1
        elif part.fault is not Reason.NONE:
            lane.skipped += 1  # what cannot pass holds no pictures
        elif part.frames[lane.first + shot] is not None:
            lane.unmatched += 1
            self._doubt((part,), lane)
        else:
            part.frames[lane.first + shot] = frame
            part.t_queued_ns = self._clock()

    def _doubt(self, parts: Sequence[Announced], lane: TriggeredLane) -> None:
        self.ambiguous += 1
        if len(parts) == 1:
            detail = f"camera {lane.name}: more frames than the part has pictures"
        else:
            detail = (
                f"camera {lane.name}: a frame could be of {len(parts)} parts; frame_ms must be less "
                "than the time between two"
            )
        for part in parts:
            self._spoil(part, Reason.NO_FRAME, detail)

    def _spoil(self, part: Announced, reason: Reason, detail: str) -> None:
        part.spoil(reason, detail)
        if part.with_pictures and not part.taken:
            part.with_pictures = False
            part.frames = [None] * self._pictures
            self.held -= 1

    def _drop_early(self, now: int) -> None:
        for lane in self.lanes:
            while lane.early and lane.early[0].t_trigger_ns + self._early_ns < now:
                lane.early.popleft()
                lane.unmatched += 1

    def _of_number(self, number: int) -> Announced | None:
        """The waiting part of this number."""
        place = number - self._waiting[0].number if self._waiting else -1
        return self._waiting[place] if 0 <= place < len(self._waiting) else None

    def _missing(self, part: Announced) -> list[TriggeredLane]:
        return [lane for lane in self.lanes if None in part.frames[lane.first : lane.first + lane.shots]]

    def _wait_s(self, part: Announced, now: int) -> float:
        """How long to wait for the oldest part's frames at most."""
        if part.fault is not Reason.NONE:
            return 0.0
        missing = self._missing(part)
        if not missing or any(lane.silent_for_now for lane in missing):
            return 0.0
        return (part.call.t_ns + self._frame_ns - now) / 1e9

    def _take(self) -> Part:
        part = self._waiting.popleft()
        if part.fault is Reason.NONE and (missing := self._missing(part)):
            names = ", ".join(lane.name for lane in missing)
            if self._closed and any(lane.ended for lane in missing):
                part.spoil(Reason.STOPPED, f"camera {names}: no frame before the stop")
            elif any(lane.silent_for_now for lane in missing):
                part.spoil(Reason.NO_FRAME, f"camera {names}: does not deliver")
            else:
                for lane in missing:
                    lane.missed_parts += 1
                limit = f"{self._frame_ns / 1e6:g} ms after its trigger"
                part.spoil(Reason.NO_FRAME, f"camera {names}: no frame within {limit}")
        part.taken = True
        self.held -= part.with_pictures
        self._at_hand = part
        return part.part(self._kind)
