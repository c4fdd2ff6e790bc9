"""The publication's baselines on the same pooled features: what the Gaussians are compared with.

Each scores every level alone; an image's score is the sum over levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed, ConfigError
from edge_ad.evaluate.metrics import Interval, auroc, auroc_interval
from edge_ad.gaussian.model import Level, fit_gaussian
from edge_ad.gaussian.moments import Moments
from edge_ad.gaussian.subspace import Reduction

Features = NDArray[Any]
Scores = NDArray[np.float64]
Fit = Callable[[Features], Callable[[Features], Scores]]
NU = 0.5


class Baseline(msgspec.Struct, frozen=True):
    """One method: AUROC of the sum over levels and of each level. `note`: what was done about channels
    or why there are no numbers."""

    name: str
    image_auroc: float | None
    image_auroc_interval: Interval | None
    per_level: dict[str, float]
    note: str = ""


def run_baselines(
    train: Features, good: Features, bad: Features, levels: Sequence[Level]
) -> list[Baseline]:
    """All of them, from pooled features [n, D]. ConfigError without scikit-learn."""
    one_class = one_class_svm()  # before anything takes long
    methods: list[tuple[str, Fit]] = [
        ("L2", fit_l2),
        ("SED", fit_sed),
        ("one-class SVM", one_class),
        ("Mahalanobis", mahalanobis(Reduction())),
    ]
    for kind, shares in (("pca", (0.95, 0.99)), ("npca", (0.01, 0.001, 0.0001))):
        for share in shares:
            # The publication names NPCA by the share of variance that it leaves out.
            name = f"{kind.upper()} {share if kind == 'pca' else 1 - share:g}"
            methods.append((name, mahalanobis(Reduction.from_shares(**{kind: share}))))
    return [_measure(name, fit, train, good, bad, levels) for name, fit in methods]


def fit_l2(train: Features) -> Callable[[Features], Scores]:
    """Root of the mean squared difference from the mean, over features: sqrt(mean_d (x - mu)^2)."""
    mean = train.mean(axis=0, dtype=np.float64)
    return lambda x: np.asarray(np.sqrt(np.square(x - mean).mean(axis=1)))


def fit_sed(train: Features) -> Callable[[Features], Scores]:
    """As L2, each feature first divided by its standard deviation (unbiased). A feature that never moves
    has no scale to divide by, and is left out."""
    mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, ddof=1, dtype=np.float64)
    alive = std > np.finfo(np.float32).eps * np.abs(train).max(axis=0)
    if not alive.any():
        raise CheckFailed("no feature differs between the good parts")
    return lambda x: np.asarray(
        np.sqrt(np.square((x[:, alive] - mean[alive]) / std[alive]).mean(axis=1))
    )


def mahalanobis(reduction: Reduction) -> Fit:
    """The Gaussian of `gaussian.model`, its distance d."""

    def fit(train: Features) -> Callable[[Features], Scores]:
        x = np.asarray(train, np.float64)
        gaussian = fit_gaussian(Moments.of(x), reduction, x)
        return lambda x: np.sqrt(gaussian.d2(x))

    return fit


def one_class_svm() -> Fit:
    """RBF kernel, gamma = 1 / (d var), nu = 0.5; the score is minus the decision function."""
    try:
        from sklearn.svm import OneClassSVM
    except ImportError as error:
        raise ConfigError(
            "--baselines: the one-class SVM needs scikit-learn; pip install 'edge_ad[evaluate]'"
        ) from error

    def fit(train: Features) -> Callable[[Features], Scores]:
        machine = OneClassSVM(kernel="rbf", gamma="scale", nu=NU).fit(np.asarray(train, np.float64))
        return lambda x: -np.asarray(machine.decision_function(np.asarray(x, np.float64)))

    return fit


def _measure(
    name: str, fit: Fit, train: Features, good: Features, bad: Features, levels: Sequence[Level]
) -> Baseline:
    total = [np.zeros(len(good)), np.zeros(len(bad))]
    per_level: dict[str, float] = {}
    for level in levels:
        columns = slice(level.offset, level.offset + level.dim)
        try:
            score = fit(train[:, columns])
        except CheckFailed as error:
            return Baseline(name, None, None, {}, f"level {level.name}: {error}")
        scores = [score(good[:, columns]), score(bad[:, columns])]
        per_level[level.name] = auroc(*scores)
        total = [a + b for a, b in zip(total, scores, strict=True)]
    value = auroc(*total)
    return Baseline(name, value, auroc_interval(value, len(good), len(bad)), per_level)
