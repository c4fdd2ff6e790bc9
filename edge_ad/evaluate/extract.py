"""Images to pooled features, one at a time; files that cannot be read are listed, not fatal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import FeatureEngine
from edge_ad.capture.images import printable, read_image
from edge_ad.capture.pixels import PixelRule
from edge_ad.config import MAX_MEGAPIXELS
from edge_ad.errors import CaptureError
from edge_ad.preprocess import Preprocessor


@dataclass(frozen=True, slots=True)
class Extracted:
    """Features of the images that could be read, in order.

    features: float32 [n, D]; read: their n paths; unreadable: one message per other file;
    ms: milliseconds from decoded image to features, [n].
    """

    features: NDArray[np.float32]
    read: list[Path]
    unreadable: list[str]
    ms: NDArray[np.float64]


def extract(
    paths: Sequence[Path],
    engine: FeatureEngine,
    preprocessor: Preprocessor,
    rule: PixelRule,
    advance: Callable[[], None],
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Extracted:
    """Features of `paths` by an engine of batch 1. `advance` is called after each file."""
    rows: list[NDArray[np.float32]] = []
    read: list[Path] = []
    unreadable: list[str] = []
    ms: list[float] = []
    for path in paths:
        try:
            image = read_image(path, rule, int(MAX_MEGAPIXELS * 1e6))
        except CaptureError as error:
            unreadable.append(str(error))
            advance()
            continue
        started = clock_ns()
        preprocessor.prepare(image, None, engine.input[0])
        row = engine.infer()[0]
        ms.append((clock_ns() - started) / 1e6)
        if np.isfinite(row).all():
            rows.append(row.copy())
            read.append(path)
        else:
            ms.pop()
            unreadable.append(
                f"{printable(path)}: the network's features are NaN or Inf; look at the image"
            )
        advance()
    features = np.stack(rows) if rows else np.empty((0, 0), np.float32)
    return Extracted(features, read, unreadable, np.array(ms))
