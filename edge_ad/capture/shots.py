"""Several pictures of one part from one camera, taken one after another: which frame is which of them.

A source that knows says so (`Frame.shot`). Else frames are counted from the first one of a part on. With
a free-running camera a frame that was triggered more than `join_ms` after that one is the first of
another part, so that a lost frame costs the part that it belongs to and no other: that one lacks a
picture. This holds where `join_ms` is less than from the last picture of a part to the next one's first.
Where it is not, frames that come too late for their part but within `join_ms` of the one before are left
out until the camera was quiet for longer: a part that began with its second picture would be joined with
the next one's first, and so would all that follow.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_ad.capture.source import Source
from edge_ad.config import Camera, Station
from edge_ad.errors import CaptureError
from edge_ad.frame import Frame

MOST_LEFT_OUT = 50  # frames in succession, before a person is told


class Place(NamedTuple):
    """Which part of the camera's (counted from 0) and which of its pictures a frame is; `begins`: it is
    the first that came of the part."""

    part: int
    shot: int
    begins: bool


class ShotDealer:
    """Places the frames of a camera that takes `shots` pictures of each part. `live`: frames come when
    they are triggered, and may be lost; `keyed`: their keys tell parts apart. Not thread safe."""

    def __init__(self, shots: int, live: bool, keyed: bool) -> None:
        self._shots = shots
        self._live = live
        self._keyed = keyed
        self._part = -1
        self._last = 0  # picture of the part
        self._opening: int | None = None
        self._key: str | None = None  # of the part
        self._first_ns = 0  # when its first frame was triggered
        self._before_ns = 0  # when the last one was triggered
        self.left_out = 0  # frames without a place, in succession
        self.passed_over = 0  # parts that lacked a picture, where `read_part` deals

    def place(self, frame: Frame, opening: int, join_ns: int) -> Place | None:
        """Where a frame belongs; None for one too many, or where that cannot be told. `opening` counts
        how often the camera was opened: a part has no frames of two."""
        place = self._place(frame, opening, join_ns)
        self.left_out = self.left_out + 1 if place is None else 0
        return place

    def _place(self, frame: Frame, opening: int, join_ns: int) -> Place | None:
        quiet_ns = frame.t_trigger_ns - self._before_ns
        self._before_ns = frame.t_trigger_ns
        begins = self._is_another(frame, opening)
        if not begins and self._live and frame.t_trigger_ns - self._first_ns > join_ns:
            known = frame.shot is not None or (self._keyed and frame.part_key is not None)
            if quiet_ns <= join_ns and not known:
                return None
            begins = True
        if frame.shot is None:
            shot = 0 if begins else self._last + 1
            if shot == self._shots:
                if self._live:
                    return None
                begins, shot = True, 0
        else:
            shot = frame.shot
            if shot >= self._shots:
                return None
            begins = begins or shot <= self._last
        if begins:
            self._part += 1
            self._key, self._first_ns, self._opening = frame.part_key, frame.t_trigger_ns, opening
        self._last = shot
        return Place(self._part, shot, begins)

    def _is_another(self, frame: Frame, opening: int) -> bool:
        """Whether the frame is of another part than the last one, whenever it was triggered."""
        if opening != self._opening:
            return True
        return (self._keyed or frame.shot is not None) and frame.part_key != self._key


def too_close(camera: str, join_ns: int) -> str:
    """What to say once MOST_LEFT_OUT frames had no place."""
    return (
        f"camera {camera!r}: with join_ms = {join_ns / 1e6:g} it cannot be told which of its frames are "
        "of one part; let the part trigger them, and set join_ms to less than from the last shot of a "
        "part to the first of the next"
    )


def make_dealer(camera: Camera, live: bool, station: Station) -> ShotDealer | None:
    """For a camera with shots; None for one that takes a single picture of a part."""
    if not camera.shots:
        return None
    return ShotDealer(len(camera.shots), live, station.join_by == "key")


def read_part(source: Source, dealer: ShotDealer | None, shots: int, join_ns: int) -> list[Frame] | None:
    """The pictures of the next part that has all of them; None at the end of the source. For callers
    that read a source by themselves; `dealer` None: one picture is one part. Raises CaptureError where
    it cannot be told which picture is of which part."""
    if dealer is None:
        frame = source.read()
        return None if frame is None else [frame]
    frames: dict[int, Frame] = {}
    while len(frames) < shots:
        frame = source.read()
        if frame is None:
            return None
        place = dealer.place(frame, 0, join_ns)
        if place is not None:
            if place.begins:
                dealer.passed_over += bool(frames)
                frames = {}
            frames[place.shot] = frame
        elif dealer.left_out >= MOST_LEFT_OUT:
            raise CaptureError(too_close(source.name, join_ns))
    return [frames[shot] for shot in range(shots)]
