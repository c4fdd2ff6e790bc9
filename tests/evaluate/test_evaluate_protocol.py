"""The publication's protocol on made-up classes: its folds, its means, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up_dataset import write_class
from sklearn.model_selection import KFold

from edge_ad.evaluate.protocol import fold_indices, mean_of
from edge_ad.evaluate.published import CLASSES, MEAN, NPCA_SEM, PER_CLASS, PER_LEVEL, level_column

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("n", [5, 7, 60, 209, 391])
def test_folds_are_scikit_learns(n: int) -> None:
    expected = KFold(5, shuffle=True, random_state=0).split(np.zeros((n, 1)))
    for found, (train, _) in zip(fold_indices(n), expected, strict=True):
        assert found.tolist() == train.tolist()


def test_the_published_classes_give_the_published_means() -> None:
    assert list(PER_CLASS) == list(CLASSES)
    assert np.mean([c.plain for c in PER_CLASS.values()]) == pytest.approx(MEAN.plain, abs=0.05)
    npca = mean_of([c.npca for c in PER_CLASS.values()])
    assert npca.mean == pytest.approx(MEAN.npca, abs=0.05)
    assert npca.sem == pytest.approx(NPCA_SEM, abs=0.005)


def test_a_networks_column_is_found_by_its_name() -> None:
    assert level_column("tf_efficientnet_b0.in1k").auroc == PER_LEVEL[0]
    assert level_column("tf_efficientnet_b4.aa_in1k").sem is not None
    assert level_column("tiny").network == "EfficientNet-B4"


def test_classes_are_measured_in_folds_and_missing_ones_named(run: Run, tmp_path: Path) -> None:
    for name in ("bottle", "grid", "plates"):
        write_class(tmp_path / name, train=25, good=6)
    (tmp_path / "screw/test").mkdir(parents=True)
    code, _, _ = run(tmp_path, "--protocol", "paper", "--json", tmp_path / "out.json")
    assert code == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert list(result["classes"]) == ["grid", "bottle"]
    assert result["other"] == ["plates"]
    assert len(result["missing"]) == 13 and "screw" in result["missing"]
    values = []
    for one in result["classes"].values():
        assert len(one["folds"]) == 5
        assert one["image_auroc"] == pytest.approx(np.mean(one["folds"]))
        assert list(one["per_level"]) == ["level1", "level2", "level3", "level4"]
        values.append(one["image_auroc"])
    assert result["image_auroc"]["mean"] == pytest.approx(np.mean(values))
    assert result["image_auroc"]["sem"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(2))


def test_measured_stands_beside_published(run: Run, tmp_path: Path) -> None:
    write_class(tmp_path / "screw", train=25, good=6)
    code, out, err = run(tmp_path, "--protocol", "paper")
    assert code == 0
    row = next(line for line in out.splitlines() if "screw" in line)
    assert "85.4" in row and "85.2" in row
    assert "1 of 15 classes; missing: carpet, grid" in out
    sums = next(line for line in out.splitlines() if "94.8" in line)
    assert " sum " in sums and "94.8 +- 1.6" in sums
    assert "no such directory" not in err


def test_too_few_parts_for_five_folds_are_refused(run: Run, tmp_path: Path) -> None:
    write_class(tmp_path / "screw", train=4, good=2)
    code, _, err = run(tmp_path, "--protocol", "paper")
    assert code == 1
    assert "4 images to fit" in err and "five folds need at least 5" in err
