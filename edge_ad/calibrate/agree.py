"""Whether the engine that will inspect says what NumPy says of the same parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_ad.calibrate.job import Job
from edge_ad.errors import DeviceError
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.view import Features, ViewFit

# Float32 in the engine's graph against float64 in NumPy.
ENGINE_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the engine says of m parts: distances [m, V, L]; cells [m, V, 2, P] or None."""

    distances: NDArray[np.float32]
    cells: NDArray[np.float32] | None


def view_scores(answers: Answers, views: Sequence[ViewFit]) -> NDArray[np.float64]:
    """Scores [m, V] as the inspector makes them, before the views' scales."""
    whole = level_sum(answers.distances)
    for i, view in enumerate(views):
        if answers.cells is not None and view.local is not None and view.combination is not None:
            z = view.local.z(answers.cells[:, i])
            whole[:, i] = view.combination.scores(whole[:, i], z)
    return whole


def check_engine(
    job: Job,
    parts: Sequence[str],
    answers: Answers,
    features: Sequence[Features],
    views: Sequence[ViewFit],
) -> None:
    """Compare the answers on m parts with NumPy's on each view's features; DeviceError when a sum of
    level distances or the distance of a position differs."""
    for i, (rule, of_view, view) in enumerate(zip(job.views, features, views, strict=True)):
        expected = level_sum(level_distances(of_view.pooled, job.levels, view.gaussians))
        found = level_sum(answers.distances[:, i])
        for part, ours, reference in zip(parts, found, expected, strict=True):
            _compare(job, f"part {part}, view {rule.name}", ours, reference, reference)
        if answers.cells is None or view.local is None or of_view.local is None:
            continue
        near = np.sqrt(view.local.d2(of_view.local)).reshape(len(parts), -1)
        cells = answers.cells[:, i].reshape(len(parts), -1)
        # A position that is the same in every part has no distance for an error to be relative to.
        usual = np.maximum(near, near.mean(axis=1, keepdims=True))
        for part, worst, ours, reference, size in zip(
            parts, np.argmax(np.abs(cells - near) / usual, axis=1), cells, near, usual, strict=True
        ):
            where = f"part {part}, view {rule.name}, position {worst % (near.shape[1] // 2)}"
            _compare(job, where, ours[worst], reference[worst], size[worst])


def _compare(job: Job, where: str, ours: float, reference: float, size: float) -> None:
    # NaN must not slip through a comparison.
    if not abs(ours - reference) <= ENGINE_TOLERANCE * size:
        raise DeviceError(
            f"engine {job.precision}: {where}: distance {ours:.6g}, NumPy says {reference:.6g}, more "
            f"than {ENGINE_TOLERANCE:g} apart; set engine.precision to f32, or drop nearly identical "
            "parts"
        )
