"""`edge-ad evaluate` on rendered data sets: the numbers, the stable keys, bad input in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up_dataset import write_class
from tiny_backbone import write_tiny_backbone

Run = Callable[..., tuple[int, str, str]]
KEYS = {
    "image_auroc", "pixel_auroc", "aupro", "false_reject_rate", "detection_rate",
    "target_false_reject_rate", "per_defect", "ms_per_part", "split",
}  # fmt: skip


def test_defects_are_told_apart_and_the_keys_are_there(run: Run, dataset: Path, tmp_path: Path) -> None:
    rate = ("--false-reject-rate", 0.05)
    code, out, _ = run(dataset, "--profile", "paper", *rate, "--json", tmp_path / "out.json")
    assert code == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result) >= KEYS
    assert result["image_auroc"] > 0.9
    assert result["pixel_auroc"] is result["aupro"] is None
    assert "no anomaly map" in result["map_note"]
    assert result["target_false_reject_rate"] == 0.05
    assert result["parts"] == {"train": 60, "good": 20, "defect": 14}
    assert {kind: d["parts"] for kind, d in result["per_defect"].items()} == {"scratch": 8, "stain": 6}
    assert list(result["per_level"]) == ["level1", "level2", "level3", "level4"]
    assert result["promise"]["method"] == "leave-one-out"
    assert result["ms_per_part"] > 0
    assert result["backbone"]["name"] == "tiny"
    for word in ("plates", "image AUROC", "scratch", "level4", "no anomaly map", "60 parts"):
        assert word in out


def test_the_default_profile_shows_where_and_is_measured_by_the_masks(run: Run, tmp_path: Path) -> None:
    root = write_class(tmp_path / "plates", masks=True)
    code, out, err = run(root, "--json", tmp_path / "out.json")
    assert (code, err) == (0, "")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["profile"] == "default"
    assert result["image_auroc"] > 0.9
    assert result["pixel_auroc"] > 0.8
    assert 0.3 < result["aupro"] <= 1
    assert result["masks"] == {"used": 14, "regions": 14, "empty": [], "missing": [], "unreadable": []}
    assert result["chi_squared"] is None
    assert f"AUPRO {result['aupro']:.3f}" in out and "4 x 4 cells" in out


def test_a_backbone_without_positions_has_only_the_publications_profile(
    run: Run, dataset: Path, tmp_path: Path
) -> None:
    write_tiny_backbone(tmp_path, local=False)
    arguments = (dataset, "--backbone", tmp_path)
    code, _, err = run(*arguments, backbone=False)
    assert code == 2
    assert "tiny gives no features per position" in err and "--profile paper" in err
    assert run(*arguments, "--profile", "paper", backbone=False)[0] == 0


def test_rates_add_up(run: Run, dataset: Path) -> None:
    code, out, _ = run(dataset, "--false-reject-rate", 0.1, "--json")
    assert code == 0
    result = json.loads(out)  # nothing but JSON on standard output
    caught = sum(round(d["detection_rate"] * d["parts"]) for d in result["per_defect"].values())
    assert result["detection_rate"] == pytest.approx(caught / 14)
    weighted = sum(d["image_auroc"] * d["parts"] for d in result["per_defect"].values()) / 14
    assert result["image_auroc"] == pytest.approx(weighted)
    low, high = result["false_reject_interval"]
    assert result["false_reject_inside"] == (low <= result["false_reject_rate"] <= high)
    targets = [p["target"] for p in result["working_points"]]
    assert targets == [0.1, 0.05, 0.01, 0.001]
    thresholds = [p["threshold"] for p in result["working_points"]]
    assert thresholds == sorted(thresholds)
    for i, point in enumerate(result["working_points"]):
        kinds = [kind["promised"][i] for kind in result["per_defect"].values()]
        assert all(kind["threshold"] == point["threshold"] for kind in kinds)
        assert sum(kind["detected"] for kind in kinds) == round(14 * point["detection_rate"])
    assert result["threshold"] == thresholds[0]


def test_detection_is_also_measured_at_rates_of_the_test_parts_themselves(
    run: Run, dataset: Path
) -> None:
    result = json.loads(run(dataset, "--json")[1])
    assert [d["target"] for d in result["detection_at"]] == [0.01, 0.001]
    for i, whole in enumerate(result["detection_at"]):
        assert whole["false_rejects"] == 0  # of 20 parts not even one is 1 %
        assert (whole["good"], whole["parts"]) == (20, 14)
        low, high = whole["detection_interval"]
        assert low <= whole["detection_rate"] == whole["detected"] / 14 <= high
        kinds = [kind["detection_at"][i] for kind in result["per_defect"].values()]
        assert sum(kind["detected"] for kind in kinds) == whole["detected"]


def test_halves_of_the_defects_make_the_whole(run: Run, dataset: Path) -> None:
    halves = {half: json.loads(run(dataset, "--split", half, "--json")[1]) for half in ("even", "odd")}
    assert [halves[half]["split"] for half in ("even", "odd")] == ["even", "odd"]
    assert sum(half["parts"]["defect"] for half in halves.values()) == 14
    for half in halves.values():
        assert half["parts"]["good"] == 20
        assert 0 < half["parts"]["defect"] < 14
    assert "odd half of the defects" in run(dataset, "--split", "odd")[1]


def test_baselines_and_components_come_with_their_option(run: Run, dataset: Path) -> None:
    code, out, _ = run(dataset, "--profile", "paper", "--baselines", "--json")
    result = json.loads(out)
    assert code == 0
    baselines = {b["name"]: b for b in result["baselines"]}
    assert baselines["Mahalanobis"]["image_auroc"] == result["image_auroc"]
    assert [c["level"] for c in result["components"]] == ["level1", "level2", "level3", "level4"]
    assert "one-class SVM" in run(dataset, "--baselines")[1]
    assert '"baselines": null' in run(dataset, "--json")[1]


@pytest.mark.parametrize(("option", "text"), [("--npca", "npca"), ("--pca", "pca")])
def test_reductions_use_folds(run: Run, dataset: Path, option: str, text: str) -> None:
    code, out, _ = run(dataset, option, 0.5, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["reduction"] == {"kind": text, "share": 0.5}
    assert result["promise"]["method"] == "crossfit-20"
    assert all(level["dims"] > 0 for level in result["per_level"].values())


def test_one_level_also_has_the_publications_chi_squared_threshold(run: Run, dataset: Path) -> None:
    code, out, _ = run(dataset, "--profile", "paper", "--levels", "level3", "--json")
    result = json.loads(out)
    assert code == 0
    assert list(result["per_level"]) == ["level3"]
    assert result["per_level"]["level3"]["image_auroc"] == result["image_auroc"]
    assert result["chi_squared"]["dims"] == 16
    assert run(dataset, "--profile", "paper", "--json")[1].count('"chi_squared": null') == 1


def test_several_classes_are_averaged(run: Run, tmp_path: Path) -> None:
    for name in ("[a]", "b"):
        write_class(tmp_path / name, train=25, good=6)
    (tmp_path / "notes").mkdir()
    code, out, _ = run(tmp_path, "--json", tmp_path / "out.json")
    assert code == 0
    assert "2 classes" in out
    assert "[a]" in out  # not taken for markup
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result) >= KEYS
    assert [c["name"] for c in result["classes"]] == ["[a]", "b"]
    for key in ("image_auroc", "detection_rate", "false_reject_rate"):
        assert result[key] == pytest.approx(np.mean([c[key] for c in result["classes"]]))
    assert "b/stain" in result["per_defect"]


def test_unreadable_images_and_empty_folders_are_listed_and_skipped(run: Run, tmp_path: Path) -> None:
    root = write_class(tmp_path / "plates", train=25, good=6)
    (root / "train/good/000.png").write_bytes(b"")
    (root / "test/stain/001.png").write_bytes((root / "test/stain/002.png").read_bytes()[:200])
    (root / "test/dent").mkdir()
    code, out, err = run(root, "--json")
    assert code == 0
    result = json.loads(out)
    assert result["parts"] == {"train": 24, "good": 6, "defect": 13}
    assert len(result["unreadable"]) == 2
    assert "train/good/000.png" in result["unreadable"][0]
    assert result["empty"] == ["test/dent"]
    assert [line.split(":")[0] for line in err.splitlines()] == ["left out"] * 3


def test_defects_in_the_training_folder_are_said_and_not_fitted(run: Run, tmp_path: Path) -> None:
    root = write_class(tmp_path / "plates", train=25, good=6)
    (root / "train/dent").mkdir()
    for i in range(3):
        (root / f"train/dent/{i}.png").write_bytes((root / f"test/stain/00{i}.png").read_bytes())
    code, out, err = run(root, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["parts"]["train"] == 25
    assert result["train_other"] == {"train/dent": 3}
    assert "plates/train/dent: 3 images beside train/good are not fitted on" in err


def test_a_class_that_lacks_a_folder_is_named_and_stops_no_other(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_class(tmp_path / name, train=25, good=6)
    (tmp_path / "b/train").rename(tmp_path / "moved")
    code, out, err = run(tmp_path, "--json")
    result = json.loads(out)
    assert code == 0
    assert [c["name"] for c in result["classes"]] == ["a", "c"]
    [line] = result["incomplete"]
    assert "b/train/good: no such directory" in line
    assert f"incomplete class: {line}" in err


def test_a_mask_of_another_size_ends_it_before_the_work(run: Run, tmp_path: Path) -> None:
    root = write_class(tmp_path / "plates", train=25, good=6, masks=True)
    mask = root / "ground_truth/stain/002_mask.png"
    mask.write_bytes((root / "ground_truth/stain/003_mask.png").read_bytes())
    code, out, err = run(root)
    assert (code, out) == (4, "")
    assert len(err.splitlines()) == 1
    for word in ("stain/002_mask.png: the mask is ", "test/stain/002.png is ", "remove it"):
        assert word in err


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("train", "train/good: no such directory"),
        ("test/good", "test/good: no such directory"),
        ("test/scratch test/stain", "no images of defects"),
    ],
)
def test_missing_folders_are_one_line(run: Run, tmp_path: Path, remove: str, message: str) -> None:
    root = write_class(tmp_path / "plates", train=5, good=2)
    for folder in remove.split():
        (root / folder).rename(tmp_path / folder.replace("/", "-"))
    code, out, err = run(root)
    assert (code, out) == (4, "")
    assert len(err.splitlines()) == 1
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["/nowhere"], 4, "/nowhere: no such directory"),
        (["DATA", "--levels", "level9"], 2, "no level 'level9' in tiny; have level1,level2"),
        (["DATA", "--pca", "0.9", "--npca", "0.1"], 2, "exclude each other"),
        (["DATA", "--false-reject-rate", "0.7"], 2, "0.7 is not in the range"),
        (["DATA", "--npca", "1"], 2, "not in the range"),
        (["DATA", "--protocol", "paper", "--html", "x.html"], 2, "--html does not go with --protocol"),
        (["DATA", "--protocol", "paper"], 4, "none of MVTec AD's classes is here"),
    ],
)
def test_wrong_use(run: Run, dataset: Path, arguments: list[str], code: int, message: str) -> None:
    found, out, err = run(*[str(dataset) if a == "DATA" else a for a in arguments])
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_a_directory_without_a_data_set(run: Run, tmp_path: Path) -> None:
    code, _, err = run(tmp_path)
    assert code == 4
    assert "no train/good here or one level below" in err


def test_a_class_of_unreadable_images_only(run: Run, tmp_path: Path) -> None:
    root = write_class(tmp_path / "plates", train=5, good=2)
    for path in (root / "train/good").iterdir():
        path.write_bytes(b"no image")
    code, _, err = run(root)
    assert code == 1
    assert "train/good: no image can be read; first: " in err
    assert len(err.splitlines()) == 1


def test_identical_good_parts_are_an_error_not_infinity(run: Run, tmp_path: Path) -> None:
    root = write_class(tmp_path / "plates", train=5, good=2)
    first = (root / "train/good/000.png").read_bytes()
    for path in (root / "train/good").iterdir():
        path.write_bytes(first)
    code, _, err = run(root)
    assert code == 1
    assert "level level1" in err
    assert "give" in err


def test_without_a_shipped_backbone_one_must_be_given(
    run: Run, dataset: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edge_ad.cli.evaluate.EMBEDDED_BACKBONE", tmp_path)
    code, _, err = run(dataset, backbone=False)
    assert code == 2
    assert "give --backbone DIR" in err


def test_pictures_of_one_grey_value_each_are_measured_like_any_other(run: Run, tmp_path: Path) -> None:
    for folder, greys in (
        ("train/good", range(90, 120)),
        ("test/good", range(95, 105)),
        ("test/x", [0]),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for grey in greys:
            cv2.imwrite(str(tmp_path / folder / f"{grey}.png"), np.full((80, 60), grey, np.uint8))
    code, out, err = run(tmp_path, "--json", "--html", tmp_path / "out.html")
    assert (code, err) == (0, "")
    assert json.loads(out)["image_auroc"] == 1
    assert "0.png" in (tmp_path / "out.html").read_text()
