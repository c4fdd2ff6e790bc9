"""A picture of a part, and who it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera's picture of one part, already in one of the two pixel layouts of the product.

    `image` is uint8, H x W (grey) or H x W x 3 (BGR), and belongs to the frame: a source never writes
    to it again. A frame that could not be read has `fault` set to a `Reason` value and `image` None.
    Times are of `time.monotonic_ns`; `t_wall_ns` is only a label.
    """

    camera: str
    index: int  # counts the frames this source delivered, from 0
    image: Image | None
    t_trigger_ns: int
    t_wall_ns: int
    part_key: str | None = None  # from the source when it knows; else the daemon names the part
    fault: str = ""  # a Reason value, e.g. "unreadable"
    detail: str = ""  # what exactly was wrong with a faulty frame, for the log
    camera_ticks: int | None = None  # the camera's own clock, in its own unit
    shot: int | None = None  # which of the camera's pictures of the part, where the source knows
    counter: int | None = None  # triggers that the camera has counted, this one included; never wraps
    trigger: int | None = None  # number of the part that the camera was asked to take it for
