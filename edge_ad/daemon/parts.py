"""Frames of one or several cameras -> parts: the bounded queues between capture and inspection.

Frames of a part are joined by their index. Where cameras run free, the time of the trigger decides what
the index cannot: a frame more than `join_ms` after the part's first one belongs to a later part (its
camera missed a trigger), and from then on that camera counts one further. So `join_ms` must be less than
the time between two parts. A view that does not come in time is missing; the others do not wait longer.

Where sources know the part (a bar code, a trigger that counts) its key can join instead, `by_key`: the
frames of one key within `join_ms` are one part, whatever else was missed.

A camera that takes several pictures of a part has one entry for them in its queue. The part is taken
once all of them are there, another part has begun, or `join_ms` is over.

Where the line triggers the cameras, every frame is of a part that has a verdict: one that finds its
queue full waits without its picture, as FAULT `overflow`, and what the camera's counter says was lost is
FAULT `no_frame`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_ad.capture.shots import Place
from edge_ad.daemon.lanes import Entry, Lane
from edge_ad.daemon.part import Part
from edge_ad.frame import Frame
from edge_ad.verdict import Reason

_LONG = 3600.0  # seconds
REMEMBERED = 256  # parts whose late frames are known as such
MOST_WAITING = 4096  # entries of a lane, with and without pictures, where every part has a verdict


class PartQueue:
    """Where capture threads put frames and the inspection thread takes parts. Thread safe.

    `timed`: cameras run free, so time joins and times out; otherwise a part waits for all its views
    unless their camera is down.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        join_ns: int,
        timed: bool,
        clock: Callable[[], int],
        by_key: bool = False,
    ) -> None:
        self.lanes = lanes
        self.join_ns = join_ns
        self.trigger = "free"  # what makes a part
        self.advisory = False  # nothing proves that it is one
        self._by_key = by_key
        self._missed: dict[str, set[int]] = {}  # by key of the last parts, lanes that they lacked
        self._timed = timed
        self._clock = clock
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._closing = False
        self._next = 0  # number of the part being assembled
        self._last_trigger_ns = 0
        self._ahead: int | None = None  # the first camera's counter, of the part number

    def put(self, lane: Lane, frame: Frame, opening: int) -> None:
        """Queue a frame that is all its camera takes of a part. A full lane makes room by its policy:
        the caller waits, or the oldest goes."""
        with self._lock:
            if lane.every:
                self._put_every(lane, frame, opening)
                return
            self._make_room(lane)
            entry = Entry(frame, opening, self._clock(), frame.index, [frame], 0)
            lane.entries.append(entry)
            self._ready.notify()

    def _put_every(self, lane: Lane, frame: Frame, opening: int) -> None:
        """Lock must be held by caller."""
        missed = lane.missed(frame, opening)
        lane.lost += missed
        begin = (frame.counter or 0) - missed
        room = min(missed, max(0, MOST_WAITING - len(lane.entries)))
        for counter in range(begin, begin + room):
            lost = _without(frame, Reason.NO_FRAME, "the camera counted it, and its frame was lost")
            self._append(lane, replace(lost, counter=counter, part_key=None), opening, lost=True)
        lane.numbered += missed - room
        if frame.counter is None and lane.counter is not None:
            frame = replace(frame, counter=lane.counter)
        self._append(lane, frame, opening)
        self._ready.notify()

    def _append(self, lane: Lane, frame: Frame, opening: int, lost: bool = False) -> None:
        """Lock must be held by caller."""
        lane.down = False
        number = lane.numbered
        lane.numbered += 1
        if len(lane.entries) >= MOST_WAITING:
            lane.skipped += 1
            return
        frame = self._in_bounds(lane, frame)
        held = frame.image is not None
        lane.held += held
        entry = Entry(frame, opening, self._clock(), number, [frame], 0, held=held, lost=lost)
        lane.entries.append(entry)

    def _in_bounds(self, lane: Lane, frame: Frame) -> Frame:
        """The frame, without its picture where so many wait. Lock must be held by caller."""
        if lane.held < lane.limit or frame.image is None:
            return frame
        return _without(frame, Reason.OVERFLOW, f"{lane.limit} parts were waiting (trigger.queue)")

    def put_shot(self, lane: Lane, frame: Frame, opening: int, place: Place | None) -> None:
        """Queue one of the pictures that a camera takes of a part; `place` None: one too many."""
        with self._lock:
            if lane.every:
                lane.lost += lane.missed(frame, opening)
            if place is not None and place.begins:
                if lane.entries:
                    lane.entries[-1].closed = True
                    self._ready.notify()
                self._make_room(lane)
                frames: list[Frame | None] = [None] * lane.shots
                held = lane.held < lane.limit
                lane.held += held
                entry = Entry(frame, opening, self._clock(), place.part, frames, lane.shots, held=held)
                lane.entries.append(entry)
            if place is None or not lane.entries or lane.entries[-1].part != place.part:
                lane.unmatched += 1
                return
            entry = lane.entries[-1]
            if lane.every and not entry.held:
                frame = _without(frame, Reason.OVERFLOW, f"{lane.limit} parts were waiting")
                entry.frame = frame if place.begins else entry.frame
            entry.frames[place.shot] = frame
            entry.missing -= 1
            entry.t_queued_ns = self._clock()
            self._ready.notify()

    def _make_room(self, lane: Lane) -> None:
        """Lock must be held by caller."""
        if lane.every:
            while len(lane.entries) >= MOST_WAITING:
                gone = lane.entries.popleft()
                lane.held -= gone.held
                lane.skipped += len(gone.frames) - gone.missing
        elif lane.skip:
            while len(lane.entries) >= lane.limit:
                gone = lane.entries.popleft()
                lane.held -= gone.held
                lane.skipped += len(gone.frames) - gone.missing
        else:
            while len(lane.entries) >= lane.limit and not self._closing:
                self._room.wait()
        lane.down = False

    def set_down(self, lane: Lane, down: bool) -> None:
        """Say that nothing is to be expected from the lane now, so that no part waits for it."""
        with self._lock:
            lane.down = down
            self._ready.notify()

    def end(self, lane: Lane) -> None:
        """Say that nothing will ever come again from the lane."""
        with self._lock:
            lane.ended = True
            self._ready.notify()

    def close(self) -> None:
        """Let waiting producers put their last frame at once."""
        with self._lock:
            self._closing = True
            self._room.notify_all()

    @property
    def finished(self) -> bool:
        """True when every lane has ended and every part was taken."""
        with self._lock:
            return all(lane.ended and not lane.entries for lane in self.lanes)

    def take(self, timeout_s: float) -> Part | None:
        """The next part; None when there is none in time, or never again (see `finished`)."""
        end = self._clock() + int(timeout_s * 1e9)
        with self._lock:
            while True:
                now = self._clock()
                part, wait_s = self._assemble(now)
                if part is not None:
                    self._room.notify_all()
                    return part
                left_s = (end - now) / 1e9
                if left_s <= 0 or all(lane.ended and not lane.entries for lane in self.lanes):
                    return None
                self._ready.wait(min(left_s, wait_s))

    def _assemble(self, now: int) -> tuple[Part | None, float]:
        """The next part, or how long at most to wait for it (seconds). Lock must be held by caller."""
        if len(self.lanes) == 1:
            lane = self.lanes[0]
            if not lane.entries:
                return None, _LONG
            return self._joined(self.lanes, now - lane.entries[0].frame.t_trigger_ns)
        if self._by_key:
            return self._assemble_key(now)
        waiting = [lane for lane in self.lanes if self._align(lane)]
        if not waiting:
            return None, _LONG
        number = min(lane.number() for lane in waiting)
        members = [lane for lane in waiting if lane.number() == number]
        # The counter alone says which part a lost frame is of.
        known = [lane for lane in members if not lane.entries[0].lost]
        first_ns = min(lane.entries[0].frame.t_trigger_ns for lane in known or members)
        if self._timed:
            for lane in list(members):
                head = lane.entries[0]
                if not head.lost and head.frame.t_trigger_ns - first_ns > self.join_ns:
                    lane.offset += 1
                    members.remove(lane)
        part, wait_s = self._joined(members, now - first_ns, number)
        if part is not None:
            self._next = number + 1
            if known:
                self._last_trigger_ns = first_ns
        return part, wait_s

    def _joined(
        self, members: Sequence[Lane], age_ns: int, number: int | None = None
    ) -> tuple[Part | None, float]:
        """The part that the oldest entries of `members` are of, triggered so long ago, unless more is to
        be waited for. A lane that shows another part has missed this one."""
        waits = any(not lane.whole() for lane in members) or any(lane.silent() for lane in self.lanes)
        if waits and not (self._timed and age_ns >= self.join_ns):
            return None, (self.join_ns - age_ns) / 1e9 if self._timed else _LONG
        return self._part(members, number), 0.0

    def _assemble_key(self, now: int) -> tuple[Part | None, float]:
        """The same by the parts' keys. A frame without one is a part that the other views miss."""
        for lane in self.lanes:
            while lane.entries and self._is_late(lane):
                lane.drop()
                self._room.notify_all()
        waiting = [lane for lane in self.lanes if lane.entries]
        if not waiting:
            return None, _LONG
        first = self._oldest(waiting)
        frame = first.entries[0].frame
        key = frame.part_key
        members = [
            lane
            for lane in waiting
            if lane is first
            or (
                key is not None
                and lane.entries[0].frame.part_key == key
                and not (self._timed and self._apart(lane.entries[0].frame, frame))
            )
        ]
        part, wait_s = self._joined(members, now - frame.t_trigger_ns)
        if part is not None and key is not None:
            self._remember(key, [lane for lane in self.lanes if lane not in members])
        return part, wait_s

    def _remember(self, key: str, missed: Sequence[Lane]) -> None:
        """The lanes that a part was judged without: what still comes there of it is too late. Where a
        lane had its say, the same key is the part once more."""
        self._missed.pop(key, None)
        self._missed[key] = set(map(id, missed))
        while len(self._missed) > REMEMBERED:
            del self._missed[next(iter(self._missed))]

    def _is_late(self, lane: Lane) -> bool:
        """Whether the lane's oldest entry is of a part that was judged without it."""
        key = lane.entries[0].frame.part_key
        missed = self._missed.get(key) if key is not None else None
        if missed is None or id(lane) not in missed:
            return False
        missed.discard(id(lane))
        return True

    def _apart(self, one: Frame, other: Frame) -> bool:
        """Whether two frames are too far from each other in time to be of one pass of a part."""
        return abs(one.t_trigger_ns - other.t_trigger_ns) > self.join_ns

    def _oldest(self, waiting: Sequence[Lane]) -> Lane:
        """The lane whose head is of the oldest part: the one that was triggered first, but none that
        another lane has queued behind an older one."""
        behind = {e.frame.part_key for lane in waiting for e in list(lane.entries)[1:]} - {None}
        heads = [lane for lane in waiting if lane.entries[0].frame.part_key not in behind]
        return min(heads or waiting, key=lambda lane: lane.entries[0].frame.t_trigger_ns)

    def _align(self, lane: Lane) -> bool:
        """Give the lane's oldest frame its part number, dropping frames that come too late for theirs.

        Returns whether a frame is left. Lock must be held by caller.
        """
        while lane.entries:
            entry = lane.entries[0]
            if (
                entry.opening != lane.opening
            ):  # the camera was opened anew and counts from somewhere else
                lane.opening = entry.opening
                late = self._timed and self._next > 0 and not self._after_last(entry.frame)
                lane.offset = self._next - late - entry.part
            if lane.number() >= self._next:
                return True
            if self._timed and not entry.lost and self._after_last(entry.frame):
                lane.offset = self._next - entry.part
                return True
            lane.drop()
            self._room.notify_all()
        return False

    def _after_last(self, frame: Frame) -> bool:
        """Whether the frame was triggered too late to be of the part that was judged last."""
        return frame.t_trigger_ns - self._last_trigger_ns > self.join_ns

    def settle(self, part: Part) -> tuple[Reason, str]:
        """Nothing becomes known of a part once it was taken."""
        return Reason.NONE, ""

    def _count(self, members: Sequence[Lane], number: int | None) -> int | None:
        """As the first camera counts the part, or would have: each camera counts from somewhere else."""
        lane = self.lanes[0]
        counter = lane.entries[0].frame.counter if lane in members else None
        if counter is None:
            return None if number is None or self._ahead is None else number + self._ahead
        self._ahead = counter - (number or 0)
        return counter

    def _part(self, members: Sequence[Lane], number: int | None) -> Part:
        """Of the oldest entries of `members`, which are taken. Lock must be held by caller."""
        count = self._count(members, number)
        entries = [lane.entries[0] for lane in members]
        first = min(entries, key=lambda entry: entry.frame.t_trigger_ns).frame
        frames: list[Frame | None] = []
        for lane in self.lanes:
            frames += lane.take() if lane in members else [None] * lane.shots
        return Part(
            tuple(frames),
            next((e.frame.part_key for e in entries if e.frame.part_key is not None), None),
            first.t_trigger_ns,
            first.t_wall_ns,
            max(entry.t_queued_ns for entry in entries),
            self.trigger,
            count,
            None,
            self.advisory,
        )


def _without(frame: Frame, reason: Reason, detail: str) -> Frame:
    """The frame without its picture."""
    return replace(frame, image=None, fault=reason.value, detail=detail)
