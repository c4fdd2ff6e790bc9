"""One class from its folders to its result and its part of the page."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from edge_ad.evaluate.baselines import run_baselines
from edge_ad.evaluate.components import analyse_components
from edge_ad.evaluate.dataset import Dataset
from edge_ad.evaluate.extract import Rig
from edge_ad.evaluate.masks import Masks, find_masks
from edge_ad.evaluate.numbers import numbers
from edge_ad.evaluate.page import class_chapters
from edge_ad.evaluate.result import Evaluation
from edge_ad.evaluate.scoring import measure_class
from edge_ad.gaussian.view import FitSettings


@dataclass(frozen=True, slots=True)
class Options:
    """What is evaluated and shown. `classes`: how many share the page."""

    profile: str
    settings: FitSettings
    target: float
    baselines: bool = False
    page: bool = False
    classes: int = 1


def masks_of(dataset: Dataset) -> Masks | None:
    """The masks of a class's defects. CaptureError for one of another size than its image."""
    return find_masks(dataset.root, [path for paths in dataset.defects.values() for path in paths])


def evaluate_class(
    dataset: Dataset, masks: Masks | None, rig: Rig, options: Options
) -> tuple[Evaluation, str]:
    """The result, and its chapters of the page ("" unless asked for). CheckFailed when a folder has no
    readable image or the fit is refused."""
    measured = measure_class(dataset, rig, options.settings)
    result = numbers(measured, rig, masks, options.profile, options.target)
    if options.baselines:
        bad = np.concatenate([group.pooled for group in measured.bad.values()])
        features = (measured.train, measured.good.pooled, bad)
        levels = options.settings.levels
        result = msgspec.structs.replace(
            result,
            baselines=run_baselines(*features, levels),
            components=analyse_components(*features, levels),
        )
    page = class_chapters(result, measured, masks, rig.rule, options.classes) if options.page else ""
    return result, page
