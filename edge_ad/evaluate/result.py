"""What `edge-ad evaluate --json` writes. Keys are stable; a key without a value is null."""

from __future__ import annotations

import msgspec

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.evaluate.baselines import Baseline
from edge_ad.evaluate.components import Components
from edge_ad.evaluate.metrics import Interval
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.threshold import Promise


class WorkingPoint(msgspec.Struct, frozen=True):
    """A threshold from the calibration's out-of-sample scores. false_reject_interval is where the
    promise predicts the measured rate to lie with 95 % probability, calibration size included; `inside`
    says whether it does."""

    target: float
    threshold: float
    promise: Promise
    promise_text: str
    false_reject_rate: float
    false_reject_interval: Interval
    inside: bool
    detection_rate: float
    detection_interval: Interval


class Detection(msgspec.Struct, frozen=True):
    """Defects found at one threshold, with the exact 95 % interval of the rate.

    false_rejects and good: how many good test parts the threshold rejects, and of how many. Under
    `detection_at` the threshold is the lowest that rejects at most the share `target` of these very
    parts, so its own uncertainty is not in the interval.
    """

    target: float
    threshold: float
    false_rejects: int
    good: int
    detected: int
    parts: int
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
    """One kind of defect against all good test parts. detection_rate: at the threshold that was asked
    for; `promised`: at every threshold from the calibration; `detection_at`: as in Evaluation."""

    parts: int
    image_auroc: float
    image_auroc_interval: Interval
    detection_rate: float
    detection_interval: Interval
    promised: list[Detection]
    detection_at: list[Detection]


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


class MaskCount(msgspec.Struct, frozen=True):
    """Which masks the pixel numbers come from: `used` of them, with `regions` connected regions. The
    images of the others are left out of the pixel numbers, and listed."""

    used: int
    regions: int
    empty: list[str]
    missing: list[str]
    unreadable: list[str]


class Network(msgspec.Struct, frozen=True):
    """The backbone's name and identity."""

    name: str
    sha256: str


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One class of a data set. Rates are shares of parts; distances are as in `gaussian.score`."""

    schema: int = 1
    name: str
    dataset: str
    split: str
    profile: str
    image_auroc: float
    image_auroc_interval: Interval
    # null without a map or without a mask.
    pixel_auroc: float | None
    aupro: float | None
    map_note: str
    masks: MaskCount | None
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
    detection_at: list[Detection]
    chi_squared: ChiSquared | None
    baselines: list[Baseline] | None = None
    components: list[Components] | None = None
    # Median from decoded image to score, milliseconds.
    ms_per_part: float
    parts: Parts
    reduction: Reduction
    backbone: Network
    engine: EngineIdentity
    preprocess: str
    unreadable: list[str]
    empty: list[str]
    # Folders beside train/good, by their number of images: not fitted on.
    train_other: dict[str, int]

    @property
    def left_out(self) -> list[str]:
        """Everything that did not go into the numbers, one line each, for people."""
        lines = self.unreadable + [f"{self.dataset}/{folder}: no images" for folder in self.empty]
        lines += [
            f"{self.dataset}/{folder}: {count} images beside train/good are not fitted on; defects "
            f"belong into test/{folder.removeprefix('train/')}"
            for folder, count in self.train_other.items()
        ]
        if self.masks is not None:
            lines += [
                f"{self.dataset}/{line}; left out of the pixel numbers" for line in self.masks.empty
            ]
            lines += self.masks.unreadable
            if missing := self.masks.missing:
                lines.append(
                    f"{self.dataset}/{missing[0]}: no mask; so have {len(missing)} defects in all"
                )
        return lines


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Several classes: unweighted means, and each class in full. Pixel numbers: of the classes that have
    them; null without any."""

    schema: int = 1
    dataset: str
    split: str
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
    # Classes that lack a folder, with what is missing.
    incomplete: list[str]


def summarise(dataset: str, classes: list[Evaluation], incomplete: list[str]) -> Summary:
    """The means over `classes`, of which there is at least one; defects are named class/kind."""
    first = classes[0]
    return Summary(
        dataset=dataset,
        split=first.split,
        profile=first.profile,
        image_auroc=_mean([c.image_auroc for c in classes]),
        pixel_auroc=_mean_of_some([c.pixel_auroc for c in classes]),
        aupro=_mean_of_some([c.aupro for c in classes]),
        map_note=first.map_note,
        target_false_reject_rate=first.target_false_reject_rate,
        false_reject_rate=_mean([c.false_reject_rate for c in classes]),
        detection_rate=_mean([c.detection_rate for c in classes]),
        per_defect={f"{c.name}/{kind}": d for c in classes for kind, d in c.per_defect.items()},
        ms_per_part=_mean([c.ms_per_part for c in classes]),
        classes=classes,
        incomplete=incomplete,
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _mean_of_some(values: list[float | None]) -> float | None:
    some = [value for value in values if value is not None]
    return _mean(some) if some else None
