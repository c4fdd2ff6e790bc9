"""`edge-ad evaluate` on rendered data sets: the numbers, the stable keys, bad input in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_backbone import write_tiny_backbone

from edge_ad.cli.main import main

Run = Callable[..., tuple[int, str, str]]
KEYS = {
    "image_auroc", "pixel_auroc", "aupro", "false_reject_rate", "detection_rate",
    "target_false_reject_rate", "per_defect", "ms_per_part",
}  # fmt: skip


def picture(seed: int, defect: str = "") -> Any:
    """A grey part with texture; of any size, as real tiles are."""
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(70, 110)), int(rng.integers(70, 110))
    image = np.clip(120 + rng.normal(0, 8, (height, width)) + rng.normal(0, 4), 0, 255).astype(np.uint8)
    image = cv2.GaussianBlur(image, (3, 3), 0)
    if defect == "scratch":
        cv2.line(image, (5, 8), (width - 9, height - 6), 255, 2)
    elif defect == "stain":
        cv2.circle(image, (width // 2, height // 2), 14, 40, -1)
    return image


def write_class(root: Path, train: int = 60, good: int = 20) -> Path:
    for folder, count, defect, seed in (
        ("train/good", train, "", 0),
        ("test/good", good, "", 1000),
        ("test/scratch", 8, "scratch", 2000),
        ("test/stain", 6, "stain", 3000),
    ):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(root / folder / f"{i:03}.png"), picture(seed + i, defect))
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("tiny")
    write_tiny_backbone(directory)
    return str(directory)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class(tmp_path_factory.mktemp("data") / "plates")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: str) -> Run:
    """Run the command as a person would: exit code, standard output, standard error."""

    def evaluate(*arguments: object, backbone: bool = True) -> tuple[int, str, str]:
        argv = ["edge-ad", "evaluate", *map(str, arguments)]
        monkeypatch.setattr("sys.argv", argv + (["--backbone", tiny] if backbone else []))
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return evaluate


def test_defects_are_told_apart_and_the_keys_are_there(run: Run, dataset: Path, tmp_path: Path) -> None:
    code, out, _ = run(dataset, "--false-reject-rate", 0.05, "--json", tmp_path / "out.json")
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
    assert targets == [0.1, 0.05, 0.01]
    thresholds = [p["threshold"] for p in result["working_points"]]
    assert thresholds == sorted(thresholds)
    assert result["threshold"] == thresholds[0]


@pytest.mark.parametrize(("option", "text"), [("--npca", "npca"), ("--pca", "pca")])
def test_reductions_use_folds(run: Run, dataset: Path, option: str, text: str) -> None:
    code, out, _ = run(dataset, option, 0.5, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["reduction"] == {"kind": text, "share": 0.5}
    assert result["promise"]["method"] == "crossfit-20"
    assert all(level["dims"] > 0 for level in result["per_level"].values())


def test_one_level_also_has_the_publications_chi_squared_threshold(run: Run, dataset: Path) -> None:
    code, out, _ = run(dataset, "--levels", "level3", "--json")
    result = json.loads(out)
    assert code == 0
    assert list(result["per_level"]) == ["level3"]
    assert result["per_level"]["level3"]["image_auroc"] == result["image_auroc"]
    assert result["chi_squared"]["dims"] == 16
    assert run(dataset, "--json")[1].count('"chi_squared": null') == 1


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
    assert [line.split(":")[0] for line in err.splitlines()] == ["skipped"] * 3


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
