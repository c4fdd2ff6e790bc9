"""From maps to pixel numbers: which images count, and what is said about the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_up_dataset import KINDS, write_class
from numpy.typing import NDArray

from edge_ad.backbone.engine import FeatureEngine
from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import load_backbone
from edge_ad.capture.pixels import pixel_rule
from edge_ad.evaluate.dataset import find_datasets
from edge_ad.evaluate.extract import Rig
from edge_ad.evaluate.masks import read_mask
from edge_ad.evaluate.metrics import lowest_threshold
from edge_ad.evaluate.numbers import numbers
from edge_ad.evaluate.run import masks_of
from edge_ad.evaluate.scoring import Group, Measured, measure_class
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.view import FitSettings

CELLS = 20


def measured(root: Path, tiny: str) -> tuple[Measured, Rig]:
    """The class by pooled features; its maps are made up by `with_maps`."""
    backbone = load_backbone(tiny)
    engine: FeatureEngine = open_features(backbone)
    rig = Rig(backbone, engine, pixel_rule("auto"), lambda: None)
    [dataset] = find_datasets(root).classes
    try:
        return measure_class(
            dataset, rig, FitSettings(levels=backbone.levels, reduction=Reduction())
        ), rig
    finally:
        engine.close()


def with_maps(m: Measured, root: Path) -> Measured:
    """Maps that show every defect where its mask is."""

    def cells(group: Group, kind: str) -> Group:
        maps: NDArray[Any] = np.zeros((len(group.paths), CELLS, CELLS), np.float32)
        for i, path in enumerate(group.paths if kind else []):
            mask = read_mask(root / "ground_truth" / kind / f"{path.stem}_mask.png")
            maps[i] = cv2.resize(mask.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
        return replace(group, scored=replace(group.scored, maps=maps))

    return replace(m, good=cells(m.good, ""), bad={kind: cells(m.bad[kind], kind) for kind in KINDS})


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    return write_class(tmp_path / "plates", train=25, good=6, masks=True)


def test_maps_that_show_the_defects_score_high_and_flat_ones_at_chance(plates: Path, tiny: str) -> None:
    m, rig = measured(plates, tiny)
    masks = masks_of(m.dataset)
    result = numbers(with_maps(m, plates), rig, masks, "default", 0.01)
    assert result.pixel_auroc is not None and result.pixel_auroc > 0.97
    assert result.aupro is not None and result.aupro > 0.9
    assert result.masks is not None
    assert (result.masks.used, result.masks.regions) == (14, 14)
    assert "20 x 20 cells" in result.map_note and "14 masks, 14 regions" in result.map_note
    assert result.chi_squared is None


def test_without_maps_or_without_ground_truth_there_are_no_pixel_numbers(
    plates: Path, tiny: str
) -> None:
    m, rig = measured(plates, tiny)
    shown = with_maps(m, plates)
    for one, masks in ((m, masks_of(m.dataset)), (shown, None)):
        result = numbers(one, rig, masks, "default", 0.01)
        assert result.pixel_auroc is result.aupro is result.masks is None
    assert "no ground_truth" in result.map_note


def test_images_without_a_usable_mask_are_left_out_and_listed(plates: Path, tiny: str) -> None:
    m, rig = measured(plates, tiny)
    shown = with_maps(m, plates)
    folder = plates / "ground_truth/stain"
    (folder / "000_mask.png").unlink()
    (folder / "001_mask.png").unlink()
    (folder / "002_mask.png").write_bytes(b"")
    empty = cv2.imread(str(folder / "003_mask.png"), cv2.IMREAD_GRAYSCALE) // 255
    cv2.imwrite(str(folder / "003_mask.png"), empty)
    # Were they counted as normal, their stains would be false positives above every good pixel.
    result = numbers(shown, rig, masks_of(m.dataset), "default", 0.01)
    assert result.masks is not None
    assert result.masks.used == 10
    assert result.pixel_auroc is not None and result.pixel_auroc > 0.97
    assert result.masks.missing == ["test/stain/000.png", "test/stain/001.png"]
    said = "\n".join(result.left_out)
    assert "test/stain/000.png: no mask; so have 2 defects in all" in said
    assert "003_mask.png: no pixel above 127 (highest 1); left out of the pixel numbers" in said
    assert "002_mask.png: the file is empty" in said


def test_no_usable_mask_at_all_is_no_number(plates: Path, tiny: str) -> None:
    m, rig = measured(plates, tiny)
    shown = with_maps(m, plates)
    for path in plates.glob("ground_truth/*/*.png"):
        path.unlink()
    result = numbers(shown, rig, masks_of(m.dataset), "default", 0.01)
    assert result.pixel_auroc is result.aupro is None
    assert "no usable mask" in result.map_note


@pytest.mark.parametrize(("rate", "rejected"), [(0.01, 0), (0.1, 1), (0.29, 2), (0.3, 3)])
def test_the_lowest_threshold_that_keeps_a_rate(rate: float, rejected: int) -> None:
    good = np.random.default_rng(0).permutation(10).astype(float)
    threshold = lowest_threshold(good, rate)
    assert (good > threshold).sum() == rejected
    assert (good > threshold - 1).sum() == rejected + 1


def test_tied_scores_never_exceed_the_rate() -> None:
    good = np.array([1.0, 2, 2, 2])
    assert lowest_threshold(good, 0.5) == 2
    assert (good > lowest_threshold(good, 0.8)).sum() <= 3
