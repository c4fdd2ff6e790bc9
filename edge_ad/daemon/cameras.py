"""A camera's capture thread, and who notices when it is lost, stuck or back.

A camera that fails is a state, not an end: it is opened again after 0.5 s, then twice as long up to
10 s, forever. A `read` that never returns is noticed from outside by the age of the wait; the stuck
thread is abandoned (what it may still deliver is dropped) and another one opens the camera.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from dataclasses import replace

from edge_ad.capture.plausible import Plausible
from edge_ad.capture.presence import Presence
from edge_ad.capture.shots import MOST_LEFT_OUT, ShotDealer, too_close
from edge_ad.capture.source import AskedSource, Source
from edge_ad.config import Camera
from edge_ad.daemon.announced import TriggeredLane
from edge_ad.daemon.lanes import Lane
from edge_ad.daemon.parts import PartQueue
from edge_ad.daemon.timing import TriggerTime
from edge_ad.daemon.triggered import TriggeredParts
from edge_ad.errors import CaptureError, EdgeAdError
from edge_ad.frame import Frame
from edge_ad.verdict import Reason

BACKOFF_S = (0.5, 10.0)
OPEN_LIMIT_S = 15.0  # an `open` may take this long before it counts as stuck
MOST_MISSED = 3  # announced parts in a row without a picture: a camera that answers may still be stuck
MAX_STUCK = 8  # abandoned threads of one camera that may exist before no further one is started

Clock = Callable[[], int]
Tell = Callable[[str, str], None]  # level, text


class CameraFeed:
    """Reads one camera into its lane of the part queue. Started, supervised and stopped by one thread.

    `make` builds a source that is not opened yet. `tell` takes one line per event and must not block.
    `dealer` is there for a camera that takes several pictures of a part, `presence` where its frames
    tell whether there is one, `timing` where the line triggers it, `plausible` refuses what cannot be a
    picture of a part. With announced parts it is asked for its pictures, where it can be.
    `state` is "opening", "up", "lost" or "ended".
    """

    def __init__(
        self,
        camera: Camera,
        make: Callable[[], Source],
        lane: Lane,
        parts: PartQueue | TriggeredParts,
        tell: Tell,
        clock: Clock,
        wall: Clock,
        rng: random.Random,
        backoff_s: tuple[float, float] = BACKOFF_S,
        dealer: ShotDealer | None = None,
        presence: Presence | None = None,
        timing: TriggerTime | None = None,
        plausible: Plausible | None = None,
    ) -> None:
        self.name = camera.name
        self.pictures = tuple(picture.name for picture in camera.pictures)
        self.state = "opening"
        self.frames = 0
        self.faulty = 0  # frames without a picture: incomplete, damaged, of another pixel format
        self.empty = 0  # frames without a part
        self.timing = timing
        self.reconnects = 0
        self.last_frame_ns = clock()
        self.last_frame_wall_ns = 0
        self.size = (0, 0, 0)  # width, height, channels of the last good frame
        self.pixel_rule = ""
        self._camera = camera
        self._make = make
        self._lane = lane
        self._parts = parts
        self._tell = tell
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._backoff_s = backoff_s
        self._dealer = dealer
        self._presence = presence
        self._plausible = plausible
        self._delay_s = backoff_s[0]
        self._opening = 0
        self._hung_ns = 0  # since when frames without a part have repeated themselves
        self._turn = 0  # of the thread that is in charge; older ones are abandoned
        self._waiting: tuple[int, float] | None = None  # since when (ns) in the source, limit (s)
        self._retry_ns: int | None = None  # when to start the next thread after a stuck one
        self._source: Source | None = None
        self._skipped_before = self._lost_before = 0  # by sources that were given up
        self._go = threading.Event()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Open the camera in its thread; it reads nothing before `go`."""
        self._start_thread()

    def go(self) -> None:
        """Begin to read."""
        self._go.set()

    def stop(self) -> None:
        """Tell the thread to end after the frame at hand. Returns at once."""
        self._stop.set()
        self._go.set()
        self._close_source()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread in charge to end, and end the lane either way. False when it is stuck."""
        thread = self._threads[-1]
        thread.join(timeout_s)
        self._turn += 1
        self._parts.end(self._lane)
        return not thread.is_alive()

    def age_s(self) -> float:
        """Seconds since the last frame, or since the start."""
        return (self._clock() - self.last_frame_ns) / 1e9

    @property
    def skipped(self) -> int:
        """Frames that went for newer ones, in the source or in the queue."""
        source = self._source
        return self._lane.skipped + self._skipped_before + (0 if source is None else source.skipped)

    @property
    def unmatched(self) -> int:
        """Frames that came after their part had been judged without them, or have no place in one."""
        return self._lane.unmatched

    @property
    def lost(self) -> int:
        """Pictures that the camera counted and did not deliver: by the lane where each of them is a
        part, else by the source."""
        if self._lane.every:
            return self._lane.lost
        return self._lost_before + int(getattr(self._source, "lost", 0))

    def status(self) -> dict[str, object]:
        """For `status` on the control socket."""
        return {
            "state": self.state,
            "frames": self.frames,
            "skipped": self.skipped,
            "unmatched": self.unmatched,
            "faulty": self.faulty,
            "empty": self.empty,
            "lost": self.lost,
            "reconnects": self.reconnects,
            "age_s": self.age_s(),
            "pixel_rule": self.pixel_rule,
            "size": self.size,
        }

    def supervise(self) -> None:
        """Notice a stuck source and start over; called a few times per `stale_ms`."""
        now = self._clock()
        waiting = self._waiting
        if self._retry_ns is None and waiting is not None:
            if (now - waiting[0]) / 1e9 > waiting[1]:
                self._give_up(f"no frame for {waiting[1]:g} s and the source does not return")
            elif waiting[1] == math.inf and self._missed() >= MOST_MISSED:
                self._give_up(f"no frame of {MOST_MISSED} parts in a row; check cable and trigger")
        if self._retry_ns is not None and now >= self._retry_ns and not self._stop.is_set():
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) < MAX_STUCK:
                self._retry_ns = None
                self._start_thread()

    def _missed(self) -> int:
        """Announced parts in a row of which no picture came."""
        return self._lane.missed_parts if isinstance(self._lane, TriggeredLane) else 0

    def _give_up(self, why: str) -> None:
        """Leave the thread to itself, and start over."""
        self._turn += 1
        self._waiting = None
        self._lost(why)
        self._close_source()
        self._retry_ns = self._clock() + int(self._next_delay() * 1e9)

    def _start_thread(self) -> None:
        self._turn += 1
        name = f"capture-{self.name}"
        thread = threading.Thread(target=self._run, args=(self._turn,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _in_charge(self, turn: int) -> bool:
        return turn == self._turn and not self._stop.is_set()

    def _run(self, turn: int) -> None:
        source: Source | None = None
        while self._in_charge(turn):
            try:
                if source is None:
                    source = self._new_source()
                self._capture(source, turn)
            except EdgeAdError as error:
                self._failed(turn, str(error))
            except Exception as error:  # noqa: BLE001 - a thread's top: any failure is a lost camera
                self._failed(turn, repr(error))
            else:
                break
            self._stop.wait(self._next_delay())
        if turn == self._turn:
            self.state = "ended"
            self._parts.end(self._lane)

    def _new_source(self) -> Source:
        source = self._make()
        if self._source is not None:
            self._skipped_before += self._source.skipped
            self._lost_before += int(getattr(self._source, "lost", 0))
        self._source = source
        return source

    def _capture(self, source: Source, turn: int) -> None:
        """Open and read until the source ends or this thread is to stop; raises when it fails."""
        stale_s = self._camera.stale_ms / 1000
        try:
            self._waiting = (self._clock(), max(stale_s, OPEN_LIMIT_S))
            source.open()
            if not self._in_charge(turn):
                return
            self._waiting = None
            self._opening += 1
            self.pixel_rule = source.pixel_rule_name
            if self.timing is not None:
                self.timing.opened(getattr(source, "tick_ns", 0.0))
            self._go.wait()
            lane, parts = self._lane, self._parts
            if getattr(source, "patient", False):  # it may be long until a part comes
                stale_s = math.inf
                self._up()
            if isinstance(parts, TriggeredParts) and isinstance(lane, TriggeredLane):
                parts.set_down(lane, False)
                if lane.asked:
                    self._take_asked(source, turn, stale_s, parts, lane)
                    return
            while self._in_charge(turn):
                self._waiting = (self._clock(), stale_s)
                frame = source.read()
                if turn != self._turn:
                    return
                self._waiting = None
                if frame is None:
                    return
                self._hand_over(self._note(frame))
        finally:
            source.close()

    def _take_asked(
        self, source: Source, turn: int, stale_s: float, parts: TriggeredParts, lane: TriggeredLane
    ) -> None:
        """Take a picture for each trigger until this thread is to stop; raises when the source fails."""
        assert isinstance(source, AskedSource)
        if self.state != "up":  # with no picture asked for, nothing else would say so
            self._up()
        while self._in_charge(turn):
            asked = parts.next_request(lane, 0.1)
            if asked is None:
                if trouble := getattr(source, "trouble", ""):  # the next part need not find out
                    raise CaptureError(trouble)
                continue
            for shot in range(lane.shots):
                self._waiting = (self._clock(), stale_s)
                frame = source.take(asked.key, shot)
                if turn != self._turn:
                    return
                self._waiting = None
                if frame is not None:
                    frame = replace(self._note(frame), trigger=asked.number, shot=shot)
                    frame = self._checked(frame)
                    parts.put(lane, frame, self._opening)

    def _note(self, frame: Frame) -> Frame:
        """Count a frame, and say when it was triggered."""
        self.frames += 1
        self.last_frame_ns = self._clock()
        self.last_frame_wall_ns = self._wall()
        self._delay_s = self._backoff_s[0]
        if frame.image is None:
            self.faulty += 1
        else:
            height, width = frame.image.shape[:2]
            self.size = (width, height, 1 if frame.image.ndim == 2 else frame.image.shape[2])
        if self.state != "up":
            self._up()
        return frame if self.timing is None else self.timing.of(frame)

    def _checked(self, frame: Frame) -> Frame:
        return frame if self._plausible is None else self._plausible.check(frame)

    def _hand_over(self, frame: Frame) -> None:
        presence, image = self._presence, frame.image
        frame = self._checked(frame)
        if presence is not None and image is not None and not presence.begins(image):
            self.empty += 1
            self._watch_hung(frame)
            return
        if self._dealer is None:
            self._parts.put(self._lane, frame, self._opening)
            return
        place = self._dealer.place(frame, self._opening, self._parts.join_ns)
        self._parts.put_shot(self._lane, frame, self._opening, place)
        if self._dealer.left_out == MOST_LEFT_OUT:  # said once, not for every frame
            self._tell("warning", too_close(self.name, self._parts.join_ns))

    def _watch_hung(self, frame: Frame) -> None:
        """Raise CaptureError for a camera that repeats a frame without a part for `stale_ms`: no part
        would ever be seen, and nobody told."""
        if frame.fault != Reason.FROZEN.value:
            self._hung_ns = 0
            return
        now = self._clock()
        self._hung_ns = self._hung_ns or now
        if now - self._hung_ns > self._camera.stale_ms * 1e6:
            self._hung_ns = 0
            raise CaptureError(frame.detail)

    def _up(self) -> None:
        if self._opening > 1 or self.state == "lost":
            self.reconnects += 1
            self._tell("info", f"camera {self.name}: back")
        else:
            self._tell("info", f"camera {self.name}: up, {self.pixel_rule}")
        self.state = "up"

    def _failed(self, turn: int, why: str) -> None:
        if self._in_charge(turn):
            self._waiting = None
            self._lost(why)

    def _lost(self, why: str) -> None:
        if self.state != "lost":  # said once, not at every attempt
            text = f"camera {self.name}: lost: {why}; trying again until it is back"
            self._tell("warning", text)
        self.state = "lost"
        self._parts.set_down(self._lane, True)

    def _next_delay(self) -> float:
        delay = self._delay_s
        self._delay_s = min(2 * delay, self._backoff_s[1])
        return delay * (0.75 + 0.5 * self._rng.random())

    def _close_source(self) -> None:
        """Close from outside, which ends a waiting `read`; in a thread, for `close` may hang too."""
        if self._source is not None:
            threading.Thread(target=self._source.close, name=f"close-{self.name}", daemon=True).start()
