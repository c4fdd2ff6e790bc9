"""The daemon's inspection loop with a stopwatch around every part, beside the bare engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edge_ad.backbone.engine import FeatureEngine
from edge_ad.capture.source import Source
from edge_ad.daemon.inspection import InspectionLoop
from edge_ad.daemon.part import Part
from edge_ad.frame import Frame, Image

PAUSE_S = 0.001


class Stopwatch:
    """Nanoseconds per part, written by the inspection thread, read when it has ended."""

    def __init__(self, parts: int) -> None:
        self.count = 0
        self.engine = np.zeros(parts, np.int64)
        self.path = np.zeros(parts, np.int64)
        self.stages = np.zeros((parts, 3), np.int64)  # preprocess, engine with Gaussians, verdict


class TimedLoop(InspectionLoop):
    """Times `judge` (frame in hand -> verdict handed to the publisher), then the bare engine, in turn.

    A pause after each lets the other threads finish (publishing a verdict, fetching the next frame), so
    that neither pays for the other; both find the caches as the other has left them. `trigger` lets the
    next part come.
    """

    def __init__(
        self, stopwatch: Stopwatch, engine: FeatureEngine, trigger: Callable[[], None], *arguments: Any
    ) -> None:
        super().__init__(*arguments)
        self._stopwatch = stopwatch
        self._engine = engine
        self._trigger = trigger

    def judge(self, part: Part) -> None:
        """Judge a part and hand its verdict over; time that, and one run of the bare engine."""
        clock, watch = time.perf_counter_ns, self._stopwatch
        index = watch.count
        start = clock()
        super().judge(part)
        watch.path[index] = clock() - start
        time.sleep(PAUSE_S)
        start = clock()
        self._engine.infer()
        watch.engine[index] = clock() - start
        assert self.active.inspector is not None
        began, _, prepared, scored, judged = self.active.inspector.stamps
        watch.stages[index] = (prepared - began, scored - prepared, judged - scored)
        watch.count += 1
        time.sleep(PAUSE_S)
        self._trigger()


class TriggeredCamera:
    """A source that copies its next picture into a buffer of its own when it is triggered.

    As on a line, one part is under way at a time, and a picture was written to memory just before it is
    inspected; a picture that is only referred to would have to be fetched from far away. Two buffers
    are enough: with one part under way nobody looks at the one before the last.
    """

    def __init__(self, source: Source, ready: threading.Semaphore) -> None:
        self.name, self.live, self.pixel_rule_name = source.name, source.live, source.pixel_rule_name
        self.open, self.close = source.open, source.close
        self.skipped = 0  # a rendered part is never lost
        self._source, self._ready = source, ready
        self._buffers: list[Image] = []

    def read(self) -> Frame | None:
        """The next part, after a trigger."""
        self._ready.acquire()
        frame = self._source.read()
        if frame is None or frame.image is None:
            return frame
        if len(self._buffers) < 2:
            self._buffers.append(np.empty_like(frame.image))
        buffer = self._buffers[frame.index % 2]
        np.copyto(buffer, frame.image)
        return replace(frame, image=buffer)
