"""Whether an engine computes a network's features as the reference does: what is checked of an engine
that was built, before anything is calibrated on it, and again where its driver has changed.

An engine's error is constant in part, and a calibration on the same engine takes that part away; what
remains is for `calibrate` to judge, on the line's own parts. Here a broken engine is found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import FeatureEngine
from edge_ad.backbone.spec import Backbone
from edge_ad.errors import ArtifactError

PICTURES = 24
# Largest error of a feature, in units of its standard deviation over the pictures. Measured on the CPU
# (calibration/studies/precision.py) with the embedded network and MobileNetV2, largest of all levels:
# float16 with reductions in float32 0.05 and 0.84, bfloat16 0.33 and 4.4, 8-bit integers 3.6 and 6.2;
# float32 in another runtime 1e-4.
BOUNDS: Mapping[str, float] = {"f32": 0.02, "f16": 2.0, "int8": 15.0}
# Largest RMS error of a level over its RMS deviation, whatever the precision: above it less than three
# quarters of what tells pictures apart is the network's. Measured as above, largest of all levels:
# float16 0.005 and 0.07, bfloat16 0.03 and 0.37, 8-bit integers 0.38 and 0.36. An engine that always
# says the mean has 1, one that says features half as large again at least 0.6 in every level; as int8
# the largest error passes both.
RELATIVE_BOUND = 0.5
# A feature that hardly moves over the pictures is measured by half the usual deviation of its level.
LEAST_DEVIATION = 0.5


@dataclass(frozen=True, slots=True)
class Difference:
    """Of a level's features over all pictures. largest: of one feature in one picture, in units of the
    feature's standard deviation; relative: RMS error over the RMS deviation of the level's features."""

    largest: float
    relative: float


def reference_pictures(height: int, width: int, count: int = PICTURES) -> NDArray[np.uint8]:
    """Seeded pictures [count, height, width, 3], from grain of single pixels to a slope over the whole
    picture, of every contrast, some with edges: what any line's pictures lie among."""
    pictures = np.empty((count, height, width, 3), np.uint8)
    for i in range(count):
        rng = np.random.default_rng(i)
        grain = 2.0 ** (i % 8)
        shape = (max(2, round(height / grain)), max(2, round(width / grain)), 3)
        coarse = rng.normal(size=shape).astype(np.float32)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        picture = rng.uniform(60, 190) + rng.uniform(5, 60) * picture
        for _ in range(6 if i % 3 == 0 else 0):
            x, y = rng.integers(0, (width, height)).tolist()
            radius, line = int(rng.integers(4, max(5, height // 4))), int(rng.choice([-1, 3]))
            cv2.circle(picture, (x, y), radius, rng.uniform(0, 255, 3).tolist(), line)
        pictures[i] = np.clip(picture, 0, 255).astype(np.uint8)
    return pictures


def feature_errors(
    engine: FeatureEngine, reference: FeatureEngine, backbone: Backbone, pictures: NDArray[np.uint8]
) -> dict[str, Difference]:
    """Per level, and for `local` where both engines have it. Engines of any batch; NaN stays NaN."""
    ours, theirs = _features(engine, pictures), _features(reference, pictures)
    errors = {
        level.name: _difference(
            *(x[0][:, level.offset : level.offset + level.dim] for x in (ours, theirs))
        )
        for level in backbone.levels
    }
    if ours[1] is not None and theirs[1] is not None:
        errors["local"] = _difference(ours[1], theirs[1])
    return errors


def largest_error(errors: Mapping[str, Difference]) -> float:
    """Of all levels, NaN where one is NaN."""
    return float(np.max([error.largest for error in errors.values()]))


def check_features(errors: Mapping[str, Difference], precision: str, what: str) -> float:
    """The largest of the errors. Raises ArtifactError, which begins with `what`, when an error is above
    its bound or not finite."""
    bound = BOUNDS[precision]
    for level, error in errors.items():
        if error.largest <= bound and error.relative <= RELATIVE_BOUND:  # NaN must not slip through
            continue
        if not math.isfinite(error.largest):
            wrong = f"{error.largest:g}"
        elif error.largest > bound:
            wrong = f"{error.largest:.3g} standard deviations off (at most {bound:g} in {precision})"
        else:
            wrong = (
                f"off by {error.relative:.2g} of what they vary from picture to picture (at most "
                f"{RELATIVE_BOUND:g})"
            )
        raise ArtifactError(
            f"{what}: features of {level} are {wrong}; build it in another precision, or with another "
            "version of the runtime"
        )
    return largest_error(errors)


def _features(
    engine: FeatureEngine, pictures: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Of all pictures: pooled [n, D], local [n, P, d] or None."""
    batch, pooled, local = len(engine.input), [], []
    for start in range(0, len(pictures), batch):
        some = pictures[start : start + batch]
        engine.input[: len(some)] = some
        pooled.append(engine.infer()[: len(some)].copy())
        if engine.local is not None:
            local.append(engine.local[: len(some)].copy())
    return np.concatenate(pooled), np.concatenate(local) if local else None


def _difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Difference:
    """Of n pictures' features [n, ...]."""
    error = np.abs(ours.astype(np.float64) - theirs)
    deviation = theirs.astype(np.float64).std(axis=0)
    usual = float(np.sqrt(np.mean(deviation**2))) or 1.0
    largest = np.max(error / np.maximum(deviation, LEAST_DEVIATION * usual))
    return Difference(float(largest), float(np.sqrt(np.mean(error**2))) / usual)
