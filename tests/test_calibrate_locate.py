"""Parts that lie about: found and laid straight at calibration and inspection alike."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from daemon_line import Line
from tiny_station import active_bundle, edge_ad, write_station

from edge_ad.bundle import open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.calibration_set import load_set, set_directory
from edge_ad.capture.parts import Placement, part_placement, plate
from edge_ad.config import Station
from edge_ad.daemon.loading import build_inspector, check_fits
from edge_ad.engines import EngineChoice
from edge_ad.errors import ArtifactError, CheckFailed, ConfigError
from edge_ad.evidence.entry import read_entries
from edge_ad.frame import Image
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.reference import check_reference, part_locator
from edge_ad.replay import kept_overlay
from edge_ad.verdict import Decision, Reason

SIZE = (320, 240)
PLACED = "&width=320&height=240&defect_rate=0&shift=0.06&angle=8"
# However a part lies, this much of it is in the frame.
ROI = '[[view]]\nname = "top"\ncamera = "top"\nroi = [64, 52, 192, 136]\n'
LOCATE = f"[camera.locate]\nmax_angle = 12.0\n{ROI}"


def part(index: int, placement: Placement | None = None, defect: str = "") -> Image:
    placement = placement or part_placement(1, index, *SIZE, 0.06, 8)
    return plate(1, *SIZE).render(index, defect, placement)


def line_station(directory: Path, locate: str = LOCATE) -> Station:
    # 96 px: a position is 53 px of the frame, and a part may lie 19 px off.
    return write_station(directory, f"synthetic://?seed=1{PLACED}", locate, 'profile = "default"')


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Station:
    station = line_station(tmp_path_factory.mktemp("located"))
    calibrate(station, Request(parts=40))
    return station


@pytest.fixture(scope="module")
def inspector(calibrated: Station) -> Inspector:
    return open_inspector(open_bundle(active_bundle(calibrated)), EngineChoice(threads=1))


def test_the_bundle_holds_the_part_that_others_are_laid_like(calibrated: Station) -> None:
    bundle = open_bundle(active_bundle(calibrated))
    rule = bundle.manifest.preprocess.cameras["top"]
    assert rule.locate is not None
    assert (rule.locate.reference, rule.locate.max_angle) == ("locate/top.png", 12.0)
    assert rule.locate.box == (32, 24, 256, 192)  # the frame less a tenth on every side
    directory = set_directory(calibrated.state_path, calibrated.product)
    kept = load_set(directory, bundle.manifest.calibration_set.sha256).kept
    pictures = {(directory / "frames" / r.files["top"].name).read_bytes(): r.id for r in kept}
    chosen = pictures[(bundle.path / "locate/top.png").read_bytes()]
    # Of the 40 it lies near the middle.
    placement = part_placement(1, int(chosen) - 1, *SIZE, 0.06, 8)
    assert np.hypot(placement.dx, placement.dy) < 12
    assert abs(placement.angle) < 4
    assert rule.jitter is not None
    assert rule.jitter.parts == 40
    assert 12 < rule.jitter.shift < 28  # at most 19 and 14 px to the sides
    assert 5 < rule.jitter.angle < 12


def test_parts_are_judged_wherever_they_lie(inspector: Inspector) -> None:
    assert check_reference(inspector) < 1e-4
    verdicts = [inspector.inspect(part(index)) for index in range(1000, 1040)]
    assert sum(verdict.passed for verdict in verdicts) >= 35
    for index, verdict in enumerate(verdicts, 1000):
        (pose,) = verdict.poses
        assert pose is not None
        assert pose.quality > 0.85
        placement = part_placement(1, index, *SIZE, 0.06, 8)
        first = part_placement(1, 1000, *SIZE, 0.06, 8)
        origin = verdicts[0].poses[0]
        assert origin is not None
        assert pose.angle - origin.angle == pytest.approx(placement.angle - first.angle, abs=3.0)


def test_the_same_part_scores_alike_however_it_lies(inspector: Inspector) -> None:
    """Moved and turned after it was taken, so that nothing else differs."""
    image = part(1100, Placement())
    score = inspector.inspect(image).score
    for angle, move in ((5.0, (10, -6)), (-7.0, (-12, 9))):
        turn = cv2.getRotationMatrix2D((160, 120), angle, 1.0)
        turn[:, 2] += move
        moved = cv2.warpAffine(image, turn, SIZE, borderMode=cv2.BORDER_REPLICATE)
        verdict = inspector.inspect(moved)
        assert verdict.passed
        assert verdict.score == pytest.approx(score, abs=1.0)


@pytest.mark.parametrize(
    ("image", "reason", "detail"),
    [
        (part(1200, Placement(50, 0, 0)), Reason.OUT_OF_RANGE, "max_shift = 0.1 allows 32, 24"),
        (part(1200, Placement(0, 0, 20)), Reason.OUT_OF_RANGE, "max_angle = 12"),
        (part(1200, Placement(0, 0, 180)), Reason.ORIENTATION, "turned by about 180 degrees"),
        (np.full(SIZE[::-1], 40, np.uint8), Reason.EMPTY, "of the part's contrast"),
    ],
)
def test_what_lies_otherwise_is_fault_with_its_own_reason(
    inspector: Inspector, image: Image, reason: Reason, detail: str
) -> None:
    verdict = inspector.inspect(image)
    assert (verdict.decision, verdict.reason) == (Decision.FAULT, reason)
    assert verdict.detail.startswith("camera top: ")
    assert detail in verdict.detail
    assert np.isnan(verdict.score)
    assert inspector.stamps == sorted(inspector.stamps)


def test_a_defect_is_found_on_a_part_that_lies_about(inspector: Inspector) -> None:
    caught = [
        inspector.inspect(part(i, defect="stain")).decision is Decision.REJECT for i in range(1300, 1320)
    ]
    assert sum(caught) >= 12


def test_good_parts_that_lie_otherwise_are_listed_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for index in range(30):
        cv2.imwrite(str(tmp_path / "good" / f"{index:03d}.png"), part(index))
    cv2.imwrite(str(tmp_path / "good" / "turned.png"), part(50, Placement(0, 0, 180)))
    cv2.imwrite(str(tmp_path / "good" / "empty.png"), np.full(SIZE[::-1], 40, np.uint8))
    station = write_station(tmp_path, f"folder://{tmp_path / 'good'}", LOCATE)
    result = calibrate(station, Request(directory=tmp_path / "good"))
    assert {one.source: one.kind for one in result.skipped} == {
        "000032 turned.png": "position",
        "000031 empty.png": "position",
    }
    assert "camera top: orientation: the part is turned" in result.skipped[1].detail
    assert result.manifest.counts["position"] == 2
    assert "not found in the frame" in result.report.read_text()


def test_parts_that_are_no_part_are_not_calibrated_on(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    rng = np.random.default_rng(0)
    for index in range(25):
        noise = cv2.GaussianBlur(rng.normal(128, 300, SIZE[::-1]), (0, 0), 5)
        image = np.clip(noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "good" / f"{index:03d}.png"), image)
    station = write_station(tmp_path, f"folder://{tmp_path / 'good'}", LOCATE)
    with pytest.raises(
        CheckFailed, match=r"camera top: 1 of 25 good parts are found .*locate.max_shift"
    ):
        calibrate(station, Request(directory=tmp_path / "good"))


def test_a_line_whose_parts_lie_about_is_told_so(tmp_path: Path) -> None:
    result = calibrate(line_station(tmp_path, locate=""), Request(parts=30))
    rule = result.manifest.preprocess.cameras["top"]
    assert rule.locate is None
    assert rule.jitter is not None
    (line,) = [line for line in result.summary(3) if line.startswith("placing")]
    assert "px for the network: [camera.locate] lays parts straight" in line
    assert "px for the network: [camera.locate]" in result.report.read_text()
    still = write_station(
        tmp_path / "still", "synthetic://?seed=1&width=320&height=240&defect_rate=0", ""
    )
    (line,) = [x for x in calibrate(still, Request(parts=30)).summary(3) if x.startswith("placing")]
    assert "camera.locate" not in line


def test_bounds_that_are_nearly_reached_are_said(tmp_path: Path) -> None:
    station = line_station(tmp_path, "[camera.locate]\nmax_shift = 0.09\nmax_angle = 12.0\n")
    (line,) = [x for x in calibrate(station, Request(parts=40)).summary(3) if x.startswith("placing")]
    assert "near the bound: raise locate.max_shift" in line


def test_frames_of_any_size_cannot_be_located(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"camera\[0\].locate: needs frames of one size"):
        line_station(tmp_path, 'frame_size = "any"\n' + LOCATE)


def test_other_bounds_need_another_bundle(calibrated: Station, tmp_path: Path) -> None:
    shutil.copytree(calibrated.state_path, tmp_path / "state", symlinks=True)
    for text in ("", "[camera.locate]\nmax_angle = 20.0\n"):
        station = line_station(tmp_path, text + ROI)
        with pytest.raises(ArtifactError, match=r"was made for locate .*max_angle.*12.0"):
            build_inspector(station)
    result = calibrate(station, Request(refit=True))
    rule = result.manifest.preprocess.cameras["top"].locate
    assert rule is not None
    assert rule.max_angle == 20.0


def test_a_reference_part_that_was_taken_away_is_refused(calibrated: Station, tmp_path: Path) -> None:
    copy = tmp_path / "state/bundles/disc"
    shutil.copytree(active_bundle(calibrated), copy / "b")
    (copy / "b/locate/top.png").unlink()
    with pytest.raises(ArtifactError, match=r"lacks .*locate/top.png|locate/top.png"):
        open_bundle(copy / "b")


def test_a_part_that_is_kept_is_laid_straight_under_its_map(
    inspector: Inspector, calibrated: Station, tmp_path: Path
) -> None:
    bundle = open_bundle(active_bundle(calibrated))
    image = part(1300, Placement(12.0, -9.0, 7.0), "stain")

    def build(_: Station) -> Any:
        return open_inspector(bundle, EngineChoice(threads=1))

    with Line(tmp_path, build=build) as line:
        line.feed(image)
        assert line.verdicts(1) == ["REJECT score"]
    (entry,), _ = read_entries(tmp_path, "default")
    drawn = kept_overlay(entry)
    verdict, straight = inspector.inspect(image), part_locator(bundle).straighten([image]).images[0]
    assert drawn is not None and verdict.maps is not None
    change = np.abs(drawn.astype(int) - straight[..., None]).sum(axis=2)
    x, y, width, height = 64, 52, 192, 136  # of ROI
    seen = change[y : y + height, x : x + width]
    hottest = seen.reshape(8, height // 8, 8, width // 8).mean(axis=(1, 3))  # a map may have other cells
    row, column = np.unravel_index(verdict.maps[0].argmax(), verdict.maps[0].shape)
    rows, columns = verdict.maps[0].shape
    cell = hottest[int(8 * (row + 0.5) / rows), int(8 * (column + 0.5) / columns)]
    assert cell > 100 > 3 * np.median(hottest)
    outside = change.copy()
    outside[y - 8 : y + height + 8, x - 8 : x + width + 8] = 0  # a block of a JPEG
    assert outside.max() < 60 < np.abs(drawn.astype(int) - image[..., None])[:40].sum(axis=2).max()


def test_the_daemon_says_where_parts_lay(calibrated: Station, tmp_path: Path) -> None:
    bundle = open_bundle(active_bundle(calibrated))

    def build(_: Station) -> Any:
        return open_inspector(bundle, EngineChoice(threads=1))

    with Line(tmp_path, build=build) as line:
        line.feed(part(1400), np.full(SIZE[::-1], 40, np.uint8))
        _, body = line.verdict()
        assert body.poses is not None
        (pose,) = body.poses
        assert pose is not None
        assert pose.quality > 0.85
        assert body.box is not None
        _, body = line.verdict()
        assert (body.verdict, body.reason, body.poses) == ("FAULT", "empty", None)
        for _ in range(100):  # it is counted once it has been published
            if line.metric("edge_ad_stage_seconds_count", stage="locate") == 2:
                break
            time.sleep(0.02)
        assert line.metric("edge_ad_located_shift_pixels_count", camera="top") == 1
        assert line.metric("edge_ad_located_quality_ratio_count", camera="top") == 1
        assert line.metric("edge_ad_stage_seconds_count", stage="locate") == 2
        assert line.metric("edge_ad_parts_total", verdict="FAULT", reason="empty") == 1


def test_check_says_what_would_fail(calibrated: Station, tmp_path: Path) -> None:
    check_fits(open_bundle(active_bundle(calibrated)), calibrated)
    done = edge_ad("bundle", "show", "-c", calibrated.path)
    assert "placing top" in done.stdout


def placed_parts(directory: Path, indices: range, dx: float = 0.0, step: float = 0.0) -> Path:
    """Good parts `dx` px to the right, each `step` px further than the one before."""
    directory.mkdir(parents=True)
    for place, index in enumerate(indices):
        placement = part_placement(1, index, *SIZE, 0.02, 3)._replace(dx=dx + place * step)
        cv2.imwrite(str(directory / f"{index:03d}.png"), part(index, placement))
    return directory


def still_station(directory: Path, locate: str) -> Station:
    return write_station(directory, "folder://nowhere", f'frame_size = "fixed"\n{locate}')


def test_what_a_camera_does_not_see_of_a_part_does_not_pass(tmp_path: Path) -> None:
    """A blob that lies at the edge of a view is found as long as it is in the frame."""
    good = placed_parts(tmp_path / "good", range(30))
    wide = '[[view]]\nname = "top"\ncamera = "top"\nroi = [20, 15, 280, 210]\n'
    verdicts = {}
    for most in (0.0, 0.3):
        locate = f"[camera.locate]\nmax_shift = 0.2\nmax_outside = {most}\n{wide}"
        calibrate(still_station(tmp_path, locate), Request(directory=good))
        inspector = open_inspector(open_bundle(active_bundle(still_station(tmp_path, locate))))
        for dx in (0, 40):
            image = part(100, Placement())
            cv2.circle(image, (285, 120), 12, 250, -1)
            move = np.array([[1.0, 0, dx], [0, 1, 0]])
            moved = cv2.warpAffine(image, move, SIZE, borderMode=cv2.BORDER_REPLICATE)
            verdicts[most, dx] = inspector.inspect(moved)
    assert [verdicts[most, 0].decision for most in (0.0, 0.3)] == [Decision.REJECT] * 2
    unseen = verdicts[0.0, 40]
    assert (unseen.decision, unseen.reason) == (Decision.FAULT, Reason.OUT_OF_RANGE)
    assert "6.6% of view top is outside of the frame, locate.max_outside = 0" in unseen.detail
    assert verdicts[0.3, 40].decision is not Decision.FAULT  # asked for: what is seen is judged


def test_parts_whose_view_leaves_the_frame_are_told_a_region_that_does_not(tmp_path: Path) -> None:
    good = placed_parts(tmp_path / "good", range(30), dx=-22, step=1.5)
    view = '[[view]]\nname = "top"\ncamera = "top"\nroi = {}\n'
    locate = f'[camera.locate]\nreference = "{good / "015.png"}"\n{view}'
    with pytest.raises(CheckFailed, match=r"usable good parts \(\d+ position skipped\)") as failed:
        calibrate(still_station(tmp_path, locate.format([10, 8, 300, 224])), Request(directory=good))
    advice = re.search(r"with roi = (\[.*?\]) view top is inside of it", str(failed.value))
    assert advice, str(failed.value)
    assert (
        calibrate(still_station(tmp_path, locate.format(advice[1])), Request(directory=good)).skipped
        == []
    )


def test_the_reference_part_stays_until_another_is_asked_for(tmp_path: Path) -> None:
    """Regions and zones are drawn on it."""
    good = placed_parts(tmp_path / "good", range(24))
    station = still_station(tmp_path, "[camera.locate]\n")
    first = calibrate(station, Request(directory=good))
    kept = (first.path / "locate/top.png").read_bytes()
    later = placed_parts(tmp_path / "later", range(40, 70), dx=12)  # to the right of them all
    for request in (
        Request(add=later),
        Request(refit=True),
        Request(directory=later),
    ):
        result = calibrate(station, request)
        assert (result.path / "locate/top.png").read_bytes() == kept
    anew = calibrate(station, Request(directory=later, new_reference=True))
    chosen = (anew.path / "locate/top.png").read_bytes()
    assert chosen != kept
    # Named in the station file, it is that one whatever was in use.
    (tmp_path / "ref.png").write_bytes(kept)
    named = still_station(tmp_path, '[camera.locate]\nreference = "ref.png"\n')
    with pytest.raises(ArtifactError, match=r"laid like another one than locate.reference .*ref.png"):
        build_inspector(named)
    result = calibrate(named, Request(directory=good))
    assert cv2.imread(str(result.path / "locate/top.png"), 0) == pytest.approx(
        cv2.imread(str(tmp_path / "ref.png"), 0)
    )
    check_fits(open_bundle(result.path), named)
    rule = result.manifest.preprocess.cameras["top"].locate
    assert rule is not None and rule.reference == "locate/top.png"


def test_a_reference_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    good = placed_parts(tmp_path / "good", range(24))
    named = still_station(tmp_path, '[camera.locate]\nreference = "ref.png"\n')
    with pytest.raises(ConfigError, match=r"locate.reference of 'top': .*ref.png"):
        calibrate(named, Request(directory=good))
    cv2.imwrite(str(tmp_path / "ref.png"), part(3)[:200])
    with pytest.raises(ConfigError, match=r"ref.png is an image of shape \(200, 320\), the frames"):
        calibrate(named, Request(directory=good))
    rng = np.random.default_rng(0)
    other = cv2.GaussianBlur(rng.normal(128, 300, SIZE[::-1]), (0, 0), 5)
    cv2.imwrite(str(tmp_path / "ref.png"), np.clip(other, 0, 255).astype(np.uint8))
    with pytest.raises(CheckFailed, match=r"good parts are found by .*ref.png"):
        calibrate(named, Request(directory=good))


def test_good_parts_that_are_not_located_count_as_false_rejects(tmp_path: Path) -> None:
    good = placed_parts(tmp_path / "good", range(36))
    for index in range(4):
        cv2.imwrite(str(good / f"t{index}.png"), part(200 + index, Placement(0, 0, 180)))
    station = still_station(tmp_path, "[camera.locate]\n")
    result = calibrate(station, Request(directory=good))
    promise = result.manifest.engines[result.key].promise
    assert (promise.parts, promise.faults, promise.index) == (40, 4, 36)
    assert promise.expected == pytest.approx(5 / 41)
    assert not promise.achievable
    (line,) = [line for line in result.summary(0) if line.startswith("promise")]
    assert "40 parts: 12.2 % false rejects expected" in line
    assert "of which 4 cannot be judged" in line
    # They are kept, so a refit with other bounds finds them, and one with these says the same.
    again = calibrate(station, Request(refit=True))
    assert again.manifest.engines[again.key].promise == promise
    without = calibrate(station, Request(drop=tuple(one.source.split()[0] for one in again.skipped)))
    promise = without.manifest.engines[without.key].promise
    assert (promise.parts, promise.faults) == (36, 0)
