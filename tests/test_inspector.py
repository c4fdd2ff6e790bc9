"""Pictures to verdicts: the inspector, its two-sided refusals, and `edge-ad inspect`."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from daemon_line import BLACK, good
from tiny_bundle import HEIGHT, WIDTH, make_bundle

import edge_ad
from edge_ad.backbone.engine import EngineIdentity
from edge_ad.backbone.openvino import open_features
from edge_ad.bundle import Bundle, open_bundle
from edge_ad.cli.inspect import command
from edge_ad.engines import EngineChoice
from edge_ad.errors import ArtifactError, CheckFailed, ConfigError
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.preprocess import Preprocessor
from edge_ad.reference import check_reference
from edge_ad.verdict import Decision, Reason, fault


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def inspector(path: Path) -> Inspector:
    return edge_ad.load(path, threads=1)


def test_score_is_the_sum_of_the_levels_distances_in_numpy(inspector: Inspector, path: Path) -> None:
    bundle = open_bundle(path)
    features = open_features(bundle.backbone(), threads=1)
    for image in (good(3), BLACK):
        Preprocessor(64, 64).prepare(image, None, features.input[0])
        x = features.infer()[0].astype(np.float64)
        expected = 0.0
        for level in bundle.manifest.levels:
            mean = bundle.tensors[f"openvino-f32/top/{level.name}/mean"]
            whitening = bundle.tensors[f"openvino-f32/top/{level.name}/whitening"].astype(np.float64)
            z = whitening @ (x[level.offset : level.offset + level.dim] - mean)
            expected += float(np.sqrt(z @ z))
        verdict = inspector.inspect(image)
        assert verdict.score == pytest.approx(expected, rel=1e-4)
        assert verdict.decision is (
            Decision.PASS if expected <= inspector.threshold else Decision.REJECT
        )
        assert verdict.distances is not None
        assert verdict.distances.shape == (1, 4)


def test_good_passes_and_black_does_not(inspector: Inspector) -> None:
    assert inspector.inspect(good(5)).passed
    verdict = inspector.inspect(BLACK)
    assert (verdict.decision, verdict.reason, verdict.view) == (Decision.REJECT, Reason.SCORE, "top")


def test_score_at_the_threshold_passes(tmp_path: Path, inspector: Inspector) -> None:
    score = inspector.inspect(good(5)).score
    at = edge_ad.load(make_bundle(tmp_path / "at", threshold=score), threads=1)
    below = edge_ad.load(
        make_bundle(tmp_path / "below", threshold=float(np.nextafter(score, 0))), threads=1
    )
    assert at.inspect(good(5)).passed
    assert below.inspect(good(5)).decision is Decision.REJECT


def test_distances_are_the_callers_to_keep(inspector: Inspector) -> None:
    first = inspector.inspect(good(1)).distances
    assert first is not None
    kept = first.copy()
    inspector.inspect(BLACK)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((HEIGHT, WIDTH - 1), np.uint8), Reason.FRAME_SIZE),
        (np.zeros((0, WIDTH), np.uint8), Reason.FRAME_SIZE),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), Reason.PIXEL_FORMAT),
        (np.zeros((HEIGHT, WIDTH, 4), np.uint8), Reason.PIXEL_FORMAT),
        (np.zeros((HEIGHT, WIDTH), np.float32), Reason.PIXEL_FORMAT),
        (np.zeros(WIDTH, np.uint8), Reason.PIXEL_FORMAT),
    ],
)
def test_other_picture_is_fault_with_both_sides(
    inspector: Inspector, image: Any, reason: Reason
) -> None:
    verdict = inspector.inspect(image)
    assert (verdict.decision, verdict.reason) == (Decision.FAULT, reason)
    assert np.isnan(verdict.score)
    assert "camera top" in verdict.detail


def test_part_of_another_number_of_images_is_fault(inspector: Inspector) -> None:
    assert inspector.inspect_part([good(1), good(1)]).reason is Reason.MISSING_VIEW


class Fixed:
    """An engine that gives the same distances whatever it sees."""

    def __init__(self, identity: EngineIdentity, distances: Any, cells: Any = None) -> None:
        self.identity = identity
        self.cells = None if cells is None else np.array(cells, np.float32)
        self.local = None if cells is None else np.zeros((*np.shape(cells), 10), np.float32)
        self.distances = np.array(distances, np.float32)
        self.input = np.zeros((len(self.distances), 64, 64, 3), np.uint8)
        self.closed = False

    def infer(self) -> Any:
        return self.distances

    def close(self) -> None:
        self.closed = True


def fixed(bundle: Bundle, distances: Any, cells: Any = None) -> Inspector:
    return Inspector(bundle, Fixed(bundle.manifest.engines["openvino-f32"].identity, distances, cells))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_anywhere_is_fault(path: Path, bad: float) -> None:
    verdict = fixed(open_bundle(path), [[0.1, bad, 0.1, 0.1]]).inspect(good(0))
    assert (verdict.decision, verdict.reason) == (Decision.FAULT, Reason.NOT_FINITE)


@pytest.fixture(scope="module")
def localising(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two views that localises."""
    state = tmp_path_factory.mktemp("localising")
    return make_bundle(state, cameras=("a", "b"), profile="default")


def naive_view(bundle: Bundle, view: str, pooled: Any, local: Any) -> tuple[float, Any]:
    """Score and map of one view in float64, one position at a time, from the bundle's tensors."""

    def tensor(level: str, what: str) -> Any:
        return bundle.tensors[f"openvino-f32/{view}/{level}/{what}"].astype(np.float64)

    whole = 0.0
    for level in bundle.manifest.levels:
        z = tensor(level.name, "whitening") @ (
            pooled[level.offset : level.offset + level.dim] - tensor(level.name, "mean")
        )
        whole += float(np.sqrt(z @ z))
    coarse = (tensor("local", "pooling") @ local).ravel() - tensor("local", "context_mean")
    t = tensor("local", "context") @ coarse
    given, alone = [], []
    for p, x in enumerate(local):
        from_mean = x - tensor("local", "mean")[p]
        rest = from_mean - tensor("local", "coefficients")[p] @ t
        for z, what, kind, y in ((given, "whitening", 0, rest), (alone, "alone", 1, from_mean)):
            d = float(np.linalg.norm(tensor("local", what)[p] @ y))
            z.append((d - tensor("local", "center")[kind, p]) / tensor("local", "spread")[kind, p])
    how = bundle.section("openvino-f32").local[0].combination
    largest = float(np.mean(sorted(given)[-how.top :]))
    score = max(
        (largest - how.local_mean) / how.local_spread,
        0.5 * (whole - how.global_mean) / how.global_spread,
    )
    return score, np.minimum(given, alone).reshape(4, 4)


def test_score_and_maps_of_positions_are_those_of_numpy(localising: Path) -> None:
    bundle = open_bundle(localising)
    inspector = edge_ad.load(localising, threads=1)
    features = open_features(bundle.backbone(), batch=2, threads=1, local=True)
    spoilt = good(4)
    spoilt[50:70, 4:24] = 255
    images = [good(3), spoilt]
    for image, row in zip(images, features.input, strict=True):
        Preprocessor(64, 64).prepare(image, None, row)
    pooled = features.infer().astype(np.float64)
    assert features.local is not None
    expected = [
        naive_view(bundle, view, *of_view)
        for view, *of_view in zip("ab", pooled, features.local.astype(np.float64), strict=True)
    ]
    verdict = inspector.inspect_part(images)
    assert verdict.score == pytest.approx(expected[1][0], rel=1e-3)
    assert verdict.score > expected[0][0]
    assert (verdict.view, verdict.decision) == ("b", Decision.REJECT)
    assert verdict.maps is not None
    for found, (_, wanted) in zip(verdict.maps, expected, strict=True):
        assert (found.shape, found.dtype) == ((4, 4), np.float32)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    # The spot lies in the lower left.
    assert np.unravel_index(verdict.maps[1].argmax(), (4, 4)) in [(2, 0), (3, 0), (3, 1), (2, 1)]
    kept = [one.copy() for one in verdict.maps]
    again = inspector.inspect_part(images)
    assert inspector.inspect_part([good(5), good(6)]).passed
    assert all(np.array_equal(a, b) for a, b in zip(kept, verdict.maps, strict=True))
    assert again.maps is not None  # asked for after the next part
    assert all(np.array_equal(a, b) for a, b in zip(kept, again.maps, strict=True))
    inspector.close()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_not_finite_is_fault(localising: Path, bad: float) -> None:
    """Wherever it is, and however small the others are."""
    distances, cells = np.ones((2, 4)), np.ones((2, 16))
    assert fixed(open_bundle(localising), distances, cells).inspect_part([good(0), good(0)]).maps
    for view, position in ((0, 0), (1, 15)):
        cells = np.ones((2, 16))
        cells[view][position] = bad
        verdict = fixed(open_bundle(localising), distances, cells).inspect_part([good(0), good(0)])
        assert (verdict.decision, verdict.reason) == (Decision.FAULT, Reason.NOT_FINITE)
    distances[1, 2] = bad
    verdict = fixed(open_bundle(localising), distances, np.ones((2, 16))).inspect_part([good(0)] * 2)
    assert (verdict.decision, verdict.reason) == (Decision.FAULT, Reason.NOT_FINITE)


def test_without_positions_there_is_no_map(inspector: Inspector) -> None:
    assert inspector.inspect(good(1)).maps is None


def changed(bundle: Bundle, **changes: Any) -> Bundle:
    """The bundle with another section."""
    section = msgspec.structs.replace(bundle.manifest.engines["openvino-f32"], **changes)
    manifest = msgspec.structs.replace(bundle.manifest, engines={"openvino-f32": section})
    return replace(bundle, manifest=manifest)


def test_worst_view_counts_after_its_scale(tmp_path: Path) -> None:
    bundle = open_bundle(make_bundle(tmp_path, cameras=("a", "b")))
    bundle = changed(bundle, scales=[10.0, 1.0], threshold=3.0)
    distances = [[5.0] * 4, [0.5] * 4]  # 20 / 10 in view a, 2 / 1 in view b, then a little more in b
    assert fixed(bundle, distances).inspect_part([good(0), good(0)]).score == pytest.approx(2.0)
    distances[1][0] = 1.0
    verdict = fixed(bundle, distances).inspect_part([good(0), good(0)])
    assert (verdict.view, verdict.score, verdict.passed) == ("b", pytest.approx(2.5), True)


def test_stamps_separate_preprocessing_from_the_engine(path: Path) -> None:
    bundle = open_bundle(path)
    ticks = iter(range(100))
    engine = Fixed(bundle.manifest.engines["openvino-f32"].identity, [[0.1] * 4])
    inspector = Inspector(bundle, engine, lambda: next(ticks))
    inspector.inspect(good(0))
    assert inspector.stamps == [0, 1, 2, 3, 4]


def with_reference(path: Path, moved: float) -> Bundle:
    """The bundle as calibrated on another runtime, with a reference score `moved` thresholds away."""
    bundle = open_bundle(path)
    (path / "reference").mkdir(exist_ok=True)
    cv2.imwrite(str(path / "reference" / "1.png"), good(1))
    section = bundle.manifest.engines["openvino-f32"]
    score = edge_ad.load(make_bundle(path.parents[2] / "other"), threads=1).inspect(good(1)).score
    identity = msgspec.structs.replace(section.identity, runtime="2019.1")
    scores = {"reference/1.png": score + moved * section.threshold}
    return changed(bundle, identity=identity, reference_scores=scores)


def test_other_runtime_is_accepted_when_reference_frames_keep_their_scores(tmp_path: Path) -> None:
    bundle = with_reference(make_bundle(tmp_path), 0.015)
    inspector = open_inspector(bundle, EngineChoice(threads=1))
    assert check_reference(inspector) == pytest.approx(0.015, abs=1e-4)


@pytest.mark.parametrize("moved", [0.025, -0.025, float("nan")])
def test_other_runtime_is_refused_when_they_do_not(tmp_path: Path, moved: float) -> None:
    bundle = with_reference(make_bundle(tmp_path), moved)
    with pytest.raises(ArtifactError, match=r"2019\.1.*--refit"):
        open_inspector(bundle, EngineChoice(threads=1))


def test_other_runtime_without_reference_frames_is_refused(path: Path) -> None:
    bundle = open_bundle(path)
    section = bundle.manifest.engines["openvino-f32"]
    identity = msgspec.structs.replace(section.identity, device="another CPU")
    with pytest.raises(ArtifactError, match=r"another CPU.*no reference frames.*--refit"):
        open_inspector(changed(bundle, identity=identity), EngineChoice(threads=1))


def test_engine_that_was_not_calibrated_is_refused(path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"openvino-f32.*'torch-f32'.*--refit"):
        open_inspector(open_bundle(path), EngineChoice("torch"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), good(1))
    cv2.imwrite(str(folder / "b.png"), BLACK)
    return folder


def test_command_prints_a_table(path: Path, images: Path) -> None:
    done = CliRunner().invoke(command, ["-b", str(path), str(images)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "PASS" in done.output
    assert "REJECT" in done.output


def test_command_writes_json_lines_and_fails_on_a_fault(path: Path, images: Path) -> None:
    (images / "c.png").write_bytes(b"")
    arguments = ["-b", str(path), str(images / "b.png"), str(images), "--json"]
    done = CliRunner().invoke(command, arguments)
    lines = [json.loads(line) for line in done.output.splitlines()]
    assert [(Path(line["image"]).name, line["verdict"]) for line in lines] == [
        ("b.png", "REJECT"),
        ("a.png", "PASS"),
        ("b.png", "REJECT"),
        ("c.png", "FAULT"),
    ]
    assert (lines[3]["reason"], lines[3]["score"]) == ("unreadable", None)
    assert "zero bytes" in lines[3]["detail"]
    assert isinstance(done.exception, CheckFailed)
    assert "1 of 4" in str(done.exception)


def test_command_writes_json_to_a_file(path: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = CliRunner().invoke(command, ["-b", str(path), str(images), "--json", str(out)])
    assert done.exit_code == 0
    assert len(out.read_text().splitlines()) == 2


def test_command_refuses_a_bundle_of_several_cameras(tmp_path: Path, images: Path) -> None:
    path = make_bundle(tmp_path / "s", cameras=("a", "b"))
    done = CliRunner().invoke(command, ["-b", str(path), str(images)])
    assert isinstance(done.exception, ConfigError)


def test_json_never_writes_over_an_image(path: Path, images: Path) -> None:
    before = (images / "a.png").read_bytes()
    arguments = ["-b", str(path), "--json", str(images / "a.png"), str(images / "b.png")]
    done = CliRunner().invoke(command, arguments)
    assert isinstance(done.exception, ConfigError)
    assert "put --json last" in str(done.exception)
    assert (images / "a.png").read_bytes() == before


def test_a_name_that_is_no_text_is_judged_and_shown(path: Path, images: Path) -> None:
    (images / "a.png").rename(os.fsdecode(os.fsencode(images) + b"/\xff.png"))
    done = CliRunner().invoke(command, ["-b", str(path), str(images), "--json"])
    names = {json.loads(line)["image"]: json.loads(line)["verdict"] for line in done.output.splitlines()}
    assert names[f"{images}/\\xff.png"] == "PASS"


def test_colour_files_are_not_swapped_by_the_cameras_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder delivers BGR whatever was declared, as in calibration."""
    seen = []

    class Recorder:
        cameras = ("top",)
        threshold = 1.0

        def inspect(self, image: Any) -> Any:
            seen.append(image[0, 0].tolist())
            return fault(Reason.NOT_FINITE)

    monkeypatch.setattr("edge_ad.inspector.load", lambda *_: Recorder())
    cv2.imwrite(str(tmp_path / "c.png"), np.full((8, 8, 3), (10, 20, 30), np.uint8))
    arguments = ["-b", "bundle", "--pixel-format", "rgb8", str(tmp_path / "c.png"), "--json"]
    assert json.loads(CliRunner().invoke(command, arguments).stdout)["verdict"] == "FAULT"
    assert seen == [[10, 20, 30]]


@pytest.mark.parametrize("option", [("--threads", "-1"), ("--bit-depth", "17"), ("--pixel-format", "x")])
def test_command_refuses_options_out_of_range(path: Path, images: Path, option: tuple[str, str]) -> None:
    done = CliRunner().invoke(command, ["-b", str(path), str(images), *option])
    assert done.exit_code == 2
    assert option[0] in done.output
