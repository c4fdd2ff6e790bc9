"""A camera that takes several pictures of each part, from configuration to verdict."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from daemon_line import Line, wait_for
from tiny_station import active_bundle, edge_ad, write_station

from edge_ad.bundle import open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.calibration_set import load_set, set_directory
from edge_ad.capture.parts import (
    grazing_light,
    part_key,
    part_lost,
    part_placement,
    plate,
    render_part,
)
from edge_ad.config import Station, parse_station
from edge_ad.daemon.loading import build_inspector
from edge_ad.delivery.wire import read_journal_line
from edge_ad.engines import EngineChoice
from edge_ad.errors import ArtifactError, ConfigError
from edge_ad.frame import Frame, Image
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.reference import check_reference
from edge_ad.verdict import Decision, Reason

SIZE = (96, 72)
URI = "synthetic://?seed=1&width=96&height=72&defect_rate=0"
SHOTS = 'shots = ["bright", "dark"]\n'
PICTURES = ["top.bright", "top.dark"]


def lights(index: int) -> list[Image]:
    bright = render_part(1, index, *SIZE, 0.0)[0]
    return [bright, grazing_light(bright)]


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    station = write_station(tmp_path_factory.mktemp("shots"), URI, SHOTS)
    calibrate(station, Request(parts=60))
    return station


@pytest.fixture(scope="module")
def inspector(station: Station) -> Inspector:
    return open_inspector(open_bundle(active_bundle(station)), EngineChoice(threads=1))


def test_each_shot_is_a_view_with_gaussians_of_its_own(station: Station, inspector: Inspector) -> None:
    manifest = inspector.bundle.manifest
    assert list(manifest.preprocess.cameras) == PICTURES
    assert [(view.name, view.camera) for view in manifest.views] == [(p, p) for p in PICTURES]
    kept = load_set(
        set_directory(station.state_path, station.product), manifest.calibration_set.sha256
    ).kept
    assert {tuple(sorted(record.files)) for record in kept} == {tuple(PICTURES)}
    assert check_reference(inspector) < 1e-4
    assert sum(inspector.inspect_part(lights(1000 + i)).passed for i in range(40)) >= 36


def test_a_defect_that_one_light_shows_is_that_ones(inspector: Inspector) -> None:
    for place, name in enumerate(PICTURES):
        images = lights(1100)
        cv2.circle(images[place], (30, 30), 9, 255, -1)
        verdict = inspector.inspect_part(images)
        assert (verdict.decision, verdict.view) == (Decision.REJECT, name)


def test_parts_come_from_a_folder_for_each_shot(station: Station, tmp_path: Path) -> None:
    for index in range(30):
        for name, image in zip(PICTURES, lights(index), strict=True):
            (tmp_path / "good" / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "good" / name / f"{index}.png"), image)
            if index < 5:
                (tmp_path / "bad" / "hole" / name).mkdir(parents=True, exist_ok=True)
                spoilt = cv2.circle(image.copy(), (30, 30), 9, 255, -1)
                cv2.imwrite(str(tmp_path / "bad" / "hole" / name / f"{index}.png"), spoilt)
    own = write_station(tmp_path, URI, SHOTS)
    result = calibrate(own, Request(directory=tmp_path / "good"))
    assert result.manifest.counts["parts"] == 30
    done = edge_ad("qualify", "-c", own.path, "--bad", tmp_path / "bad", "--min-detection", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_with_a_lost_picture_is_a_fault_and_no_other(
    station: Station, tmp_path: Path
) -> None:
    parts, lost = 60, 0.15
    line = Path(station.path)
    text = line.read_text()
    line.write_text(text.replace(URI, f"{URI}&parts={parts}&lose={lost}"))
    journal = tmp_path / "verdicts.jsonl"
    try:
        done = edge_ad("run", "-c", line, "--journal", journal)
    finally:
        line.write_text(text)
    assert done.returncode == 0, done.stderr
    lines = [read_journal_line(line) for line in journal.read_bytes().splitlines()]
    found = {header.part: body for header, body in lines}
    assert len(found) == len(lines)
    passed = 0
    for index in range(parts):
        missed = [part_lost(1, index, 0, lost, shot) for shot in (0, 1)]
        body = found.get(part_key(index))
        if all(missed):
            assert body is None
        elif any(missed):
            assert body is not None and (body.verdict, body.reason) == ("FAULT", "missing_view")
        else:
            assert body is not None
            passed += body.verdict == "PASS"
    assert passed >= 30


def test_a_free_running_camera_that_loses_a_picture(inspector: Inspector, tmp_path: Path) -> None:
    """Its frames say nothing of which shot they are; parts are 0.4 s apart, and joined within 0.1."""
    bundle = inspector.bundle

    def build(_: Station) -> Any:
        return open_inspector(bundle, EngineChoice(threads=1))

    def frame(index: int, image: Image) -> Frame:
        return Frame("top", index, image, time.monotonic_ns(), time.time_ns())

    options = {"join_ms": 100.0, "deadline_ms": 5000.0}
    camera = {"shots": ["bright", "dark"]}
    with Line(tmp_path, live=True, build=build, options=options, camera_options=camera) as line:
        whole, lacking = lights(1200), lights(1201)
        line.feed(frame(0, whole[0]), frame(1, whole[1]))
        assert line.verdicts(1) == ["PASS"]
        time.sleep(0.3)
        line.feed(frame(2, lacking[1]))  # the bright one was lost
        assert line.verdicts(1) == ["FAULT missing_view"]
        time.sleep(0.3)
        line.feed(frame(3, whole[0]), frame(4, whole[1]), frame(5, whole[1]))
        assert line.verdicts(1) == ["PASS"]
        feed = line.daemon.feeds[0]
        wait_for(lambda: feed.unmatched == 1)
        assert feed.status()["frames"] == 6


def test_the_daemon_collects_each_shot(inspector: Inspector, tmp_path: Path) -> None:
    camera = {"shots": ["bright", "dark"]}
    with Line(tmp_path / "state", build=lambda _: None, camera_options=camera) as line:
        line.control.request("collect", parts=2, directory=str(tmp_path / "got"))
        for index in range(2):
            for shot, image in enumerate(lights(index)):
                line.feed(Frame("top", index, image, 0, 0, str(index), shot=shot))
        assert line.verdicts(2) == ["FAULT calibrating"] * 2
        wait_for(lambda: len(list((tmp_path / "got").rglob("*.png"))) == 4)
    for index in range(2):
        for name, image in zip(PICTURES, lights(index), strict=True):
            written = cv2.imread(str(tmp_path / "got" / name / f"{index:06d}.png"), 0)
            np.testing.assert_array_equal(written, image)


def test_where_a_part_lies_is_found_in_one_shot_for_all(tmp_path: Path) -> None:
    """The dark picture shows nothing that a part could be found by."""
    size, roi = (320, 240), "roi = [80, 60, 160, 120]\n"

    def pictures(index: int) -> list[Image]:
        placement = part_placement(1, index, *size, 0.05, 6)
        image = plate(1, *size).render(index, "", placement)
        return [image, np.full_like(image, 20)]

    for index in range(24):
        for name, image in zip(PICTURES, pictures(index), strict=True):
            (tmp_path / "good" / name).mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(index).integers(0, 9, image.shape, dtype=np.uint8)
            cv2.imwrite(
                str(tmp_path / "good" / name / f"{index}.png"), image + (name == PICTURES[1]) * noise
            )
    views = "".join(f'[[view]]\nname = "{p[4:]}"\ncamera = "{p}"\n{roi}' for p in PICTURES)
    locate = f'{SHOTS}frame_size = "fixed"\n[camera.locate]\nshot = "bright"\n{views}'
    station = write_station(tmp_path, "folder://nowhere", locate)
    calibrate(station, Request(directory=tmp_path / "good"))
    inspector = open_inspector(open_bundle(active_bundle(station)), EngineChoice(threads=1))
    rules = inspector.bundle.manifest.preprocess.cameras
    assert [rules[p].locate.shot for p in PICTURES] == ["", "top.bright"]  # type: ignore[union-attr]
    images = pictures(100)
    rng = np.random.default_rng(7)
    images[1] = images[1] + rng.integers(0, 9, images[1].shape, dtype=np.uint8)
    verdict = inspector.inspect_part(images)
    assert verdict.decision is Decision.PASS
    bright, dark = verdict.poses
    assert bright is not None and bright == dark
    # A spot of the part, not of the frame: it moves with the part in both pictures.
    turned = cv2.getRotationMatrix2D((160, 120), 6.0, 1.0)
    turned[:, 2] += (12, -8)
    moved = [cv2.warpAffine(one, turned, size, borderMode=cv2.BORDER_REPLICATE) for one in images]
    again = inspector.inspect_part(moved)
    assert again.decision is not Decision.FAULT, again.detail
    where, dark_too = again.poses
    assert where is not None and where == dark_too
    assert where.angle - bright.angle == pytest.approx(6.0, abs=0.3)
    nothing = inspector.inspect_part([images[1], images[1]])
    assert nothing.reason is Reason.EMPTY
    check = build_inspector(station)
    assert check is not None
    check.close()


BASE: dict[str, Any] = {"schema": 1, "station": "s"}


def table(**camera: Any) -> dict[str, Any]:
    return {**BASE, "camera": [{"name": "top", "uri": URI, "shots": ["bright", "dark"], **camera}]}


def test_shots_that_contradict_themselves_are_refused() -> None:
    station = parse_station(table())
    assert [picture.name for picture in station.pictures] == PICTURES
    view = {"name": "v", "camera": "top"}
    zone = {"name": "z", "camera": "top.side", "polygon": [[0, 0], [9, 0], [9, 9]]}
    clash = table()
    clash["camera"].append({"name": "top.dark", "uri": URI})
    for wrong, message in [
        (table(shots=["a", "b", "a"]), r"camera\[0\].shots: 'a' is named twice"),
        (clash, "camera name 'top.dark' is used twice"),
        (
            {**table(), "view": [view]},
            r"view\[0\].camera: camera 'top' takes several pictures .*top.dark",
        ),
        ({**table(), "view": [{**view, "camera": "top.side"}]}, "no camera is named 'top.side'; have"),
        (
            {**table(), "view": [{**view, "camera": "top.dark"}]},
            r"camera 'top.bright' has no \[\[view\]\]",
        ),
        ({**table(), "zone": [zone]}, r"zone\[0\].camera: no camera is named 'top.side'"),
        (table(locate={"shot": "side"}), r"locate.shot: 'side' is not among its shots"),
        (table(locate={"reference": "a.png"}), r"locate.reference: shows one of the shots"),
    ]:
        with pytest.raises(ConfigError, match=message):
            parse_station(wrong)


def test_a_bundle_of_other_shots_is_refused(station: Station, tmp_path: Path) -> None:
    (tmp_path / "state").symlink_to(station.state_path)
    other = write_station(tmp_path, URI, 'shots = ["bright", "side"]\n')
    with pytest.raises(ArtifactError, match=r"cameras \['top.bright', 'top.dark'\], .*'top.side'"):
        build_inspector(other)


def test_check_and_overlay_know_the_shots(station: Station, tmp_path: Path) -> None:
    done = edge_ad("check", "-c", station.path)
    assert "view top.dark" in done.stdout
    assert "96 x 72 px" in done.stdout
    out = tmp_path / "dark.png"
    done = edge_ad("camera", "grab", "-c", station.path, "--camera", "top.dark", "-o", out)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(cv2.imread(str(out), 0), lights(0)[1])
    done = edge_ad("camera", "grab", "-c", station.path, "--camera", "top", "-o", out)
    assert done.returncode == 2
    assert "have top.bright, top.dark" in done.stderr


def test_shots_in_another_order_are_refused(station: Station, tmp_path: Path) -> None:
    """The bright picture would be judged by what dark ones look like."""
    (tmp_path / "state").symlink_to(station.state_path)
    other = write_station(tmp_path, URI, 'shots = ["dark", "bright"]\n')
    with pytest.raises(ArtifactError, match=r"in this order, .*shots \['dark', 'bright'\] of 'top'"):
        build_inspector(other)
    with pytest.raises(ConfigError, match=r"in the order \['dark', 'bright'\]; restore it"):
        calibrate(other, Request(refit=True))


def test_cameras_with_shots_have_names_of_their_own() -> None:
    twice = table()
    twice["camera"].append({"name": "top", "uri": URI, "shots": ["side"]})
    with pytest.raises(ConfigError, match="camera name 'top' is used twice"):
        parse_station(twice)
