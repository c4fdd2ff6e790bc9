"""When a camera that the line triggers was triggered."""

from __future__ import annotations

from dataclasses import replace

from edge_ad.capture.clockmap import ClockMap
from edge_ad.config import Camera
from edge_ad.frame import Frame


class TriggerTime:
    """By the camera's clock where it has one, else the arrival less `exposure_ms` and `transfer_ms`. For
    one thread; `uncertainty_s` may be read by others."""

    def __init__(self, camera: Camera) -> None:
        self._delay_ns = int((camera.exposure_ms + camera.transfer_ms) * 1e6)
        self._map: ClockMap | None = None

    @property
    def uncertainty_s(self) -> float:
        """Of the time of the trigger, by the jitter of the last minute; NaN where no clock tells."""
        return float("nan") if self._map is None else self._map.uncertainty_ns / 1e9

    def opened(self, tick_ns: float) -> None:
        """The camera was opened, so its clock may have begun anew. `tick_ns` 0: it has none."""
        self._map = ClockMap(tick_ns, self._delay_ns) if tick_ns > 0 else None

    def of(self, frame: Frame) -> Frame:
        """The frame with the time of its trigger instead of its arrival."""
        arrival_ns = frame.t_trigger_ns
        if self._map is not None and frame.camera_ticks is not None:
            return replace(frame, t_trigger_ns=self._map.map(frame.camera_ticks, arrival_ns))
        return replace(frame, t_trigger_ns=arrival_ns - self._delay_ns) if self._delay_ns else frame
