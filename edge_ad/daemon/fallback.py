"""What judges parts when the station's engine has failed: the bundle's CPU engine, or nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.bundle import Bundle
from edge_ad.config import Station
from edge_ad.engines import chosen_engine, reference_engine
from edge_ad.errors import ArtifactError, DeviceError, EdgeAdError
from edge_ad.frame import Image
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.reference import reference_images
from edge_ad.verdict import Verdict

log = logging.getLogger("edge_ad")

MOST_ROUNDS, LEAST_ROUNDS = 200, 20
MOST_SECONDS = 2.0  # of measuring, once there are LEAST_ROUNDS


class Failed:
    """Stands where an engine has been: every part fails as the last one did. It holds nothing, so that
    the device can be opened anew."""

    stands_in_for = ""

    def __init__(
        self, bundle: Bundle, identity: EngineIdentity, cameras: Sequence[str], why: str
    ) -> None:
        self.bundle = bundle
        self.identity = identity
        self.cameras = tuple(cameras)
        self.stamps = (0, 0, 0, 0, 0)
        self.why = why

    def inspect_part(self, images: Sequence[Image]) -> Verdict:
        """Raises DeviceError."""
        raise DeviceError(self.why)

    def warm_up(self) -> None:
        """There is nothing to warm up."""

    def close(self) -> None:
        """There is nothing to release."""


def stand_in(bundle: Bundle, station: Station, error: DeviceError) -> Inspector:
    """The inspector that takes the place of the station's engine, which raised `error`.

    Raises DeviceError that names both where the station or the bundle allows none, it cannot be opened,
    or it would be too slow for the deadline.
    """
    choice = reference_engine(station)
    wanted = chosen_engine(station).key
    if choice is None:
        raise error
    if not station.engine.fallback:
        raise DeviceError(f"{error}; engine.fallback = false, so nothing takes its place") from error
    if choice.key not in bundle.manifest.engines:
        raise DeviceError(
            f"{error}; {bundle.path} has no section {choice.key!r} that could take its place, 'edge-ad "
            "calibrate --refit' fits one"
        ) from error
    with ExitStack() as opened:
        try:
            inspector = open_inspector(bundle, choice, time.perf_counter_ns)
            opened.callback(inspector.close)
            slow_ms = slowest_ms(inspector)
        except EdgeAdError as other:
            raise DeviceError(f"{error}; {choice.key} cannot take its place: {other}") from other
        if slow_ms > station.deadline_ms:
            raise DeviceError(
                f"{error}; {choice.key} cannot take its place: 99 % of parts take up to "
                f"{slow_ms:.0f} ms, deadline_ms is {station.deadline_ms:g}"
            ) from error
        opened.pop_all()
    inspector.stands_in_for = wanted
    log.error(
        "%s; %s takes the place of %s (99 %% of parts within %.0f ms) until a reload", error, choice.key,
        wanted, slow_ms,
    )  # fmt: skip
    return inspector


def slowest_ms(inspector: Inspector) -> float:
    """Within how many milliseconds 99 % of good parts are judged, from frames to verdict: measured on
    the bundle's reference parts in turn. Raises ArtifactError where it has none."""
    bundle = inspector.bundle
    files = bundle.section(inspector.identity.key).reference_scores
    if not files:
        raise ArtifactError(
            f"{bundle.path}: it has no reference frames to measure on; run 'edge-ad calibrate --refit'"
        )
    parts = [reference_images(bundle, file) for file in files]
    inspector.warm_up()
    inspector.inspect_part(parts[0])
    took: list[int] = []
    end = time.perf_counter() + MOST_SECONDS
    while len(took) < LEAST_ROUNDS or (len(took) < MOST_ROUNDS and time.perf_counter() < end):
        images = parts[len(took) % len(parts)]
        start = time.perf_counter_ns()
        inspector.inspect_part(images)
        took.append(time.perf_counter_ns() - start)
    return float(np.quantile(took, 0.99, method="higher")) / 1e6
