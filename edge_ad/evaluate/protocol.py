"""The publication's protocol on MVTec AD: five folds over the good parts, the whole test split for each.

Every fit sees the four fifths of a fold; AUROC is averaged over folds for each class, then over classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Level
from edge_ad.capture.images import printable
from edge_ad.errors import CaptureError, CheckFailed
from edge_ad.evaluate.dataset import Dataset
from edge_ad.evaluate.extract import Rig, extract
from edge_ad.evaluate.metrics import auroc
from edge_ad.evaluate.published import CLASSES
from edge_ad.evaluate.result import Network
from edge_ad.gaussian.model import fit_levels
from edge_ad.gaussian.score import level_distances, level_sum
from edge_ad.gaussian.subspace import Reduction

FOLDS = 5


class Mean(msgspec.Struct, frozen=True):
    """Mean over classes and its standard error; null for a single class."""

    mean: float
    sem: float | None


class ClassResult(msgspec.Struct, frozen=True):
    """One class: AUROC of the sum over levels (mean over folds, and each fold), of each level (mean)."""

    image_auroc: float
    folds: list[float]
    per_level: dict[str, float]
    unreadable: list[str]


class ProtocolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `--protocol paper --json` writes. `missing`: classes of MVTec AD that are not there or lack a
    folder; `other`: classes that are not MVTec AD's and were left out."""

    schema: int = 1
    protocol: str = "paper"
    dataset: str
    backbone: Network
    levels: list[str]
    reduction: Reduction
    image_auroc: Mean
    per_level: dict[str, Mean]
    classes: dict[str, ClassResult]
    missing: list[str]
    other: list[str]


def mvtec_classes(directory: Path, datasets: Sequence[Dataset]) -> list[Dataset]:
    """Those of `datasets` that are classes of MVTec AD, in the publication's order. CaptureError when
    there is none."""
    by_name = {dataset.name: dataset for dataset in datasets}
    found = [by_name[name] for name in CLASSES if name in by_name]
    if not found:
        raise CaptureError(
            f"{printable(directory)}: none of MVTec AD's classes is here ({', '.join(CLASSES)}); give "
            "the folder that holds theirs"
        )
    return found


def run_protocol(
    directory: Path,
    datasets: Sequence[Dataset],
    rig: Rig,
    levels: Sequence[Level],
    reduction: Reduction,
) -> ProtocolResult:
    """Measure every class of MVTec AD among `datasets`, of which there is at least one."""
    chosen = mvtec_classes(directory, datasets)
    classes = {dataset.name: measure_folds(dataset, rig, levels, reduction) for dataset in chosen}
    return ProtocolResult(
        dataset=printable(directory),
        backbone=Network(rig.backbone.name, rig.backbone.sha256),
        levels=[level.name for level in levels],
        reduction=reduction,
        image_auroc=mean_of([c.image_auroc for c in classes.values()]),
        per_level={
            level.name: mean_of([c.per_level[level.name] for c in classes.values()]) for level in levels
        },
        classes=classes,
        missing=[name for name in CLASSES if name not in classes],
        other=[dataset.name for dataset in datasets if dataset.name not in CLASSES],
    )


def measure_folds(
    dataset: Dataset, rig: Rig, levels: Sequence[Level], reduction: Reduction
) -> ClassResult:
    """One class. CheckFailed when a folder has no readable image, or too few for five folds."""
    train, good = extract(dataset.train, rig), extract(dataset.good, rig)
    bad = [extract(paths, rig) for paths in dataset.defects.values()]
    unreadable = [line for found in (train, good, *bad) for line in found.unreadable]
    defects = np.concatenate([found.features.pooled for found in bad])
    if not good.read or not len(defects) or len(train.read) < FOLDS:
        raise CheckFailed(
            f"{printable(dataset.root)}: {len(train.read)} images to fit, {len(good.read)} good and "
            f"{len(defects)} defective ones to test can be read; five folds need at least 5, 1 and 1"
        )
    sums, singles = [], []
    for fold in fold_indices(len(train.read)):
        gaussians = fit_levels(train.features.pooled[fold], levels, reduction)
        distances = [level_distances(x, levels, gaussians) for x in (good.features.pooled, defects)]
        sums.append(auroc(*(level_sum(d) for d in distances)))
        singles.append([auroc(*(d[:, i] for d in distances)) for i in range(len(levels))])
    means = np.mean(singles, axis=0)
    return ClassResult(
        image_auroc=float(np.mean(sums)),
        folds=sums,
        per_level={level.name: float(v) for level, v in zip(levels, means, strict=True)},
        unreadable=unreadable,
    )


def fold_indices(n: int, folds: int = FOLDS) -> list[NDArray[np.int64]]:
    """Which of n parts each fold fits on: scikit-learn's KFold(folds, shuffle=True, random_state=0)."""
    order = np.arange(n)
    # The publication's split is the old generator's.
    np.random.RandomState(0).shuffle(order)
    left_out = np.array_split(order, folds)
    return [np.setdiff1d(np.arange(n), out) for out in left_out]


def mean_of(values: Sequence[float]) -> Mean:
    """Mean and its standard error, std / sqrt(n) with the unbiased std."""
    if len(values) < 2:
        return Mean(float(np.mean(values)), None)
    return Mean(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))))
