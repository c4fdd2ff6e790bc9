"""Pixel AUROC and AUPRO against exact references that sort every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from edge_ad.evaluate.pixels import PixelScores, area_to, enlarge

Images = list[tuple[Any, Any]]  # maps at full size with the defect's pixels, or None


def exact_auroc(images: Images) -> float:
    scores = np.concatenate([values.ravel() for values, _ in images])
    labels = np.concatenate(
        [np.zeros(v.size, bool) if mask is None else mask.ravel() for v, mask in images]
    )
    return float(roc_auc_score(labels, scores))


def exact_aupro(images: Images, limit: float) -> float:
    """Every score is a threshold; every region's overlap is counted on its own."""
    normal, regions = [], []
    for values, mask in images:
        normal.append(values.ravel() if mask is None else values[~mask])
        if mask is not None:
            labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
            regions += [values[labels == i] for i in range(1, count + 1)]
    background = np.concatenate(normal)
    thresholds = np.unique(np.concatenate([background, *regions]))[::-1]

    def share(of: Any) -> Any:
        return 1 - np.searchsorted(np.sort(of), thresholds, "left") / len(of)

    fpr = np.r_[0, share(background)]
    overlap = np.r_[0, np.mean([share(region) for region in regions], axis=0)]
    inside = fpr <= limit
    fpr = np.r_[fpr[inside], limit]
    overlap = np.r_[
        overlap[inside],
        np.interp(
            limit, np.r_[0, share(background)], np.r_[0, np.mean([share(r) for r in regions], axis=0)]
        ),
    ]
    return float((np.diff(fpr) * (overlap[1:] + overlap[:-1])).sum() / 2 / limit)


def images(seed: int, scale: float, offset: float, tail: float) -> Images:
    """Images of different sizes; maps of 8 x 6 cells, higher where the defect is; some parts good."""
    rng = np.random.default_rng(seed)
    made: Images = []
    for i in range(9):
        height, width = int(rng.integers(40, 70)), int(rng.integers(40, 70))
        cells = rng.gamma(2, 1, (8, 6)) ** tail
        mask = None
        if i % 3:
            mask = np.zeros((height, width), bool)
            y, x = int(rng.integers(5, height - 18)), int(rng.integers(5, width - 18))
            mask[y : y + 12, x : x + 4 + i] = True
            mask[2, 2:7] = True  # a second, small region
            mask[3, 7] = True  # which a corner holds together
            cells[8 * y // height, 6 * x // width] += 3
        made.append((enlarge((offset + scale * cells).astype(np.float32), (height, width)), mask))
    return made


@pytest.mark.parametrize(
    ("scale", "offset", "tail"),
    [(1.0, 0.0, 1.0), (1e-6, 0.0, 1.0), (1e6, -3e6, 1.0), (0.01, 100.0, 1.0), (1.0, -1.0, 6.0)],
    ids=["plain", "tiny", "negative", "narrow", "long-tailed"],
)
def test_binned_scores_are_the_exact_ones(scale: float, offset: float, tail: float) -> None:
    made = images(1, scale, offset, tail)
    scores = PixelScores(min(float(values.min()) for values, _ in made))
    for values, mask in made:
        scores.add(values, mask)
    assert scores.regions == 12
    assert scores.auroc() == pytest.approx(exact_auroc(made), abs=2e-4)
    assert scores.aupro() == pytest.approx(exact_aupro(made, 0.3), abs=2e-4)
    assert scores.aupro(0.05) == pytest.approx(exact_aupro(made, 0.05), abs=5e-4)


def test_a_perfect_map_is_one_and_a_constant_one_is_chance() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 5:9] = mask[12:15, 20:28] = True
    perfect, constant = PixelScores(0.0), PixelScores(7.0)
    perfect.add(mask.astype(np.float32), mask)
    constant.add(np.full(mask.shape, 7, np.float32), mask)
    assert (perfect.auroc(), perfect.aupro()) == (1.0, pytest.approx(1.0))
    assert constant.auroc() == 0.5
    assert constant.aupro() == pytest.approx(0.15)  # overlap = false-positive rate, up to 0.3


def test_a_small_region_counts_as_much_as_a_large_one() -> None:
    mask = np.zeros((40, 40), bool)
    mask[0:20, 0:20] = True
    mask[30:32, 30:32] = True
    only_large, only_small = PixelScores(0.0), PixelScores(0.0)
    large, small = np.zeros((2, 40, 40), np.float32)
    large[0:20, 0:20] = small[30:32, 30:32] = 1
    only_large.add(large, mask)
    only_small.add(small, mask)
    assert only_large.aupro() == pytest.approx(only_small.aupro())
    assert (only_large.auroc() or 0) > (only_small.auroc() or 0) + 0.4


def test_good_parts_pixels_count_as_normal() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:5] = True
    values = mask.astype(np.float32)
    scores = PixelScores(0.0)
    scores.add(values, mask)
    assert scores.auroc() == 1.0
    scores.add(np.full((10, 15), 2, np.float32))  # 150 normal pixels above every defect, 50 below
    assert scores.auroc() == 0.25


def test_without_defects_or_without_normal_pixels_there_is_no_number() -> None:
    good = PixelScores(0.0)
    good.add(np.ones((4, 4), np.float32))
    assert good.auroc() is good.aupro() is None
    whole = PixelScores(0.0)
    whole.add(np.ones((4, 4), np.float32), np.ones((4, 4), bool))
    assert whole.auroc() is whole.aupro() is None
    with pytest.raises(ValueError, match="NaN or Inf"):
        good.add(np.full((4, 4), np.nan, np.float32))


def test_a_map_is_enlarged_between_the_centres_of_its_cells() -> None:
    cells = np.array([[0, 1], [2, 3]], np.float32)
    large = enlarge(cells, (4, 8))
    assert large.shape == (4, 8)
    assert large[0, 0] == 0 and large[-1, -1] == 3
    assert large[0].tolist() == pytest.approx([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])
    assert large[:, 0].tolist() == pytest.approx([0, 0.5, 1.5, 2])


def test_area_ends_between_two_points() -> None:
    x, y = np.array([0.0, 0.2, 0.6, 1.0]), np.array([0.0, 0.5, 0.9, 1.0])
    assert area_to(x, y, 0.4) == pytest.approx(0.05 + (0.5 + 0.7) / 2 * 0.2)
    assert area_to(x, y, 0.2) == pytest.approx(0.05)
    assert area_to(x, y, 1.0) == pytest.approx(0.05 + 0.28 + 0.38)
