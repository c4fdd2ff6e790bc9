"""What `edge-ad evaluate --json` writes. Keys are stable; a key without a value is null."""

from __future__ import annotations

import msgspec

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.evaluate.metrics import Interval
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.threshold import Promise


class WorkingPoint(msgspec.Struct, frozen=True):
    """One threshold. false_reject_interval is where the promise predicts the measured rate to lie with
    95 % probability, calibration size included; `inside` says whether it does."""

    target: float
    threshold: float
    promise: Promise
    promise_text: str
    false_reject_rate: float
    false_reject_interval: Interval
    inside: bool
    detection_rate: float
    detection_interval: Interval


class ChiSquared(msgspec.Struct, frozen=True):
    """The publication's threshold, which exists for a single level only."""

    dims: int
    target: float
    threshold: float
    false_reject_rate: float
    detection_rate: float


class Defect(msgspec.Struct, frozen=True):
    """One kind of defect against all good test parts."""

    parts: int
    image_auroc: float
    image_auroc_interval: Interval
    detection_rate: float
    detection_interval: Interval


class LevelResult(msgspec.Struct, frozen=True):
    """One level alone. dims: what was kept; shrinkage and condition: of its covariance."""

    image_auroc: float
    dims: int
    shrinkage: float
    condition: float


class Parts(msgspec.Struct, frozen=True):
    """How many images went into the numbers."""

    train: int
    good: int
    defect: int


class Network(msgspec.Struct, frozen=True):
    """The backbone's name and identity."""

    name: str
    sha256: str


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One class of a data set. Rates are shares of parts; distances are as in `gaussian.score`."""

    schema: int = 1
    name: str
    dataset: str
    profile: str
    image_auroc: float
    image_auroc_interval: Interval
    # Gaussians of pooled features give one score per image and no map.
    pixel_auroc: float | None
    aupro: float | None
    map_note: str
    target_false_reject_rate: float
    false_reject_rate: float
    false_reject_interval: Interval
    false_reject_inside: bool
    detection_rate: float
    detection_interval: Interval
    threshold: float
    promise: Promise
    promise_text: str
    per_defect: dict[str, Defect]
    per_level: dict[str, LevelResult]
    working_points: list[WorkingPoint]
    chi_squared: ChiSquared | None
    # Median from decoded image to score, milliseconds.
    ms_per_part: float
    parts: Parts
    reduction: Reduction
    backbone: Network
    engine: EngineIdentity
    preprocess: str
    unreadable: list[str]
    empty: list[str]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Several classes: unweighted means, and each class in full."""

    schema: int = 1
    dataset: str
    profile: str
    image_auroc: float
    pixel_auroc: float | None
    aupro: float | None
    map_note: str
    target_false_reject_rate: float
    false_reject_rate: float
    detection_rate: float
    per_defect: dict[str, Defect]
    ms_per_part: float
    classes: list[Evaluation]


def summarise(dataset: str, classes: list[Evaluation]) -> Summary:
    """The means over `classes`, of which there is at least one; defects are named class/kind."""
    first = classes[0]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return Summary(
        dataset=dataset,
        profile=first.profile,
        image_auroc=mean([c.image_auroc for c in classes]),
        pixel_auroc=None,
        aupro=None,
        map_note=first.map_note,
        target_false_reject_rate=first.target_false_reject_rate,
        false_reject_rate=mean([c.false_reject_rate for c in classes]),
        detection_rate=mean([c.detection_rate for c in classes]),
        per_defect={f"{c.name}/{kind}": d for c in classes for kind, d in c.per_defect.items()},
        ms_per_part=mean([c.ms_per_part for c in classes]),
        classes=classes,
    )
