"""The daemon's inspection loop with a stopwatch around every part, beside the bare engine."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edge_ad.backbone.engine import FeatureEngine
from edge_ad.daemon.inspection import InspectionLoop
from edge_ad.daemon.parts import Part


class Stopwatch:
    """Nanoseconds per part, written by the inspection thread, read when it has ended."""

    def __init__(self, parts: int) -> None:
        self.count = 0
        self.engine = np.zeros(parts, np.int64)
        self.path = np.zeros(parts, np.int64)
        self.stages = np.zeros((parts, 3), np.int64)  # preprocess, engine with Gaussians, verdict


class TimedLoop(InspectionLoop):
    """Times `judge` (frame in hand -> verdict handed to the publisher), and the bare engine as often.

    The bare engine runs after every even part and before every odd one, so that what the other threads
    do after a verdict (publishing it, fetching the next frame) meets the engine as often as the path.
    """

    def __init__(self, stopwatch: Stopwatch, engine: FeatureEngine, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._stopwatch = stopwatch
        self._engine = engine

    def judge(self, part: Part) -> None:
        """Judge one part and hand its verdict over; time that and the bare engine."""
        clock, watch = time.perf_counter_ns, self._stopwatch
        index = watch.count
        if index % 2:
            start = clock()
            self._engine.infer()
            watch.engine[index] = clock() - start
        start = clock()
        super().judge(part)
        watch.path[index] = clock() - start
        if not index % 2:
            start = clock()
            self._engine.infer()
            watch.engine[index] = clock() - start
        assert self.active.inspector is not None
        began, prepared, scored, judged = self.active.inspector.stamps
        watch.stages[index] = (prepared - began, scored - prepared, judged - scored)
        watch.count += 1
