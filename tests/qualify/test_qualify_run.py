"""Known-bad parts through a real bundle of a tiny network, and what is kept and shown of it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from daemon_line import good
from tiny_bundle import make_bundle
from tiny_station import part_image, write_parts, write_station

from edge_ad.bundle import activate, current_path, open_bundle
from edge_ad.bundle.qualification import QUALIFICATION, read_detection
from edge_ad.calibrate import Request as CalibrateRequest
from edge_ad.calibrate import calibrate
from edge_ad.capture.images import read_image
from edge_ad.capture.pixels import file_rule
from edge_ad.config import Station, parse_station
from edge_ad.engines import EngineChoice
from edge_ad.errors import ArtifactError, CaptureError, ConfigError
from edge_ad.frame import Image
from edge_ad.inspector import open_inspector
from edge_ad.qualify import Request, qualify
from edge_ad.qualify.statistics import lower_bound

KEY = "openvino-f32"
FIXED = 'frame_size = "fixed"'


def holed(number: int) -> Image:
    """A part that no inspector overlooks."""
    image = part_image(number)
    image[10:30, 20:44] = 255
    return image


def write(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A station with a bundle of 40 parts; tests take a copy."""
    directory = tmp_path_factory.mktemp("calibrated")
    station = write_station(directory, extra=FIXED)
    write_parts(directory / "good", 40)
    calibrate(station, CalibrateRequest(directory=directory / "good"))
    return station


@pytest.fixture
def station(calibrated: Station, tmp_path: Path) -> Station:
    shutil.copytree(calibrated.state_path, tmp_path / "state", symlinks=True)
    return write_station(tmp_path, extra=FIXED)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Nine parts with a hole, and four whose defect nobody sees: they are good."""
    for number in range(9):
        write(tmp_path / "bad" / "hole" / f"{number}.png", holed(500 + number))
    for number in range(4):
        write(tmp_path / "bad" / "faint" / f"{number}.png", part_image(600 + number))
    return tmp_path / "bad"


def active(station: Station) -> Path:
    path = current_path(station.state_path, station.product)
    assert path is not None
    return path


def files(directory: Path) -> dict[str, str]:
    """Every file below a directory but the qualification's, by its sha256."""
    return {
        str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in directory.rglob("*")
        if p.is_file() and QUALIFICATION not in p.parts
    }


def test_rates_bounds_and_margins_are_those_of_the_inspector(station: Station, bad: Path) -> None:
    result = qualify(station, Request(bad=bad))
    measured = result.measured
    inspector = open_inspector(open_bundle(active(station)), EngineChoice(threads=1))
    rule = file_rule("auto")
    margins = {
        f"{p.parent.name}/{p.name}": inspector.inspect(read_image(p, rule, 10**6)).score
        / inspector.threshold
        for p in bad.rglob("*.png")
    }
    inspector.close()
    assert {p.source: p.margin for p in measured.parts} == pytest.approx(margins)
    assert [p.margin for p in measured.parts] == pytest.approx(sorted(margins.values()))
    hole, faint, overall = measured.kinds["hole"], measured.kinds["faint"], measured.overall
    caught = sum(margin > 1 for margin in margins.values())
    assert (hole.parts, hole.detected, hole.missed, hole.rate) == (9, 9, 0, 1.0)
    assert hole.confident == lower_bound(9, 9)
    assert (faint.parts, faint.detected + faint.missed) == (4, 4)
    assert (overall.parts, overall.detected, overall.rate) == (13, caught, caught / 13)
    assert overall.smallest_margin == pytest.approx(min(margins.values()))
    assert measured.threshold == open_bundle(active(station)).section(KEY).threshold


def test_it_is_kept_with_the_bundle_whose_own_files_stay(station: Station, bad: Path) -> None:
    path = active(station)
    before = files(path)
    assert open_bundle(path).detection.engines == {}
    result = qualify(station, Request(bad=bad))
    assert result.path == path / "qualification"
    assert files(path) == before
    opened = open_bundle(path)
    assert opened.detection.problem == ""
    assert opened.detection.engines == result.qualification.engines
    assert result.qualification.bundle_sha256 == opened.sha256
    done = subprocess.run(
        ["sha256sum", "-c", "qualification.sha256"], cwd=result.path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pictured = {p.picture for p in result.measured.parts if p.verdict == "PASS"}
    assert pictured == {f"misses/{p.name}" for p in (result.path / "misses").iterdir()}
    assert len(pictured) == result.measured.overall.missed > 0
    # As good as before: it can be activated, rolled back and found by its id.
    activate(station.state_path, station.product, path.name)


def test_a_miss_is_pictured_as_it_was_judged(station: Station, bad: Path) -> None:
    result = qualify(station, Request(bad=bad))
    first = next(p for p in result.measured.parts if p.verdict == "PASS")
    picture = cv2.imread(str(result.path / first.picture))
    judged = cv2.imread(str(bad / first.source))
    height, width = judged.shape[:2]
    np.testing.assert_array_equal(picture[:, :width], judged)
    assert picture.shape[:2] == (height, 2 * width + 6)  # and where it is unusual beside it


def test_qualifying_again_replaces_it_as_a_whole(station: Station, bad: Path) -> None:
    first = qualify(station, Request(bad=bad))
    assert first.measured.overall.missed
    shutil.rmtree(bad / "faint")
    second = qualify(station, Request(bad=bad))
    assert not (second.path / "misses").exists()
    assert list(read_detection(active(station)).engines[KEY].kinds) == ["hole"]
    assert not list(active(station).parent.glob(".tmp-*"))


def test_what_is_not_counted_is_listed(station: Station, bad: Path) -> None:
    shutil.copy(bad / "hole" / "0.png", bad / "faint" / "again.png")
    cv2.imwrite(str(bad / "hole" / "again.bmp"), holed(501))
    (bad / "hole" / "zero.png").write_bytes(b"")
    write(bad / "good" / "fine.png", part_image(700))
    (bad / "crack").mkdir()
    measured = qualify(station, Request(bad=bad)).measured
    assert {(one.source, one.why) for one in measured.left_out} == {
        ("hole/0.png", "duplicate"), ("hole/again.bmp", "duplicate"), ("hole/zero.png", "unreadable"),
        ("good/fine.png", "good"),
    }  # fmt: skip
    assert measured.overall.parts == 13
    assert any(text.startswith("crack: no images") for text in measured.warnings)


def test_a_good_part_of_the_calibration_among_the_bad_ones(station: Station, bad: Path) -> None:
    cv2.imwrite(str(bad / "hole" / "twin.bmp"), part_image(6))
    measured = qualify(station, Request(bad=bad)).measured
    (warning,) = measured.warnings
    assert warning.startswith("hole/twin.bmp: is also in the calibration set, as good part 000007")
    assert "calibrate --drop 000007" in warning
    assert measured.kinds["hole"].parts == 10


def test_without_the_kept_set_it_says_that_it_did_not_look(station: Station, bad: Path) -> None:
    shutil.rmtree(station.state_path / "calibration")
    (warning,) = qualify(station, Request(bad=bad)).measured.warnings
    assert "was not checked" in warning


def test_a_picture_of_another_size_is_a_fault_and_no_detection(station: Station, bad: Path) -> None:
    write(bad / "hole" / "big.png", cv2.resize(holed(1), (100, 90)))
    result = qualify(station, Request(bad=bad))
    hole = result.measured.kinds["hole"]
    assert (hole.parts, hole.detected, hole.missed, hole.faults) == (10, 9, 0, 1)
    assert hole.confident == lower_bound(9, 10)
    last = result.measured.parts[-1]
    assert (last.source, last.reason, last.margin) == ("hole/big.png", "frame_size", None)
    (warning,) = result.measured.warnings
    assert "100 x 90 px, the bundle has 64 x 48" in warning
    assert result.below(0.95) == ["faint", "hole"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "no images in the folder"),
        ({"a.png": b"", "b.png": b"x"}, r"none of 2 pictures can be read \(first: .*zero bytes"),
        ({"a.png": None}, r"all 1 parts are FAULT.*100 x 90 px.*line's cameras"),
    ],
)
def test_nothing_to_judge_leaves_what_was_measured(
    station: Station, bad: Path, tmp_path: Path, contents: dict[str, bytes | None], message: str
) -> None:
    qualify(station, Request(bad=bad))
    before = read_detection(active(station))
    other = tmp_path / "other"
    other.mkdir()
    for name, data in contents.items():
        if data is None:
            write(other / name, cv2.resize(holed(1), (100, 90)))
        else:
            (other / name).write_bytes(data)
    with pytest.raises(CaptureError, match=message):
        qualify(station, Request(bad=other))
    assert read_detection(active(station)) == before


def test_the_same_part_again_and_again(station: Station, bad: Path, tmp_path: Path) -> None:
    repeat = tmp_path / "repeat"
    rng = np.random.default_rng(3)
    for part in ("A", "B"):
        base = part_image(800) if part == "A" else holed(801)
        for number in range(6):
            noisy = np.clip(base + rng.normal(0, 1.5, base.shape), 0, 255).astype(np.uint8)
            write(repeat / part / f"{number}.png", noisy)
    write(repeat / "single" / "x.png", part_image(802))
    for number in range(3):
        write(repeat / "frozen" / f"{number}.png", part_image(803))
    measured = qualify(station, Request(bad=bad, repeat=repeat)).measured
    spread = measured.repeatability
    assert spread is not None
    assert [(one.part, one.pictures, one.differ) for one in spread.parts] == [("A", 6, 0), ("B", 6, 0)]
    a, b = spread.parts
    assert a.distance is not None and b.distance is not None
    assert a.distance < 0 < b.distance
    assert a.low < a.mean < a.high
    assert 0 < spread.sd < measured.threshold
    assert {one.source for one in measured.left_out if one.why == "single"} == {"single", "frozen"}


def test_repeated_parts_that_are_no_repetition_are_refused_first(
    station: Station, bad: Path, tmp_path: Path
) -> None:
    for part in ("A", "B"):
        write(tmp_path / "repeat" / part / "1.png", part_image(1))
    with pytest.raises(
        ConfigError, match=r"--repeat .*no part has two pictures; give a folder per part"
    ):
        qualify(station, Request(bad=bad, repeat=tmp_path / "repeat"))
    assert not (active(station) / "qualification").exists()


def test_pictures_beside_each_other_are_one_repeated_part(
    station: Station, bad: Path, tmp_path: Path
) -> None:
    write_parts(tmp_path / "again", 3, first=900)
    spread = qualify(station, Request(bad=bad, repeat=tmp_path / "again")).measured.repeatability
    assert spread is not None
    assert [(one.part, one.pictures) for one in spread.parts] == [("again", 3)]


def test_no_bundle_yet_and_no_such_bundle(tmp_path: Path, station: Station, bad: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    empty = write_station(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"no bundle yet to judge by; 'edge-ad calibrate'"):
        qualify(empty, Request(bad=bad))
    with pytest.raises(ArtifactError, match="no bundle here"):
        qualify(station, Request(bad=bad, bundle="nope"))


def test_a_bundle_that_is_not_in_use(station: Station, bad: Path) -> None:
    old = active(station)
    calibrate(station, CalibrateRequest(drop=("1",)))
    assert active(station) != old
    result = qualify(station, Request(bad=bad, bundle=old.name))
    assert result.path.parent == old
    assert result.daemon == "does not use this bundle"
    assert read_detection(old).engines
    assert not read_detection(active(station)).engines
    assert qualify(station, Request(bad=bad, bundle="previous")).path.parent == old


def test_another_pixel_rule_than_the_bundle_s(station: Station, bad: Path, tmp_path: Path) -> None:
    changed = write_station(tmp_path, extra=f'{FIXED}\npixel_format = "mono12"')
    with pytest.raises(ConfigError, match=r"'auto8' of camera 'top'.*'mono12>>4'"):
        qualify(changed, Request(bad=bad))


def test_file_names_that_are_no_text(station: Station, bad: Path) -> None:
    (bad / "faint" / "0.png").rename(bad / "faint" / os.fsdecode(b"\xe4.png"))
    (bad / "hole").rename(bad / os.fsdecode(b"\xf6"))
    result = qualify(station, Request(bad=bad))
    assert "faint/\\xe4.png" in {p.source for p in result.measured.parts}
    assert result.measured.kinds["\\xf6"].parts == 9


def test_several_cameras_are_judged_as_one_part(tmp_path: Path) -> None:
    make_bundle(tmp_path / "state", cameras=("top", "side"))
    station = parse_station(
        {
            "schema": 1, "station": "s", "state_dir": str(tmp_path / "state"), "engine": {"threads": 1},
            "camera": [{"name": c, "uri": "synthetic://?width=96&height=72"} for c in ("side", "top")],
        }
    )  # fmt: skip
    for number in range(3):
        dark = np.zeros_like(good(0))
        write(tmp_path / "bad" / "dark" / "top" / f"{number}.png", good(100 + number))
        write(tmp_path / "bad" / "dark" / "side" / f"{number}.png", dark + np.uint8(number))
        write(tmp_path / "bad" / "none" / "top" / f"{number}.png", good(200 + number))
        write(tmp_path / "bad" / "none" / "side" / f"{number}.png", good(300 + number))
    result = qualify(station, Request(bad=tmp_path / "bad"))
    dark, none = (result.measured.kinds[kind] for kind in ("dark", "none"))
    assert (dark.parts, dark.detected) == (3, 3)
    assert {p.view for p in result.measured.parts if p.kind == "dark"} == {"side"}
    assert none.missed >= 2  # made of good parts
    for part in result.measured.parts:
        if part.verdict == "PASS":
            picture = cv2.imread(str(result.path / part.picture), cv2.IMREAD_UNCHANGED)
            seen = tmp_path / "bad" / "none" / part.view / Path(part.source).name
            np.testing.assert_array_equal(picture, cv2.imread(str(seen), cv2.IMREAD_UNCHANGED))


def test_the_report_stands_alone_and_escapes(station: Station, bad: Path, tmp_path: Path) -> None:
    write(bad / "faint" / "<script>x&.png", part_image(610))
    write_parts(tmp_path / "again", 3, first=900)
    result = qualify(station, Request(bad=bad, repeat=tmp_path / "again"))
    page = result.report.read_text()
    links = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^">)]{1,40})', page)
    assert len(links) == result.measured.overall.missed
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert "<script" not in page
    assert "&lt;script&gt;x&amp;.png" in page
    assert "faint" in page and "hole" in page and "again" in page
    assert result.qualification.bundle_sha256 in page
