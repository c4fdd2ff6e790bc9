"""`[camera.genicam]`: how an industrial camera is triggered and set, by the names of its features."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SOFTWARE = "Software"  # the trigger source of a camera that takes a picture when the daemon asks
FRAME_START = "TriggerSelector=FrameStart"
SCHEMES = ("basler", "genicam")

FeatureValue = bool | int | float | str
_NAME = r"[A-Za-z][A-Za-z0-9_]*"
# NAME, or NAME[SELECTOR=VALUE] with more of them after commas.
FeatureKey = Annotated[
    str, Meta(pattern=rf"^{_NAME}(\[{_NAME}=[A-Za-z0-9_]+(,{_NAME}=[A-Za-z0-9_]+)*\])?$")
]


class Genicam(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[camera.genicam]`, of `basler://` and `genicam://`. All of it is set at every open, in this
    order, and read back."""

    # What starts a frame: "" for a camera that runs free, "Software" for one that the daemon asks, else
    # the input that the line's sensor is wired to, as the camera calls it ("Line1").
    trigger: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]*$")] = ""
    # Of an input.
    activation: Literal["RisingEdge", "FallingEdge", "AnyEdge", "LevelHigh", "LevelLow"] = "RisingEdge"
    # Frames that may wait for the daemon where every one counts, and as many in the library. Each is
    # held in memory.
    buffers: Annotated[int, Meta(ge=1, le=256)] = 8
    # Features of the camera and their values; a command is run by `true`. A feature that depends on a
    # selector is written "LineMode[LineSelector=Line2]".
    features: dict[FeatureKey, FeatureValue] = {}

    @property
    def asked(self) -> bool:
        """Whether it takes a picture when it is asked."""
        return self.trigger == SOFTWARE
