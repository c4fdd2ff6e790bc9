"""Images to features, one at a time; files that cannot be read are listed, not fatal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import FeatureEngine
from edge_ad.backbone.spec import Backbone
from edge_ad.capture.images import printable, read_image
from edge_ad.capture.pixels import PixelRule
from edge_ad.config import MAX_MEGAPIXELS
from edge_ad.errors import CaptureError
from edge_ad.gaussian.view import Features
from edge_ad.preprocess import Preprocessor


@dataclass(frozen=True, slots=True)
class Rig:
    """What pictures go through: a network, its engine of batch 1, the rule for their pixels.
    `advance` is called after each file."""

    backbone: Backbone
    engine: FeatureEngine
    rule: PixelRule
    advance: Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """Features of the images that could be read, in order.

    read: their n paths; shapes: their (rows, columns); unreadable: one message per other file;
    ms: milliseconds from decoded image to features, [n].
    """

    features: Features
    read: list[Path]
    shapes: list[tuple[int, int]]
    unreadable: list[str]
    ms: NDArray[np.float64]


def extract(
    paths: Sequence[Path], rig: Rig, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> Extracted:
    """Features of `paths`; local ones if the engine gives them."""
    engine = rig.engine
    preprocessor = Preprocessor(rig.backbone.height, rig.backbone.width)
    pooled = np.empty((len(paths), rig.backbone.dim), np.float32)
    local: NDArray[np.float32] | None = None
    read: list[Path] = []
    shapes: list[tuple[int, int]] = []
    unreadable: list[str] = []
    ms: list[float] = []
    for path in paths:
        try:
            image = read_image(path, rig.rule, int(MAX_MEGAPIXELS * 1e6))
        except CaptureError as error:
            unreadable.append(str(error))
            rig.advance()
            continue
        started = clock_ns()
        preprocessor.prepare(image, None, engine.input[0])
        row = engine.infer()[0]
        took = (clock_ns() - started) / 1e6
        found = engine.local
        if found is not None and local is None:
            local = np.empty((len(paths), *found.shape[1:]), np.float32)
        if _finite(row) and (found is None or _finite(found)):
            pooled[len(read)] = row
            if local is not None and found is not None:
                local[len(read)] = found[0]
            read.append(path)
            shapes.append((image.shape[0], image.shape[1]))
            ms.append(took)
        else:
            unreadable.append(
                f"{printable(path)}: the network's features are NaN or Inf; look at the image"
            )
        rig.advance()
    n = len(read)
    features = Features(pooled[:n], None if local is None else local[:n])
    return Extracted(features, read, shapes, unreadable, np.array(ms))


def _finite(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all())
