"""One class of a data set, fitted and scored: what every number and picture of an evaluation is made of.

Fitted on train/good alone, as a station does it; the test parts are only measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.images import printable
from edge_ad.errors import CheckFailed
from edge_ad.evaluate.dataset import Dataset
from edge_ad.evaluate.extract import Extracted, Rig, extract
from edge_ad.gaussian.view import FitSettings, Scored, ViewFit, fit_view

CHUNK = 64  # images whose local features are in memory at once
TIMED = 20  # parts that are scored one by one, to time it


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Scored images of one kind: `pooled` float32 [n, D]; `shapes` (rows, columns) of the images;
    `ms` from decoded image to features."""

    paths: list[Path]
    shapes: list[tuple[int, int]]
    pooled: NDArray[np.float32]
    scored: Scored
    unreadable: list[str]
    ms: NDArray[np.float64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """What is compared with the threshold, [n]."""
        return self.scored.scores


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A fitted and scored class. `train`: pooled features of the fitted parts, float32 [n, D];
    `score_ms`: median time to score one part in NumPy."""

    dataset: Dataset
    settings: FitSettings
    train: NDArray[np.float32]
    train_unreadable: list[str]
    fit: ViewFit
    good: Group
    bad: dict[str, Group]
    score_ms: float

    @property
    def bad_scores(self) -> NDArray[np.float64]:
        """Scores of all defects, kind after kind."""
        return np.concatenate([group.scores for group in self.bad.values()])

    @property
    def ms_per_part(self) -> float:
        """Median of preprocessing and network, plus the median of scoring one part at a time."""
        ms = np.concatenate([group.ms for group in (self.good, *self.bad.values())])
        return float(np.median(ms) + self.score_ms)


def measure_class(
    dataset: Dataset,
    rig: Rig,
    settings: FitSettings,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Measured:
    """Fit and score. CheckFailed when a folder has no readable image or the fit is refused."""
    train = extract(dataset.train, rig)
    if not train.read:
        raise _nothing(dataset.train, train.unreadable)
    fit = fit_view(train.features, settings)
    first = extract(dataset.good[:CHUNK], rig)
    timings = []
    for i in range(min(TIMED, len(first.read))):
        one = first.features.take(np.array([i]))
        started = clock_ns()
        fit.score(one)
        timings.append((clock_ns() - started) / 1e6)
    good = _score(dataset.good, rig, fit, first)
    bad = {kind: _score(paths, rig, fit) for kind, paths in dataset.defects.items()}
    return Measured(
        dataset=dataset,
        settings=settings,
        train=train.features.pooled,
        train_unreadable=train.unreadable,
        fit=fit,
        good=good,
        bad=bad,
        score_ms=float(np.median(timings)) if timings else 0.0,
    )


def _score(paths: Sequence[Path], rig: Rig, fit: ViewFit, first: Extracted | None = None) -> Group:
    """Scores of `paths` in chunks; `first`: the first chunk, where it was extracted already."""
    read: list[Path] = []
    shapes: list[tuple[int, int]] = []
    unreadable: list[str] = []
    pooled, scored, ms = [], [], []
    for start in range(0, len(paths), CHUNK):
        found = first if first is not None and not start else extract(paths[start : start + CHUNK], rig)
        read += found.read
        shapes += found.shapes
        unreadable += found.unreadable
        if found.read:
            pooled.append(found.features.pooled)
            scored.append(fit.score(found.features))
            ms.append(found.ms)
    if not read:
        raise _nothing(paths, unreadable)
    return Group(read, shapes, np.concatenate(pooled), _joined(scored), unreadable, np.concatenate(ms))


def _joined(scored: Sequence[Scored]) -> Scored:
    maps = [s.maps for s in scored if s.maps is not None]
    return Scored(
        np.concatenate([s.scores for s in scored]),
        np.concatenate([s.distances for s in scored]),
        np.concatenate(maps) if maps else None,
    )


def _nothing(paths: Sequence[Path], unreadable: Sequence[str]) -> CheckFailed:
    where = printable(paths[0].parent)
    return CheckFailed(f"{where}: no image can be read; first: {unreadable[0]}")
