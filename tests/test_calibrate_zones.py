"""Zones from the station file to the verdict: ignored, judged apart, excused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from daemon_line import Line
from tiny_station import active_bundle, edge_ad, write_station

from edge_ad.bundle import open_bundle
from edge_ad.bundle.describe import bundle_lines
from edge_ad.calibrate import Request, calibrate
from edge_ad.capture.parts import plate
from edge_ad.config import Station
from edge_ad.daemon.loading import build_inspector
from edge_ad.engines import EngineChoice
from edge_ad.errors import ArtifactError, ConfigError
from edge_ad.findings import _spots
from edge_ad.frame import Image
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.reference import check_reference
from edge_ad.verdict import Decision

SIZE = (320, 240)
URI = "synthetic://?seed=1&width=320&height=240&defect_rate=0"
KEY = "openvino-f32"
# 2 x 2 tiles of 4 x 4 positions: a position is 40 x 30 px.
VIEW = '[[view]]\nname = "all"\ncamera = "top"\ntiles = [2, 2]\n'
BADGE = '[[zone]]\nname = "badge"\ncamera = "top"\nkind = "ignore"\n'
BADGE += "polygon = [[200, 40], [280, 40], [280, 100], [200, 100]]\n"
SEAL = '[[zone]]\nname = "seal"\ncamera = "top"\n{}'
SEAL += "polygon = [[40, 120], [120, 120], [120, 210], [40, 210]]\n"
ZONES = VIEW + BADGE + SEAL.format("share = 0.3\n")


def part(index: int) -> Image:
    return plate(1, *SIZE).render(index, "")


def spot(image: Image, x: int, y: int, radius: int = 9) -> Image:
    spoilt = image.copy()
    cv2.circle(spoilt, (x, y), radius, 255, -1)
    return spoilt


def made(directory: Path, zones: str = ZONES, camera: str = "", calibration: str = "") -> Station:
    station = write_station(directory, URI, camera + zones, calibration or "min_parts = 20")
    calibrate(station, Request(parts=60))
    return station


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    return made(tmp_path_factory.mktemp("zones"), camera="px_per_mm = 4.0\n")


@pytest.fixture(scope="module")
def inspector(station: Station) -> Inspector:
    return open_inspector(open_bundle(active_bundle(station)), EngineChoice(threads=1))


def test_the_bundle_holds_the_zones(station: Station) -> None:
    bundle = open_bundle(active_bundle(station))
    section = bundle.section(KEY)
    assert [(zone.name, zone.kind, zone.value) for zone in bundle.manifest.zones] == [
        ("badge", "ignore", 1),
        ("seal", "inspect", 2),
    ]
    image = cv2.imread(str(bundle.path / "zones/top.png"), cv2.IMREAD_UNCHANGED)
    assert (image[60, 240], image[150, 80], image[10, 10]) == (1, 2, 0)
    assert [scale.rate for scale in section.zones] == pytest.approx([0.007, 0.003])
    assert sum(len(fit.patches) for fit in section.local) >= 1
    text = "\n".join(bundle_lines(bundle))
    assert "zone seal" in text
    assert "camera top, 30% of the false rejects" in text
    assert "Zone badge" in (bundle.path / "report.html").read_text()


def test_the_inspector_judges_as_the_calibration_did(inspector: Inspector) -> None:
    assert check_reference(inspector) < 1e-5
    assert sum(inspector.inspect(part(index)).passed for index in range(1000, 1060)) >= 54


def test_what_is_ignored_does_not_matter_at_all(inspector: Inspector) -> None:
    image = part(1100)
    verdict, other = inspector.inspect(image), inspector.inspect(spot(image, 240, 70, 20))
    assert verdict.passed
    assert other.score == verdict.score
    assert other.distances is not None
    assert verdict.distances is not None
    np.testing.assert_array_equal(other.distances, verdict.distances)
    assert inspector.inspect(spot(image, 160, 60, 12)).decision is Decision.REJECT


def test_findings_say_what_is_where(inspector: Inspector) -> None:
    for x, y, zone in ((80, 165, "seal"), (250, 180, ""), (150, 60, "")):
        verdict = inspector.inspect(spot(part(1200), x, y, 12))
        assert verdict.decision is Decision.REJECT
        first = verdict.findings[0]
        assert (first.zone, first.view) == (zone, "all")
        assert abs(first.x - x) < 30
        assert abs(first.y - y) < 20
        assert first.peak > 1
        assert first.area % (40 * 30) == 0
        assert first.area_mm2 == first.area / 16
        assert first.mm == (first.x / 4, first.y / 4)
        assert not first.allowed
        assert verdict.box is not None
        assert verdict.box[0] <= x < verdict.box[0] + verdict.box[2]
    assert inspector.inspect(part(1201)).findings == ()


def test_small_findings_and_a_few_cosmetic_ones_are_excused(tmp_path: Path) -> None:
    rules = "min_area = 1300.0\nallow = 1\nallow_area = 5000.0\n"
    whole = (
        '[[zone]]\nname = "face"\ncamera = "top"\n{}polygon = [[0, 0], [320, 0], [320, 240], [0, 240]]\n'
    )
    station = made(tmp_path, VIEW + whole.format(rules))
    inspector = open_inspector(open_bundle(active_bundle(station)), EngineChoice(threads=1))
    plain = made(tmp_path / "plain", VIEW)
    strict = open_inspector(open_bundle(active_bundle(plain)), EngineChoice(threads=1))
    seen = {}
    for name, spots in {
        "one": [(105, 75)],  # in the middle of a position
        "three": [(60, 45), (250, 190), (260, 45)],
    }.items():
        image = part(1300)
        for x, y in spots:
            image = spot(image, x, y, 12)
        assert strict.inspect(image).decision is Decision.REJECT
        verdict = inspector.inspect(image)
        assert verdict.score > verdict.threshold
        seen[name] = (verdict.decision, [(f.zone, f.allowed) for f in verdict.findings])
    assert seen["one"][0] is Decision.PASS
    assert set(seen["one"][1]) == {("face", True)}
    assert seen["three"][0] is Decision.REJECT
    # Black all over is no small thing, and the part as a whole is not excused.
    assert inspector.inspect(np.zeros(SIZE[::-1], np.uint8)).decision is Decision.REJECT


def test_a_zone_may_cover_whole_tiles(tmp_path: Path) -> None:
    """One tile is ignored, another is all of one zone."""
    zones = VIEW + (
        '[[zone]]\nname = "jig"\ncamera = "top"\nkind = "ignore"\n'
        "polygon = [[0, 0], [160, 0], [160, 120], [0, 120]]\n"
        '[[zone]]\nname = "foot"\ncamera = "top"\nshare = 0.5\n'
        "polygon = [[160, 120], [320, 120], [320, 240], [160, 240]]\n"
    )
    station = made(tmp_path, zones)
    inspector = open_inspector(open_bundle(active_bundle(station)), EngineChoice(threads=1))
    assert check_reference(inspector) < 1e-5
    image = part(1400)
    assert inspector.inspect(image).passed
    assert inspector.inspect(spot(image, 80, 60, 40)).score == inspector.inspect(image).score
    verdict = inspector.inspect(spot(image, 250, 180, 14))
    assert verdict.decision is Decision.REJECT
    assert {finding.zone for finding in verdict.findings} == {"foot"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (VIEW + BADGE, r"was made for zones \['badge', 'seal'\].* has \['badge'\]"),
        (VIEW + BADGE + SEAL.format("share = 0.2\n"), "or other settings of them"),
        (ZONES.replace("[280, 40], [280, 100]", "[281, 40], [281, 100]"), "are drawn otherwise"),
    ],
)
def test_other_zones_need_another_fit(
    station: Station, tmp_path: Path, changed: str, expected: str
) -> None:
    shutil.copytree(station.state_path, tmp_path / "state", symlinks=True)
    other = write_station(tmp_path, URI, "px_per_mm = 4.0\n" + changed)
    with pytest.raises(ArtifactError, match=expected):
        build_inspector(other)


def test_a_label_image_that_was_painted_over_is_noticed(tmp_path: Path) -> None:
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[40:100, 200:280] = 9
    cv2.imwrite(str(tmp_path / "labels.png"), labels)
    zones = VIEW + BADGE.partition("polygon")[0] + 'file = "labels.png"\nlabel = 9\n'
    station = made(tmp_path, zones)
    inspector = build_inspector(station)
    assert inspector is not None
    inspector.close()
    labels[100:120, 200:280] = 9
    cv2.imwrite(str(tmp_path / "labels.png"), labels)
    with pytest.raises(ArtifactError, match="zones of camera 'top' are drawn otherwise"):
        build_inspector(station)


@pytest.mark.parametrize(
    ("zones", "calibration", "camera", "expected"),
    [
        (ZONES, 'profile = "paper"', "", "zones need profile 'default'"),
        (ZONES, "augment = 1", "", "augment and zones with a share exclude each other"),
        (ZONES, "", 'frame_size = "any"\n', "zones need frames of one size"),
        (
            VIEW + SEAL.format("share = 0.3\n").replace("[120, 120], [120, 210], [40, 210]",
                                                        "[50, 120], [50, 128], [40, 128]"),
            "", "", "zone 'seal' has a share, but is no position's",
        ),
        (VIEW + BADGE.replace("280", "420"), "", "", "badge|outside"),
        (
            VIEW + BADGE.replace("[[200, 40], [280, 40], [280, 100], [200, 100]]",
                                 "[[0, 0], [320, 0], [320, 240], [0, 240]]"),
            "", "", "the zones ignore all that the views show",
        ),
        (ZONES, "", "[camera.locate]\n", r"zone\[0\].camera: zones are drawn on the part that others"),
    ],
)  # fmt: skip
def test_zones_that_cannot_be_had(
    tmp_path: Path, zones: str, calibration: str, camera: str, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        made(tmp_path, zones, camera, calibration)


def test_the_daemon_says_what_was_found(station: Station, tmp_path: Path) -> None:
    bundle = open_bundle(active_bundle(station))

    def build(_: Station) -> Any:
        return open_inspector(bundle, EngineChoice(threads=1))

    with Line(tmp_path, build=build) as line:
        line.feed(spot(part(1500), 80, 165, 12), part(1501))
        _, body = line.verdict()
        assert body.findings is not None
        assert body.findings[0].zone == "seal"
        assert body.findings[0].mm is not None
        _, body = line.verdict()
        assert (body.verdict, body.findings) == ("PASS", None)
        assert line.metric("edge_ad_allowed_parts_total") == 0


def test_inspect_lists_findings(station: Station, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "bad.png"), spot(part(1600), 80, 165, 12))
    done = edge_ad("inspect", "-b", active_bundle(station), tmp_path / "bad.png", "--json", "-")
    (first, *_) = json.loads(done.stdout)["findings"]
    assert first["zone"] == "seal"


LOOSE = '[[zone]]\nname = "loose"\ncamera = "top"\nallow = 9\nallow_area = 1e6\n'


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    """The left half excuses whatever is found there."""
    zone = LOOSE + "polygon = [[0, 0], [160, 0], [160, 240], [0, 240]]\n"
    station = made(tmp_path_factory.mktemp("lenient"), VIEW + zone)
    return open_inspector(open_bundle(active_bundle(station)), EngineChoice(threads=1))


def test_what_reaches_out_of_a_zone_is_not_excused(lenient: Inspector) -> None:
    inside = lenient.inspect(spot(part(1700), 105, 75, 8))
    assert inside.decision is Decision.PASS
    assert inside.score > inside.threshold
    assert {(f.zone, f.allowed) for f in inside.findings} == {("loose", True)}
    across = part(1700)
    cv2.line(across, (90, 60), (230, 60), 255, 14)
    verdict = lenient.inspect(across)
    assert verdict.decision is Decision.REJECT
    assert False in {finding.allowed for finding in verdict.findings}


def test_the_part_as_a_whole_is_not_excused(lenient: Inspector) -> None:
    """The left half blackened: its findings would be excused, but the part is no part any more."""
    image = part(1701)
    image[:, :150] = 0
    assert lenient.inspect(image).decision is Decision.REJECT


def test_a_stripe_excuses_no_place_that_it_is_not_most_of(tmp_path: Path) -> None:
    """Three pixels of a position of 30, drawn through its middle."""
    zone = LOOSE + "polygon = [[0, 73], [320, 73], [320, 76], [0, 76]]\n"
    station = made(tmp_path, VIEW + zone)
    inspector = open_inspector(open_bundle(active_bundle(station)), EngineChoice(threads=1))
    verdict = inspector.inspect(spot(part(1700), 105, 75, 8))
    assert verdict.decision is Decision.REJECT
    assert {(f.zone, f.allowed) for f in verdict.findings} == {("", False)}


def test_groups_are_the_neighbours_that_stand_out() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 1.0):
        excess = np.where(rng.random((30, 40)) < share, 1.5, 0.5).astype(np.float32)
        count, marks = cv2.connectedComponents((excess > 1).astype(np.uint8))
        groups = _spots(excess)
        assert len(groups) == count - 1
        for mark, group in enumerate(groups, 1):
            np.testing.assert_array_equal(np.sort(group), np.flatnonzero(marks == mark))


def test_more_findings_than_anyone_looks_at_excuse_nothing(lenient: Inspector) -> None:
    """Every second place of a map of 500 x 500 stands out."""
    places = lenient._places
    assert places is not None
    view = lenient._part.views[0]
    lenient.inspect(part(1))
    excess = np.zeros((500, 500), np.float32)
    excess[::2, ::2] = np.linspace(1.1, 2.0, 250 * 250).reshape(250, 250)
    found, cut = places.finder._of_view(view, excess)
    assert cut
    assert len(found) == 50
    assert max(one.peak for one, *_ in found) == pytest.approx(2.0)
    assert min(one.peak for one, *_ in found) > 1.99
