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
from edge_ad.daemon.parts import Part
from edge_ad.frame import Frame, Image


class Stopwatch:
    """Nanoseconds per part, written by the inspection thread, read when it has ended."""

    def __init__(self, parts: int) -> None:
        parts += parts % 2
        self.count = 0
        self.engine = np.zeros(parts, np.int64)
        self.path = np.zeros(parts, np.int64)
        self.stages = np.zeros((parts, 3), np.int64)  # preprocess, engine with Gaussians, verdict


class TimedLoop(InspectionLoop):
    """Times `judge` (frame in hand -> verdict handed to the publisher), and the bare engine as often.

    The order is path, engine, engine, path, so that what the other threads do after a verdict (publish
    it, fetch the next frame) meets the engine as often as the path. `trigger` lets the next part come.
    """

    def __init__(
        self, stopwatch: Stopwatch, engine: FeatureEngine, trigger: Callable[[], None], *arguments: Any
    ) -> None:
        super().__init__(*arguments)
        self._stopwatch = stopwatch
        self._engine = engine
        self._trigger = trigger

    def judge(self, part: Part) -> None:
        """Judge a part and hand its verdict over; time that, and the bare engine twice or not at all."""
        clock, watch = time.perf_counter_ns, self._stopwatch
        index = watch.count
        start = clock()
        super().judge(part)
        watch.path[index] = clock() - start
        assert self.active.inspector is not None
        began, prepared, scored, judged = self.active.inspector.stamps
        watch.stages[index] = (prepared - began, scored - prepared, judged - scored)
        if not index % 2:
            for i in (index, index + 1):
                start = clock()
                self._engine.infer()
                watch.engine[i] = clock() - start
        watch.count += 1
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
