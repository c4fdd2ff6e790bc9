"""Several pictures of one part from one camera, taken one after another: which frame is which of them.

A source that knows says so (`Frame.shot`). Else frames are counted from the first one of a part on. With
a free-running camera a frame that was triggered more than `join_ms` after that one is the first of
another part, so that a lost frame costs the part that it belongs to and no other: that one lacks a
picture.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_ad.capture.source import Source
from edge_ad.config import Camera, Station
from edge_ad.frame import Frame


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
        self._opening = -1
        self._first: Frame | None = None

    def place(self, frame: Frame, opening: int, join_ns: int) -> Place | None:
        """Where a frame belongs; None for one too many. `opening` counts how often the camera was
        opened: a part has no frames of two."""
        begins = self._is_another(frame, opening, join_ns)
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
            self._first, self._opening = frame, opening
        self._last = shot
        return Place(self._part, shot, begins)

    def _is_another(self, frame: Frame, opening: int, join_ns: int) -> bool:
        """Whether the frame cannot be of the part that the last one was of."""
        first = self._first
        if first is None or opening != self._opening:
            return True
        if self._live and frame.t_trigger_ns - first.t_trigger_ns > join_ns:
            return True
        return (self._keyed or frame.shot is not None) and frame.part_key != first.part_key


def make_dealer(camera: Camera, live: bool, station: Station) -> ShotDealer | None:
    """For a camera with shots; None for one that takes a single picture of a part."""
    if not camera.shots:
        return None
    return ShotDealer(len(camera.shots), live, station.join_by == "key")


def read_part(source: Source, dealer: ShotDealer | None, shots: int, join_ns: int) -> list[Frame] | None:
    """The pictures of the next part that has all of them; None at the end of the source. For callers
    that read a source by themselves; `dealer` None: one picture is one part."""
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
            frames = {} if place.begins else frames
            frames[place.shot] = frame
    return [frames[shot] for shot in range(shots)]
