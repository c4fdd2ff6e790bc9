"""A camera's clock on the host's: when a picture was taken, by its time stamp and its arrival.

A frame arrives some time after its stamp, never earlier, and now and then as early as can be. So the
smallest delays of a while lie on a line, host = camera + offset, which drifts by what the two clocks
differ in speed; the rest is jitter of the transfer, and no part of the time of the trigger.
"""

from __future__ import annotations

from collections import deque

BLOCK_NS = 1_000_000_000  # the smallest delay of each second
BLOCKS = 60  # are kept
MOST_DRIFT = 1e-3  # of a quartz, and far more
JUMP_NS = 1_000_000_000  # a stamp so far off is of a clock that was set anew
# A drift that was seen for less is jitter; over a longer pause than that nothing is known of the clocks.
SOUND_NS = 10_000_000_000


class ClockMap:
    """`tick_ns`: nanoseconds of one tick of the camera. `delay_ns`: from the stamp to the arrival at
    least (exposure and transfer), which no clock can tell. Not thread safe."""

    def __init__(self, tick_ns: float, delay_ns: int = 0) -> None:
        self.uncertainty_ns = 0  # how far the smallest delays of the last minute are from their line
        self._tick_ns = tick_ns
        self._delay_ns = delay_ns
        self._origin: int | None = None  # ticks that the camera's time is counted from
        self._blocks: deque[tuple[int, int]] = deque(maxlen=BLOCKS)  # camera's time, smallest delay
        self._slope = 0.0
        self._offset = 0.0

    def map(self, ticks: int, arrival_ns: int) -> int:
        """The host's monotonic time of the stamp; never later than it arrived less `delay_ns`."""
        latest = arrival_ns - self._delay_ns
        camera = self._camera_ns(ticks)
        if self._blocks:
            away = arrival_ns - camera - self._line(camera)
            last = self._blocks[-1][0]
            if away < -JUMP_NS or camera < last - JUMP_NS:
                self._blocks.clear()
                self._origin = ticks
                camera = 0
            elif camera - last > max(SOUND_NS, last - self._blocks[0][0]):
                self._blocks.clear()
        self._learn(camera, arrival_ns - camera)
        return min(latest, camera + int(self._line(camera)) - self._delay_ns)

    def _camera_ns(self, ticks: int) -> int:
        if self._origin is None:
            self._origin = ticks
        return int((ticks - self._origin) * self._tick_ns)

    def _learn(self, camera: int, delay: int) -> None:
        blocks = self._blocks
        if not blocks or camera // BLOCK_NS > blocks[-1][0] // BLOCK_NS:
            blocks.append((camera, delay))
        elif delay < blocks[-1][1]:
            blocks[-1] = camera, delay
        else:
            return
        half = len(blocks) // 2
        if blocks[-1][0] - blocks[0][0] >= SOUND_NS:
            early = min(list(blocks)[:half], key=lambda block: block[1])
            late = min(list(blocks)[half:], key=lambda block: block[1])
            slope = (late[1] - early[1]) / max(1, late[0] - early[0])
            self._slope = min(MOST_DRIFT, max(-MOST_DRIFT, slope))
        else:
            self._slope = 0.0
        self._offset = min(delay - self._slope * camera for camera, delay in blocks)
        self.uncertainty_ns = int(max(delay - self._line(camera) for camera, delay in blocks))

    def _line(self, camera: int) -> float:
        return self._offset + self._slope * camera
