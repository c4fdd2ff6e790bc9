"""What a conversion costs: features of the converted graph beside those in float32, on the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.tensorrt.graph import libraries


def feature_errors(
    reference: Any, converted: Any, backbone: Backbone, frames: Iterable[NDArray[np.uint8]]
) -> dict[str, float]:
    """Per level, and for `local` where it is there: the largest difference over all frames, as a share
    of the level's largest feature. `frames` are network inputs [batch, H, W, 3]; NaN stays NaN.
    """
    errors: dict[str, float] = {}
    largest: dict[str, float] = {}
    exact, rounded = _session(reference), _session(converted)
    names = [output.name for output in reference.graph.output]
    for frame in frames:
        ours = dict(zip(names, rounded.run(names, {"image": frame}), strict=True))
        theirs = dict(zip(names, exact.run(names, {"image": frame}), strict=True))
        for what, name, columns in _parts(backbone, names):
            a, b = ours[name][..., columns].astype(np.float64), theirs[name][..., columns]
            errors[what] = _worse(errors.get(what, 0.0), float(np.abs(a - b).max()))
            largest[what] = max(largest.get(what, 0.0), float(np.abs(b).max()))
    return {what: error / (largest[what] or 1.0) for what, error in errors.items()}


def made_up_frames(shape: tuple[int, int, int, int]) -> list[NDArray[np.uint8]]:
    """Two seeded network inputs, where there are no pictures of the line: noise, and soft waves."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    waves = [127 + 90 * np.sin(columns / (7 + k)) * np.cos(rows / (11 + k)) for k in range(3)]
    soft = np.stack(waves, -1)[None] + rng.normal(0, 8, shape)
    return [rng.integers(0, 256, shape, dtype=np.uint8), np.clip(soft, 0, 255).astype(np.uint8)]


def _session(model: Any) -> Any:
    """Without rewrites, which would compute in float32 across the casts to half."""
    _, runtime = libraries()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _parts(backbone: Backbone, outputs: list[str]) -> list[tuple[str, str, slice]]:
    """What is compared by itself: its name, its output, its columns."""
    parts = [
        (level.name, "pooled", slice(level.offset, level.offset + level.dim))
        for level in backbone.levels
    ]
    return [*parts, ("local", "local", slice(None))] if "local" in outputs else parts


def _worse(a: float, b: float) -> float:
    """The larger one, or NaN where there is one."""
    return a if np.isnan(a) or a >= b else b
