from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from tiny_backbone import write_tiny_backbone
from tiny_station import ENTRY, edge_ad, part_image, write_parts, write_station

from edge_ad.backbone.spec import Level
from edge_ad.bundle import ViewRule, activate, current_path, list_bundles, open_bundle, rollback
from edge_ad.bundle.describe import bundle_lines
from edge_ad.calibrate import Request, calibrate
from edge_ad.calibrate.agree import Answers, check_engine, numpy_answers
from edge_ad.calibrate.job import Job, Skipped
from edge_ad.calibration_set import load_set, set_directory
from edge_ad.config import Station
from edge_ad.delivery.control import ControlClient
from edge_ad.engines import EngineChoice
from edge_ad.errors import ArtifactError, CaptureError, CheckFailed, ConfigError, DeviceError
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.view import Features, FitSettings, fit_view
from edge_ad.inspector import open_inspector
from edge_ad.reference import check_reference
from edge_ad.verdict import Decision

KEY = "openvino-f32"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A station with a bundle of 40 parts; tests that change something take a copy."""
    directory = tmp_path_factory.mktemp("calibrated")
    station = write_station(directory)
    write_parts(directory / "good", 40)
    calibrate(station, Request(directory=directory / "good", person="anna", reason="first"))
    return station


@pytest.fixture
def station(calibrated: Station, tmp_path: Path) -> Station:
    shutil.copytree(calibrated.state_path, tmp_path / "state", symlinks=True)
    return write_station(tmp_path)


def active(station: Station) -> Path:
    path = current_path(station.state_path, station.product)
    assert path is not None
    return path


def kept_set(station: Station):  # type: ignore[no-untyped-def]
    sha256 = open_bundle(active(station)).manifest.calibration_set.sha256
    return load_set(set_directory(station.state_path, station.product), sha256)


def test_good_parts_become_an_active_bundle(calibrated: Station) -> None:
    bundle = open_bundle(active(calibrated))
    manifest, section = bundle.manifest, bundle.section(KEY)
    assert manifest.product == "disc"
    assert manifest.counts["parts"] == manifest.calibration_set.parts == 40
    assert section.promise.parts == 40
    assert section.promise.method == "leave-one-out"
    assert section.scales == [1.0]
    assert len(section.reference_scores) == 8
    assert bundle.backbone().directory.parent == calibrated.state_path / "backbones"


def test_the_inspector_agrees_with_the_calibration(calibrated: Station) -> None:
    bundle = open_bundle(active(calibrated))
    inspector = open_inspector(bundle, EngineChoice(threads=1))
    assert check_reference(inspector) < 1e-5
    scores = [inspector.inspect(part_image(number)).score for number in range(1000, 1100)]
    # 40 parts promise 2.4 % on average; 12 of 100 would have a chance of less than one in a thousand.
    assert np.sum(np.array(scores) > bundle.section(KEY).threshold) < 12
    spoilt = part_image(2000)
    spoilt[10:30, 20:44] = 255
    assert inspector.inspect(spoilt).decision is Decision.REJECT
    inspector.close()


def test_the_default_profile_shows_where_a_part_is_unusual(calibrated: Station) -> None:
    bundle = open_bundle(active(calibrated))
    manifest, (fit,) = bundle.manifest, bundle.section(KEY).local
    assert manifest.profile == "default"
    assert manifest.local == bundle.backbone().local
    (line,) = [line for line in bundle_lines(bundle) if line.startswith("profile")]
    assert "default: pooled levels and 4 x 4 positions of 10 features (levels level3, level4)" in line
    assert "<h3>Positions</h3>" in (bundle.path / "report.html").read_text()
    assert 0.0 < fit.shrinkage < 1.0
    inspector = open_inspector(bundle, EngineChoice(threads=1))
    spoilt = part_image(2000)
    spoilt[2:10, 2:10] = 255  # 48 x 64 pixels become 64 x 64, 16 to a cell
    verdict = inspector.inspect(spoilt)
    assert verdict.maps is not None
    assert np.unravel_index(verdict.maps[0].argmax(), (4, 4)) == (0, 0)
    inspector.close()


def test_the_publications_profile_has_no_positions(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", 25)
    station = write_station(tmp_path, calibration='profile = "paper"')
    calibrate(station, Request(directory=tmp_path / "good"))
    bundle = open_bundle(active(station))
    assert (bundle.manifest.profile, bundle.manifest.local) == ("paper", None)
    assert "paper: pooled levels alone, no map" in "\n".join(bundle_lines(bundle))
    assert bundle.local_heads(KEY) is None
    assert not [name for name in bundle.tensors if "/local/" in name]
    inspector = open_inspector(bundle, EngineChoice(threads=1))
    verdict = inspector.inspect(part_image(1000))
    assert verdict.maps is None
    assert verdict.distances is not None
    assert verdict.score == pytest.approx(float(verdict.distances.sum()), rel=1e-6)
    inspector.close()


def test_a_backbone_without_positions_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    write_tiny_backbone(tmp_path / "net", local=False)
    station = write_station(tmp_path)
    with pytest.raises(ConfigError, match=r"'default' needs features per position.*profile = 'paper'"):
        calibrate(station, Request(directory=tmp_path / "good"))


@pytest.mark.parametrize("factor", [1.002, float("nan"), float("inf")])
def test_an_engine_that_differs_at_one_position_is_refused(factor: float) -> None:
    """Beside NumPy's own answers, one cell of one part changed."""
    rng = np.random.default_rng(0)
    levels = [Level("all", "x", 6, 16, 0)]
    features = Features(
        rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(40, 4, 5)).astype(np.float32)
    )
    view = fit_view(features, FitSettings(levels, grid=(2, 2)))
    assert view.local is not None
    assert features.local is not None
    few = features.take(np.arange(3))
    assert few.local is not None
    expected = numpy_answers(few, view)
    distances = view.score(few).distances[:, None].astype(np.float32)
    cells = np.sqrt(view.local.d2(few.local))[:, None, 0].astype(np.float32)
    job = Job(
        backbone="", directory="", work="", cameras=[], views=[ViewRule(name="top", camera="top")],
        zones=[], base="",
        levels=levels, local=None, regressors=400, reduction=Reduction(), rate=0.01,
        threshold="conformal", folds=20, augment=0, min_parts=2, screen="report", screened=0,
        engines=[EngineChoice("torch")], threads=1,
        kept=[], candidates=[], next_number=1,
    )  # fmt: skip
    parts = ["000001", "000002", "000003"]
    check_engine(job, parts, Answers(distances, cells), expected)
    cells[1, 0, 2] *= factor
    with pytest.raises(DeviceError, match=r"torch-f32: part 000002, view top, position 2: .* NumPy"):
        check_engine(job, parts, Answers(distances, cells), expected)


def test_kept_frames_are_the_pictures_themselves(calibrated: Station) -> None:
    directory = set_directory(calibrated.state_path, calibrated.product)
    parts = kept_set(calibrated).kept
    assert [p.source for p in parts] == [f"part{number:04d}.png" for number in range(40)]
    assert [p.id for p in parts] == [f"{number + 1:06d}" for number in range(40)]
    for number, part in enumerate(parts):
        image = cv2.imread(str(directory / "frames" / part.files["top"].name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image, part_image(number))
        assert (part.person, part.reason) == ("anna", "first")


def test_unreadable_and_duplicate_pictures_are_listed(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    good = tmp_path / "good"
    paths = write_parts(good, 30)
    shutil.copy(paths[3], good / "zz_copy.png")
    cv2.imwrite(str(good / "zz_again.bmp"), part_image(4))
    (good / "zero.png").write_bytes(b"")
    (good / "half.png").write_bytes(paths[0].read_bytes()[:500])
    cv2.imwrite(str(good / "colour.png"), np.dstack([part_image(99)] * 3))
    result = calibrate(station, Request(directory=good))
    kinds = {one.source: one.kind for one in result.skipped}
    assert kinds == {
        "zz_copy.png": "duplicate", "zz_again.bmp": "duplicate", "zero.png": "unreadable",
        "half.png": "unreadable", "colour.png": "size",
    }  # fmt: skip
    assert result.manifest.counts["parts"] == 30
    assert result.manifest.counts["duplicate"] == 2
    report = result.report.read_text()
    for name in kinds:
        assert name in report
    assert "same picture as part0003.png" in report


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    paths = write_parts(tmp_path / "good", 30)
    paths[0].rename(os.fsdecode(os.fsencode(tmp_path) + b"/good/\xe4.png"))
    (tmp_path / "good" / os.fsdecode(b"\xf6.png")).write_bytes(b"")
    result = calibrate(station, Request(directory=tmp_path / "good"))
    assert "\\xe4.png" in [record.source for record in kept_set(station).kept]
    assert [(one.source, one.kind) for one in result.skipped] == [("\\xf6.png", "unreadable")]


@pytest.mark.parametrize("pixel_format", ["mono12", "bayerrg8", "yuv422_uyvy"])
def test_pictures_converted_before_can_be_calibrated_on(tmp_path: Path, pixel_format: str) -> None:
    """What `camera grab` wrote, for a camera whose own samples are something else."""
    station = write_station(tmp_path, "v4l2:///dev/video0", f'pixel_format = "{pixel_format}"')
    for path in write_parts(tmp_path / "good", 25):
        if pixel_format != "mono12":
            cv2.imwrite(str(path), cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2HSV))
    result = calibrate(station, Request(directory=tmp_path / "good"))
    assert result.manifest.counts["parts"] == 25
    rule = result.manifest.preprocess.cameras["top"]
    assert rule.pixel_rule.startswith(pixel_format)
    assert rule.channels == (1 if pixel_format == "mono12" else 3)


def test_too_few_parts_says_how_many(station: Station, tmp_path: Path) -> None:
    before = active(station)
    good = tmp_path / "few"
    write_parts(good, 12)
    (good / "zero.png").write_bytes(b"")
    done = edge_ad("calibrate", "-c", station.path, "--from", good)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert (
        "12 usable good parts (1 unreadable skipped), calibration.min_parts asks for 20: give 8 more"
        in last
    )
    assert active(station) == before


def test_components_of_a_few_parts_are_refused(tmp_path: Path) -> None:
    """With PCA of fewer than 100 parts the promise would not hold."""
    write_parts(tmp_path / "good", 25)
    few = write_station(tmp_path, calibration='min_parts = 20\npca = 0.9\nprofile = "paper"')
    with pytest.raises(
        CheckFailed, match=r"25 usable good parts, calibration.pca needs 100: give 75 more"
    ):
        calibrate(few, Request(directory=tmp_path / "good"))


def test_identical_parts_are_too_few(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    (path,) = write_parts(tmp_path / "good", 1)
    for number in range(30):
        shutil.copy(path, tmp_path / "good" / f"copy{number}.png")
    with pytest.raises(CheckFailed, match=r"^1 usable good parts \(30 duplicate skipped\)"):
        calibrate(station, Request(directory=tmp_path / "good"))


@pytest.mark.parametrize(
    ("make", "expected"),
    [(lambda d: None, "no such directory"), (lambda d: d.mkdir(), "no images")],
)
def test_nothing_to_read(tmp_path: Path, make, expected: str) -> None:  # type: ignore[no-untyped-def]
    station = write_station(tmp_path)
    make(tmp_path / "good")
    with pytest.raises(CaptureError, match=expected):
        calibrate(station, Request(directory=tmp_path / "good"))


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"directory": Path("a"), "parts": 3},
        {"directory": Path("a"), "refit": True},
        {"parts": 3, "add": Path("a")},
        {"parts": 3, "drop": ("1",)},
    ],
)
def test_one_way_at_a_time(request_: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="give one of --from DIR, --parts N"):
        Request(**request_)  # type: ignore[arg-type]


def test_changes_need_a_kept_set(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    for request in (Request(refit=True), Request(drop=("1",)), Request(add=tmp_path)):
        with pytest.raises(ConfigError, match=r"no bundle yet.*--from DIR or --parts N"):
            calibrate(station, request)


def test_refit_needs_no_parts_and_changes_nothing(station: Station) -> None:
    before = open_bundle(active(station))
    result = calibrate(station, Request(refit=True))
    assert result.manifest.id != before.manifest.id
    assert result.manifest.calibration_set == before.manifest.calibration_set
    assert result.manifest.engines[KEY].threshold == pytest.approx(
        before.section(KEY).threshold, rel=1e-9
    )
    assert len(list_bundles(station.state_path, "disc")) == 2


def test_refit_with_another_setting(station: Station, tmp_path: Path) -> None:
    changed = write_station(tmp_path, calibration='npca = 0.05\nlevels = ["level2", "level3"]')
    manifest = calibrate(changed, Request(refit=True)).manifest
    assert [level.name for level in manifest.levels] == ["level2", "level3"]
    assert manifest.reduction.kind == "npca"
    assert manifest.engines[KEY].promise.method == "crossfit-20"
    (fits,) = manifest.engines[KEY].levels
    assert [fit.k < level.dim for fit, level in zip(fits, manifest.levels, strict=True)] == [True] * 2
    inspector = open_inspector(open_bundle(active(changed)), EngineChoice(threads=1))
    assert check_reference(inspector) < 1e-5
    inspector.close()


def test_add_and_drop(station: Station, tmp_path: Path) -> None:
    text = kept_set(station).text
    write_parts(tmp_path / "more", 12, first=35)
    now = datetime(2030, 1, 1, tzinfo=timezone.utc)
    result = calibrate(
        station,
        Request(add=tmp_path / "more", drop=("000002", "7"), person="ben", reason="oil"),
        now=lambda: now,
    )
    # 40 kept, 2 dropped, 12 new of which 5 are there already.
    assert result.manifest.counts["parts"] == 45
    assert [one.kind for one in result.skipped] == ["duplicate"] * 5
    kept = kept_set(station)
    assert kept.text.startswith(text)
    ids = {part.id for part in kept.kept}
    assert ids == {f"{n:06d}" for n in range(1, 48)} - {"000002", "000007"}
    assert [(r.id, r.decision, r.person, r.reason, r.time) for r in kept.records[40:42]] == [
        (one, "drop", "ben", "oil", "2030-01-01T00:00:00Z") for one in ("000002", "000007")
    ]
    # A part once dropped may come back under a new id.
    write_parts(tmp_path / "back", 1, first=1)
    calibrate(station, Request(add=tmp_path / "back"))
    assert [part.id for part in kept_set(station).kept][-1] == "000048"


def test_adding_nothing_new_changes_nothing(station: Station, tmp_path: Path) -> None:
    """A copy of the bundle in use would take the place of `previous`."""
    before = active(station)
    write_parts(tmp_path / "again", 3)
    with pytest.raises(CheckFailed, match=r"none of the 3 parts .*3 duplicate.*nothing was changed"):
        calibrate(station, Request(add=tmp_path / "again"))
    assert active(station) == before
    assert len(list_bundles(station.state_path, "disc")) == 1


def test_drop_of_an_unknown_part(station: Station) -> None:
    before = active(station)
    done = edge_ad("calibrate", "-c", station.path, "--drop", "3,000099")
    assert done.returncode == 2
    assert "part '000099' is not in the kept set of 40 parts" in done.stderr
    assert active(station) == before


@pytest.mark.parametrize("id_", ["²", "9" * 5000, "abc"])
def test_drop_of_what_is_no_id(station: Station, id_: str) -> None:
    with pytest.raises(ConfigError, match="is not in the kept set"):
        calibrate(station, Request(drop=(id_,)))


def test_rollback_brings_the_kept_set_back(station: Station) -> None:
    first = kept_set(station).sha256
    calibrate(station, Request(drop=("1", "2")))
    assert len(kept_set(station).kept) == 38
    rollback(station.state_path, "disc")
    assert kept_set(station).sha256 == first
    assert calibrate(station, Request(drop=("3",))).manifest.counts["parts"] == 39


def test_a_fresh_set_keeps_the_old_one_for_its_bundle(station: Station, tmp_path: Path) -> None:
    old = active(station)
    write_parts(tmp_path / "new", 25, first=500)
    calibrate(station, Request(directory=tmp_path / "new"))
    assert len(kept_set(station).kept) == 25
    activate(station.state_path, "disc", old.name)
    assert len(kept_set(station).kept) == 40
    frames = set_directory(station.state_path, "disc") / "frames"
    assert len(list(frames.iterdir())) == 65
    # Once a bundle is deleted its parts go with the next calibration.
    for path in [p for p in old.parent.iterdir() if p.is_dir() and not p.is_symlink() and p != old]:
        shutil.rmtree(path)
    calibrate(station, Request(refit=True))
    assert len(list(frames.iterdir())) == 40


def test_damaged_kept_frame_is_listed(station: Station) -> None:
    directory = set_directory(station.state_path, "disc")
    parts = kept_set(station).kept
    (directory / "frames" / parts[4].files["top"].name).write_bytes(b"x")
    (directory / "frames" / parts[5].files["top"].name).unlink()
    result = calibrate(station, Request(refit=True))
    assert [(s.source, s.kind) for s in result.skipped] == [
        ("000005 part0004.png", "damaged"), ("000006 part0005.png", "damaged"),
    ]  # fmt: skip
    assert result.manifest.counts["parts"] == 38


def test_a_changed_list_is_refused(station: Station) -> None:
    sha256 = open_bundle(active(station)).manifest.calibration_set.sha256
    path = set_directory(station.state_path, "disc") / "lists" / f"{sha256}.jsonl"
    path.write_bytes(path.read_bytes().replace(b"part0001", b"part0009"))
    with pytest.raises(ArtifactError, match="its name and the active bundle say"):
        calibrate(station, Request(refit=True))


def test_kept_frames_of_another_pixel_rule(station: Station, tmp_path: Path) -> None:
    changed = write_station(tmp_path, extra='pixel_format = "mono12"')
    with pytest.raises(ConfigError, match=r"'auto8'.*'mono12>>4'.*fresh set"):
        calibrate(changed, Request(refit=True))


def test_parts_from_the_line(tmp_path: Path) -> None:
    station = write_station(tmp_path, "synthetic://?seed=3&width=96&height=72&defect_rate=0")
    done = edge_ad("calibrate", "-c", station.path, "--parts", 30, "--person", "cleo")
    assert done.returncode == 0, done.stderr
    assert "collecting 30/30" in done.stderr
    assert "30 used, 0 skipped" in done.stdout
    assert "detection not measured" in done.stdout
    assert active(station).name in done.stdout
    rule = open_bundle(active(station)).manifest.preprocess.cameras["top"]
    assert (rule.frame_size, rule.width, rule.height, rule.channels) == ("fixed", 96, 72, 1)
    assert {record.person for record in kept_set(station).records} == {"cleo"}
    assert not list(set_directory(station.state_path, "disc").glob("staging-*"))


def test_a_source_that_ends_early_keeps_what_it_gave(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    write_parts(tmp_path / "line", 12)
    (tmp_path / "line" / "zero.png").write_bytes(b"")
    with pytest.raises(CheckFailed, match=r"12 usable .*collected parts are in (\S+):") as caught:
        calibrate(station, Request(parts=50))
    staging = re.search(r"are in (\S+):", str(caught.value))
    assert staging is not None
    write_parts(tmp_path / "good", 25, first=100)
    calibrate(station, Request(directory=tmp_path / "good"))
    assert len(list(Path(staging[1]).iterdir())) == 12  # another calibration leaves them alone
    changed = write_station(tmp_path, calibration="min_parts = 10")
    assert calibrate(changed, Request(directory=Path(staging[1]))).manifest.counts["parts"] == 12
    assert not Path(staging[1]).exists()


@pytest.mark.parametrize("profile", ["default", "paper"])
def test_two_cameras_and_three_views(tmp_path: Path, profile: str) -> None:
    uri = "synthetic://?seed={}&width=96&height=72&defect_rate=0"
    station = write_station(
        tmp_path,
        uri.format(1),
        f"""[[camera]]
name = "side"
uri = "{uri.format(2)}"
[[view]]
name = "whole"
camera = "top"
[[view]]
name = "corner"
camera = "side"
roi = [4, 8, 40, 30]
[[view]]
name = "rest"
camera = "side"
""",
        f'profile = "{profile}"',
    )
    result = calibrate(station, Request(parts=25))
    bundle = open_bundle(active(station))
    assert list(bundle.manifest.preprocess.cameras) == ["top", "side"]
    section = bundle.section(KEY)
    assert len(section.scales) == 3
    if profile == "paper":
        assert all(scale > 1 for scale in section.scales)
        # Scores are in units of a view's median, so the threshold is near to 1.
        assert 1.0 < section.threshold < 3.0
    else:
        assert section.scales == [1.0] * 3  # its scores are on one scale already
        assert len(section.local) == 3
    inspector = open_inspector(bundle, EngineChoice(threads=1))
    assert check_reference(inspector) < 1e-5
    inspector.close()
    assert "View corner" in result.report.read_text()


def test_a_part_needs_every_camera(tmp_path: Path) -> None:
    station = write_station(tmp_path, extra='[[camera]]\nname = "side"\nuri = "folder:///none"\n')
    write_parts(tmp_path / "good" / "top", 25)
    write_parts(tmp_path / "good" / "side", 24, first=1)
    result = calibrate(station, Request(directory=tmp_path / "good"))
    assert result.manifest.counts["parts"] == 24
    assert result.skipped == [Skipped("part0000.png", "unreadable", "not there for every camera")]


def test_odd_sizes_in_a_fixed_camera(tmp_path: Path) -> None:
    station = write_station(tmp_path, extra='frame_size = "fixed"')
    write_parts(tmp_path / "good", 25)
    cv2.imwrite(str(tmp_path / "good" / "a_small.png"), part_image(77, (48, 60)))
    result = calibrate(station, Request(directory=tmp_path / "good"))
    (one,) = result.skipped
    assert (one.source, one.kind) == ("a_small.png", "size")
    assert "60 x 48 px, the other parts have 64 x 48" in one.detail


def test_chi2_is_for_one_level(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", 40)
    local = write_station(tmp_path, calibration='threshold = "chi2"')
    with pytest.raises(ConfigError, match=r"'chi2' is for distances of pooled features; set .*'paper'"):
        calibrate(local, Request(directory=tmp_path / "good"))
    several = write_station(tmp_path, calibration='profile = "paper"\nthreshold = "chi2"')
    with pytest.raises(ConfigError, match="'chi2' holds for one level of one view, there are 4 levels"):
        calibrate(several, Request(directory=tmp_path / "good"))
    one = write_station(
        tmp_path,
        calibration='profile = "paper"\nthreshold = "chi2"\nlevels = ["level2"]\n'
        "false_reject_rate = 0.05",
    )
    section = calibrate(one, Request(directory=tmp_path / "good")).manifest.engines[KEY]
    assert section.chi2 is not None
    assert section.threshold == section.chi2.threshold == pytest.approx(21.026**0.5, rel=1e-4)
    above = round(section.chi2.observed * 40)
    assert section.promise.expected == pytest.approx((above + 1) / 41)
    assert section.promise.method.startswith("chi2")


def test_unknown_level_is_said_before_anything_is_read(tmp_path: Path) -> None:
    station = write_station(tmp_path, calibration='levels = ["level7"]')
    with pytest.raises(ConfigError, match=r"no level 'level7'; it has \['level1'"):
        calibrate(station, Request(directory=tmp_path / "none"))


def test_false_reject_rate_option(station: Station) -> None:
    done = edge_ad("calibrate", "-c", station.path, "--refit", "--false-reject-rate", "0.1")
    assert done.returncode == 0, done.stderr
    assert open_bundle(active(station)).section(KEY).promise.target == 0.1
    done = edge_ad("calibrate", "-c", station.path, "--refit", "--false-reject-rate", "0.9")
    assert done.returncode == 2
    assert "0.9" in done.stderr


def test_a_threshold_that_ordinary_parts_exceed_is_refused_with_what_stretches_it(
    tmp_path: Path,
) -> None:
    write_parts(tmp_path / "good", 30)
    assert cv2.imwrite(str(tmp_path / "good" / "spoilt.png"), 255 - part_image(2000))
    station = write_station(tmp_path, calibration="min_parts = 20\nfalse_reject_rate = 0.3")
    expected = r"31 good parts: the threshold for .* 0\.3 is -.*look at spoilt\.png"
    with pytest.raises(CheckFailed, match=expected):
        calibrate(station, Request(directory=tmp_path / "good"))
    assert current_path(station.state_path, "disc") is None


def start_calibration(station: Station, good: Path) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A calibration whose fitting child is up."""
    process = subprocess.Popen(
        [*ENTRY, "calibrate", "-c", station.path, "--from", str(good)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    parent = psutil.Process(process.pid)
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        for child in parent.children():
            with contextlib.suppress(psutil.Error):  # a child that ends while it is looked at
                if "edge_ad.calibrate.worker" in child.cmdline() and child.nice() >= 10:
                    return process, child
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"no low-priority child: {process.communicate()}")


@pytest.mark.parametrize("victim", ["child", "command"])
def test_a_killed_calibration_leaves_the_bundle_in_use(
    station: Station, tmp_path: Path, victim: str
) -> None:
    before, text = active(station), kept_set(station).text
    write_parts(tmp_path / "good", 200, first=300)
    process, child = start_calibration(station, tmp_path / "good")
    os.kill(child.pid if victim == "child" else process.pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    if victim == "child":
        assert process.returncode == 5
        assert b"ended by SIGKILL; the active bundle is unchanged" in stderr
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running()
    assert active(station) == before
    assert [entry.id for entry in list_bundles(station.state_path, "disc")] == [before.name]
    assert kept_set(station).text == text
    calibrate(station, Request(refit=True))
    directory = set_directory(station.state_path, "disc")
    assert not list(directory.glob("work-*"))
    assert len(list((directory / "frames").iterdir())) == 40


def test_one_calibration_at_a_time(station: Station, tmp_path: Path) -> None:
    write_parts(tmp_path / "good", 200, first=300)
    process, _ = start_calibration(station, tmp_path / "good")
    with pytest.raises(CheckFailed, match="another calibration of this product is running"):
        calibrate(station, Request(refit=True))
    process.kill()
    process.communicate()


def test_a_bundle_of_another_schema_can_be_refitted(station: Station) -> None:
    path = active(station)
    data = (path / "manifest.json").read_bytes().replace(b'"schema": 1', b'"schema": 7')
    (path / "manifest.json").chmod(0o644)
    (path / "manifest.json").write_bytes(data)
    (path / "manifest.sha256").chmod(0o644)
    (path / "manifest.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")
    with pytest.raises(ArtifactError, match=r"schema 7.*--refit"):
        open_bundle(path)
    assert calibrate(station, Request(refit=True)).manifest.counts["parts"] == 40


def test_report_stands_alone_and_escapes(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    write_parts(tmp_path / "good", 25)
    cv2.imwrite(str(tmp_path / "good" / "<script>x&.png"), part_image(900) // 2)
    result = calibrate(station, Request(directory=tmp_path / "good"))
    page = result.report.read_text()
    section = result.manifest.engines[KEY]
    links = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^">)]{1,40})', page)
    assert len(links) == 13  # the twelve most unusual parts, and the one that is separated from the rest
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert "<script" not in page
    assert "@import" not in page
    assert "&lt;script&gt;x&amp;.png" in page
    assert f"threshold {section.threshold:.5g}" in page
    assert result.manifest.id in page
    assert "detection not measured" in page
    # The picture that is half as bright is the most unusual one and comes first.
    assert page.index("&lt;script&gt;") < page.index("part00")
    # Too few parts for 1 %: the highest score is the threshold, and nothing lies above it.
    assert set(re.findall(r'<rect class="(pass|reject)"', page)) == {"pass"}
    assert "0 of 26 good parts lie above the threshold" in page


@contextlib.contextmanager
def running_daemon(tmp_path: Path) -> Iterator[tuple[Station, int]]:
    """A station whose daemon is up, without a bundle; its pid."""
    station = write_station(tmp_path, "synthetic://?seed=3&width=96&height=72&defect_rate=0&fps=50")
    daemon = subprocess.Popen(
        [*ENTRY, "run", "-c", station.path, "--journal", str(tmp_path / "journal.jsonl")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            if "LEARNING" in line:
                break
        yield station, daemon.pid
    finally:
        daemon.terminate()
        daemon.communicate(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_does_not_leave_the_line_collecting(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running_daemon(tmp_path) as (station, _), ControlClient(station.control_endpoint) as client:

        def wait_until(collecting: bool) -> None:
            end = time.monotonic() + 60
            while (client.request("status")["state"] == "COLLECTING") is not collecting:
                assert time.monotonic() < end
                time.sleep(0.05)

        arguments = ["calibrate", "-c", station.path, "--parts", "100000"]
        command = subprocess.Popen([*ENTRY, *arguments], stderr=subprocess.PIPE)
        wait_until(collecting=True)
        command.send_signal(number)
        command.communicate(timeout=60)
        if number == signal.SIGTERM:
            assert command.returncode == 130
            wait_until(collecting=False)
        else:
            done = edge_ad("calibrate", "-c", station.path, "--parts", 25)
            assert done.returncode == 0, done.stderr
            assert "after its command was killed" in done.stderr
            assert "parts of a collection that was not finished" in done.stderr


def test_a_running_daemon_collects_and_takes_the_bundle(tmp_path: Path) -> None:
    with running_daemon(tmp_path) as (station, pid):
        done = edge_ad("calibrate", "-c", station.path, "--parts", 30)
        assert done.returncode == 0, done.stderr
        assert f"the daemon with pid {pid} has taken it (RUNNING)" in done.stdout
        first = active(station)
        assert edge_ad("calibrate", "-c", station.path, "--drop", "1").returncode == 0
        done = edge_ad("bundle", "rollback", "-c", station.path)
        assert done.returncode == 0, done.stderr
        assert f"{first.name} is active" in done.stdout
        assert "has taken it" in done.stdout
        time.sleep(0.5)
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    text = json.dumps(lines)
    assert '"calibrating"' in text
    assert '"uncalibrated"' in text
    assert open_bundle(first).sha256 in json.dumps(lines[-1])
    assert sum('"calibrating"' in json.dumps(line) for line in lines) >= 30


def test_a_full_disk_is_said_and_changes_nothing(station: Station, tmp_path: Path) -> None:
    before = active(station)
    write_parts(tmp_path / "good", 30, first=100)
    # A limit on the size of a file stands in for a full disk: both fail in the middle of a write.
    done = subprocess.run(
        [
            "prlimit",
            "--fsize=1500",
            *ENTRY,
            "calibrate",
            "-c",
            station.path,
            "--from",
            tmp_path / "good",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    last = done.stderr.strip().splitlines()[-1]
    assert "File too large; free space or give a writable state_dir" in last
    assert str(station.state_path) in last
    assert "Traceback" not in done.stderr
    assert active(station) == before
    assert open_bundle(before).manifest.counts["parts"] == 40
    # What was begun does not stay on the full disk.
    assert not [path for path in station.state_path.rglob(".*") if path.name != ".lock"]


def test_replicates_are_fitted_and_parts_are_counted(station: Station, tmp_path: Path) -> None:
    """Altered copies of the parts: the promise is still of the 30 parts, whole parts left out."""
    other = write_station(
        Path(station.path).parent, calibration="min_parts = 20\naugment = 2\nfolds = 4"
    )
    result = calibrate(other, Request(refit=True))
    section = result.manifest.engines[result.key]
    assert section.promise.method == "crossfit-4, with replicates"
    assert section.promise.parts == result.manifest.counts["parts"]
    inspector = open_inspector(open_bundle(result.path), EngineChoice(threads=1))
    lighter = np.clip(part_image(900) * 1.08, 0, 255).astype(np.uint8)
    assert np.isfinite(inspector.inspect(lighter).score)
    inspector.close()
