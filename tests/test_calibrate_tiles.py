"""Tiles from the station file to the verdict: one batch, Gaussians of their own, one threshold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_backbone import write_tiny_backbone
from tiny_station import active_bundle, edge_ad, part_image, write_parts, write_station

from edge_ad.backbone.spec import Level
from edge_ad.bundle import open_bundle
from edge_ad.bundle.describe import bundle_lines
from edge_ad.calibrate import Request, calibrate
from edge_ad.calibrate.plan import choose_levels
from edge_ad.config import Station
from edge_ad.engines import EngineChoice
from edge_ad.errors import ConfigError
from edge_ad.inspector import open_inspector
from edge_ad.reference import check_reference
from edge_ad.verdict import Decision, Reason

KEY = "openvino-f32"
ROI = (8, 4, 160, 120)
VIEW = """[[view]]
name = "all"
camera = "top"
roi = [8, 4, 160, 120]
tiles = [2, 3]
overlap = 8
"""


def big_part(number: int) -> np.ndarray:
    return cv2.resize(part_image(number), (176, 132), interpolation=cv2.INTER_CUBIC)


def tiled_station(directory: Path, view: str = VIEW, calibration: str = "min_parts = 20") -> Station:
    (directory / "good").mkdir(parents=True)
    for number in range(40):
        cv2.imwrite(str(directory / "good" / f"{number:03d}.png"), big_part(number))
    return write_station(directory, extra=view, calibration=calibration)


@pytest.fixture(scope="module", params=["default", "paper"])
def calibrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Station:
    directory = tmp_path_factory.mktemp("tiled")
    station = tiled_station(directory, calibration=f'profile = "{request.param}"')
    calibrate(station, Request(directory=directory / "good"))
    return station


def test_every_tile_has_gaussians_of_its_own_under_one_threshold(calibrated: Station) -> None:
    bundle = open_bundle(active_bundle(calibrated))
    section = bundle.section(KEY)
    names = [tile.name for tile in bundle.manifest.tiles]
    assert names == [f"all/{row}.{column}" for row in (1, 2) for column in (1, 2, 3)]
    assert len(section.scales) == len(section.levels) == len(bundle.heads(KEY)) == 6
    means = [bundle.tensors[f"{KEY}/{name}/level4/mean"] for name in names]
    assert all(not np.allclose(means[0], mean) for mean in means[1:])
    assert section.promise.parts == 40
    localises = bundle.manifest.local is not None
    assert len(section.local) == (6 if localises else 0)
    assert set(section.scales) == {1.0} if localises else min(section.scales) > 1.0
    text = "\n".join(bundle_lines(bundle))
    assert "view all" in text
    assert "roi [8, 4, 160, 120]: 2 x 3 tiles of 59 x 64 px, 1 camera px per network px" in text
    report = (bundle.path / "report.html").read_text()
    assert "<h3>View all, scale" in report
    assert "· all/" in report


def test_the_daemon_judges_as_the_calibration_does(calibrated: Station) -> None:
    inspector = open_inspector(open_bundle(active_bundle(calibrated)), EngineChoice(threads=1))
    assert check_reference(inspector) < 1e-5
    passed = sum(inspector.inspect(big_part(number)).passed for number in range(1000, 1060))
    assert passed > 50  # 40 parts promise 2.4 %
    inspector.close()


def test_a_defect_is_found_in_the_tile_where_it_is(calibrated: Station) -> None:
    inspector = open_inspector(open_bundle(active_bundle(calibrated)), EngineChoice(threads=1))
    for x, y in ((20, 20), (90, 100), (150, 30)):
        image = big_part(2000)
        image[y - 6 : y + 6, x - 6 : x + 6] = 255
        verdict = inspector.inspect(image)
        assert (verdict.decision, verdict.view) == (Decision.REJECT, "all")
        assert verdict.box is not None
        left, top, width, height = verdict.box
        assert left <= x < left + width
        assert top <= y < top + height
        assert verdict.distances is not None
        assert verdict.distances.shape == (6, 4)
        if verdict.maps is None:
            continue
        (found,) = verdict.maps  # one map of the region, 4 x 4 cells to a tile
        assert found.shape == (round(120 * 4 / 64), round(160 * 4 / 59))
        row, column = np.unravel_index(found.argmax(), found.shape)
        middle = (
            ROI[0] + (column + 0.5) * 160 / found.shape[1],
            ROI[1] + (row + 0.5) * 120 / found.shape[0],
        )
        assert abs(middle[0] - x) < 20
        assert abs(middle[1] - y) < 20
    inspector.close()


def test_a_frame_of_another_size_is_fault(calibrated: Station) -> None:
    inspector = open_inspector(open_bundle(active_bundle(calibrated)), EngineChoice(threads=1))
    verdict = inspector.inspect(big_part(1)[:, :150])
    assert (verdict.decision, verdict.reason) == (Decision.FAULT, Reason.FRAME_SIZE)
    inspector.close()


def test_a_station_with_other_tiles_refuses_the_bundle(calibrated: Station, tmp_path: Path) -> None:
    other = tmp_path / "line.toml"
    text = Path(calibrated.path).read_text().replace("tiles = [2, 3]", "tiles = [3, 2]")
    other.write_text(text.replace('backbone = "net"', f'backbone = "{calibrated.backbone_path}"'))
    (tmp_path / "state").symlink_to(calibrated.state_path)
    done = edge_ad("check", "-c", other)
    assert done.returncode == 1
    assert "calibrate again or restore the station file" in " ".join(done.stdout.split())


def test_inspect_says_which_region_decided(calibrated: Station, tmp_path: Path) -> None:
    image = big_part(2001)
    image[90:110, 30:50] = 255
    cv2.imwrite(str(tmp_path / "bad.png"), image)
    done = edge_ad("inspect", "-b", active_bundle(calibrated), tmp_path / "bad.png", "--json", "-")
    line = json.loads(done.stdout)
    x, y, width, height = line["box"]
    assert x <= 40 < x + width
    assert y <= 100 < y + height


@pytest.mark.parametrize(
    ("tiles", "expected"),
    [
        (
            "tiles = [2, 3]\noverlap = 100",
            r"view\[0\].tiles: .* overlap by 100 px do not fit into 120 px",
        ),
        ("tiles = [2, 25]", r"view\[0\].tiles: 25 columns of tiles in 160 px are 7 px each"),
    ],
)
def test_tiles_that_do_not_fit_are_refused_before_anything_is_read(
    tmp_path: Path, tiles: str, expected: str
) -> None:
    station = tiled_station(tmp_path, VIEW.replace("tiles = [2, 3]\noverlap = 8", tiles))
    with pytest.raises(ConfigError, match=expected):
        calibrate(station, Request(directory=tmp_path / "none"))


def test_too_many_tiles_are_refused(tmp_path: Path) -> None:
    view = '[[view]]\nname = "v{}"\ncamera = "top"\ntiles = [16, 10]\n'
    station = write_station(tmp_path, extra=view.format(1) + view.format(2))
    with pytest.raises(ConfigError, match="320 tiles in all, at most 256"):
        calibrate(station, Request(directory=tmp_path / "none"))


def test_pictures_that_the_tiles_do_not_fit_into_are_left_out(tmp_path: Path) -> None:
    view = '[[view]]\nname = "all"\ncamera = "top"\ntiles = [2, 2]\noverlap = 8\n'
    station = write_station(tmp_path, extra=view)
    write_parts(tmp_path / "good", 24)
    cv2.imwrite(str(tmp_path / "good" / "thin.png"), part_image(77)[:7])
    result = calibrate(station, Request(directory=tmp_path / "good"))
    (one,) = result.skipped
    assert (one.source, one.kind) == ("thin.png", "size")
    assert "view all: 2 rows of tiles that overlap by 8 px do not fit into 7 px" in one.detail


def test_fewer_features_per_position_where_there_are_tiles(tmp_path: Path) -> None:
    """The tiny network has 10 of them; what is fitted of a larger one is in its manifest."""
    write_tiny_backbone(tmp_path / "net", widths=(8, 12, 48, 48), dim=96)
    station = tiled_station(tmp_path)
    calibrate(station, Request(directory=tmp_path / "good"))
    bundle = open_bundle(active_bundle(station))
    local = bundle.manifest.local
    assert local is not None
    assert (local.dim, local.narrowed_from) == (48, 96)
    assert local.exported == bundle.backbone().local
    inspector = open_inspector(bundle, EngineChoice(threads=1))
    assert check_reference(inspector) < 1e-5
    inspector.close()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_parts(tmp_path: Path) -> None:
    """24 tiles of 256 x 256 px, 256 positions each: 250 KB of features a part, 110 MB for 440."""
    code = (
        "import resource, sys; from pathlib import Path; from edge_ad.config import load_station;"
        "from edge_ad.calibrate import Request, calibrate;"
        "calibrate(load_station(sys.argv[1]), Request(parts=int(sys.argv[2])));"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    megabytes = []
    for parts in (60, 500):
        directory = tmp_path / str(parts)
        write_tiny_backbone(directory / "net", size=256)
        uri = "synthetic://?width=640&height=480&defect_rate=0"
        view = '[[view]]\nname = "all"\ncamera = "top"\ntiles = [4, 6]\n'
        station = write_station(directory, uri, view)
        done = subprocess.run(
            [sys.executable, "-c", code, station.path, str(parts)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        megabytes.append(int(done.stdout) / 1024)
    assert megabytes[1] - megabytes[0] < 35


@pytest.mark.parametrize(
    ("tiles", "calibration", "levels"),
    [
        ("[1, 2]", "", ["level1", "level2"]),
        ("[1, 2]", 'levels = ["level3"]', ["level3"]),
        ("[1, 2]", 'profile = "paper"', ["level1", "level2", "level3"]),
        ("[1, 1]", "", ["level1", "level2", "level3"]),
    ],
)
def test_large_levels_are_for_single_views(
    tmp_path: Path, tiles: str, calibration: str, levels: list[str]
) -> None:
    """Beside positions, and where the station does not name them."""
    view = f'[[view]]\nname = "all"\ncamera = "top"\ntiles = {tiles}\n'
    station = write_station(tmp_path, extra=view, calibration=calibration)
    backbone: Any = SimpleNamespace(
        name="net",
        levels=[Level(f"level{i}", "t", dim, 2, 0) for i, dim in enumerate((32, 512, 1280), 1)],
    )
    assert [level.name for level in choose_levels(station, backbone)] == levels
