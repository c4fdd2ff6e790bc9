"""A whole line on a GPU: built, calibrated, run, broken. The driver and TensorRT are stand-ins; the rest
is the product."""

from __future__ import annotations

import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from daemon_line import Line, wait_for
from fake_driver import ILLEGAL_ADDRESS, FakeDriver
from gpu_programs import edge_ad, stand_in_for_tensorrt
from tiny_station import active_bundle, part_image, write_parts, write_station

from edge_ad.backbone.tensorrt.cache import Entry, NumericCheck, read_entries
from edge_ad.bundle import open_bundle
from edge_ad.check import check_station
from edge_ad.config import Station, load_station
from edge_ad.engines import REFERENCE, EngineChoice, chosen_engine
from edge_ad.errors import ArtifactError, DeviceError
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.reference import check_reference

pytestmark = pytest.mark.fake_driver
FIXED = {"frame_size": "fixed"}
ENGINE = '[engine]\nkind = "tensorrt"\nprecision = "f16"\n'


@pytest.fixture(scope="module", autouse=True)
def tensorrt(fake_library: Path) -> None:
    stand_in_for_tensorrt()


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, tensorrt: None) -> Station:
    """A station with its engine built and a bundle."""
    directory = tmp_path_factory.mktemp("line")
    write_station(directory, extra='frame_size = "fixed"')
    path = directory / "line.toml"
    path.write_text(path.read_text().replace("[engine]\n", ENGINE))
    write_parts(directory / "good", 40)
    done = edge_ad("calibrate", "-c", path, "--from", directory / "good")
    assert done.returncode == 3
    assert "no engine of backbone" in done.stderr
    assert f"give 'edge-ad backbone build -c {path} --precision f16'" in done.stderr
    done = edge_ad("backbone", "build", "-c", path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "standard deviations from OpenVINO's at most" in " ".join(done.stdout.split())
    done = edge_ad("calibrate", "-c", path, "--from", directory / "good")
    assert done.returncode == 0, done.stderr
    return load_station(path)


def test_both_engines_are_calibrated_and_judge_alike(line: Station, fake: FakeDriver) -> None:
    bundle = open_bundle(active_bundle(line))
    assert list(bundle.manifest.engines) == ["tensorrt-f16", "openvino-f32"]
    gpu, cpu = open_inspector(bundle, chosen_engine(line)), open_inspector(bundle, REFERENCE)
    assert gpu.identity.kind == "tensorrt"
    assert gpu.engine.prepares  # the kernels make the pictures
    for number in range(500, 505):
        found, expected = (one.inspect(part_image(number)) for one in (gpu, cpu))
        assert found.decision == expected.decision
        assert found.score == pytest.approx(expected.score, rel=1e-2, abs=1e-2)
    spoilt = part_image(2000)
    spoilt[10:30, 20:44] = 255
    found, expected = gpu.inspect(spoilt), cpu.inspect(spoilt)
    assert found.decision == expected.decision
    assert found.maps is not None
    assert expected.maps is not None
    np.testing.assert_allclose(found.maps[0], expected.maps[0], rtol=0.05, atol=0.05)
    gpu.close()
    cpu.close()


def test_the_check_opens_the_engine_that_was_built(line: Station, fake: FakeDriver) -> None:
    findings = {one.name: one for one in check_station(line)}
    assert findings["engine"].state == "ok"
    assert findings["engine"].text.startswith("tensorrt 10.")
    assert findings["fallback"].state == "ok"


def test_others_open_and_close_while_one_judges(line: Station, fake: FakeDriver) -> None:
    # As when a bundle is loaded anew, or parts are qualified through it.
    bundle, choice = open_bundle(active_bundle(line)), chosen_engine(line)
    judging, ended = open_inspector(bundle, choice), threading.Event()
    expected = judging.inspect(part_image(7)).score
    found: list[float] = []

    def judge() -> None:
        while not ended.is_set():
            found.append(judging.inspect(part_image(7)).score)

    thread = threading.Thread(target=judge)
    thread.start()
    for _ in range(5):
        other = open_inspector(bundle, choice)
        assert other.inspect(part_image(7)).score == expected
        other.close()
    ended.set()
    thread.join()
    judging.close()
    assert set(found) == {expected}


def test_another_engine_than_the_calibrated_one_scores_the_reference_frames_first(
    line: Station, fake: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def check(inspector: Inspector) -> float:
        checked.append(inspector.identity.build)
        return check_reference(inspector)

    monkeypatch.setattr("edge_ad.inspector.check_reference", check)
    bundle = open_bundle(active_bundle(line))
    calibrated = bundle.section("tensorrt-f16").identity.build
    cache = Path(shutil.copytree(line.state_path / "engines", tmp_path / "engines"))
    choice = msgspec.structs.replace(chosen_engine(line), cache=str(cache))
    done = edge_ad("backbone", "build", "-c", line.path, "--cache", cache, "--optimization-level", 1)
    assert done.returncode == 0, done.stderr
    open_inspector(bundle, choice).close()  # of two the calibrated one, though it is older
    assert checked == []
    (entry,) = (one for one in read_entries(cache)[0] if one.record.plan_sha256 == calibrated)
    shutil.rmtree(entry.directory)
    open_inspector(bundle, choice).close()
    assert len(checked) == 1
    assert checked[0] not in ("", calibrated)
    fake.driver_version(13020)
    open_inspector(bundle, chosen_engine(line)).close()
    assert checked[1] == calibrated
    # As after a build that went wrong unnoticed: its scores are not those that were calibrated.
    section = bundle.section("tensorrt-f16")
    moved = {file: 2 * score + 1 for file, score in section.reference_scores.items()}
    wrong = msgspec.structs.replace(section, reference_scores=moved)
    manifest = msgspec.structs.replace(bundle.manifest, engines={"tensorrt-f16": wrong})
    with pytest.raises(ArtifactError, match=r"calibrated on 10.*plan .*, this is 10.*calibrate --refit"):
        open_inspector(replace(bundle, manifest=manifest), choice)


def test_a_cache_that_may_only_be_read_is_good_enough(
    line: Station, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(entry: Entry, check: NumericCheck) -> Entry:
        raise DeviceError(f"{entry.directory}: cannot be written: Read-only file system")

    monkeypatch.setattr("edge_ad.engines.tensorrt.write_check", refuse)
    fake.driver_version(13030)
    inspector = open_inspector(open_bundle(active_bundle(line)), chosen_engine(line))
    assert inspector.identity.kind == "tensorrt"
    inspector.close()
    assert "Read-only file system; the engine's numbers are compared again" in caplog.text


def test_a_frame_of_another_size_is_a_fault_and_not_written(line: Station, fake: FakeDriver) -> None:
    inspector = open_inspector(open_bundle(active_bundle(line)), chosen_engine(line))
    assert inspector.inspect(part_image(1, (50, 64))).reason.value == "frame_size"
    assert inspector.inspect(part_image(2)).score > 0
    inspector.close()


def options(line: Station, **more: Any) -> dict[str, Any]:
    engine = {"kind": "tensorrt", "precision": "f16", "threads": 1}
    return {"product": "disc", "engine": engine | more}


def test_a_broken_context_is_rebuilt_and_the_line_goes_on(line: Station, fake: FakeDriver) -> None:
    with Line(line.state_path, options=options(line), camera_options=FIXED) as running:
        running.feed(part_image(2000))
        assert running.verdict()[1].engine == "tensorrt-f16"
        broken = running.daemon.loop.active.inspector
        fake.break_next_kernel(ILLEGAL_ADDRESS)
        running.feed(*(part_image(2000 + i) for i in range(3)))
        bodies = [running.verdict()[1] for _ in range(3)]
        assert [body.reason for body in bodies] == ["engine"] * 3
        assert "CUDA_ERROR_ILLEGAL_ADDRESS" in bodies[0].detail
        # The order to rebuild may come after the verdicts: whether it is done, only another one shows.
        wait_for(lambda: running.daemon.loop.active.inspector not in (broken, None))
        wait_for(lambda: not running.daemon.changes.rebuilding)
        running.feed(part_image(2010))
        body = running.verdict()[1]
        assert (body.engine, body.degraded, body.reason) == ("tensorrt-f16", False, "")
        assert running.daemon.state == "RUNNING"


def test_a_card_that_is_gone_leaves_the_line_degraded(line: Station, fake: FakeDriver) -> None:
    with Line(line.state_path, options=options(line), camera_options=FIXED) as running:
        running.feed(part_image(2000))
        assert running.verdict()[1].engine == "tensorrt-f16"
        fake.break_next_kernel(ILLEGAL_ADDRESS)
        fake.machine(devices=0)
        running.feed(*(part_image(2000 + i) for i in range(3)))
        assert [running.verdict()[1].reason for _ in range(3)] == ["engine"] * 3
        wait_for(lambda: running.daemon.state == "DEGRADED")
        running.feed(part_image(2010))
        body = running.verdict()[1]
        assert (body.engine, body.degraded) == ("openvino-f32", True)


def test_a_new_driver_has_the_numbers_checked_again(line: Station, fake: FakeDriver) -> None:
    from edge_ad.backbone.tensorrt.cache import read_entries

    def checked_under() -> str:
        (entry,) = read_entries(line.state_path / "engines")[0]
        assert entry.record.check is not None
        assert entry.record.check.passed
        return entry.record.check.driver

    before = checked_under()
    fake.driver_version(13010)
    open_inspector(open_bundle(active_bundle(line)), chosen_engine(line)).close()
    assert checked_under() != before


def test_an_engine_whose_features_are_off_is_not_built(
    line: Station, fake: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AD_SPOIL", "factor 1.5")
    done = edge_ad("backbone", "build", "-c", line.path, "--cache", tmp_path)
    assert done.returncode == 3, done.stderr + done.stdout
    assert re.search(r"engine\.plan: features of level1 are .* off .*another\s+precision", done.stderr)


@pytest.mark.parametrize(
    ("driver", "spoil", "match"),
    [
        (13020, "factor 1.5", r"engine\.plan: features of level1 are .* off "),
        (13030, "factor nan", r"engine\.plan: features of level1 are nan;"),
    ],
)
def test_an_engine_that_is_off_under_a_new_driver_does_not_judge(
    line: Station,
    fake: FakeDriver,
    monkeypatch: pytest.MonkeyPatch,
    driver: int,
    spoil: str,
    match: str,
) -> None:
    bundle = open_bundle(active_bundle(line))
    fake.driver_version(driver)
    monkeypatch.setenv("EDGE_AD_SPOIL", spoil)
    for _ in range(2):  # what was found once does not let it through, and can be read
        with pytest.raises(ArtifactError, match=match):
            open_inspector(bundle, chosen_engine(line))
    monkeypatch.delenv("EDGE_AD_SPOIL")
    open_inspector(bundle, chosen_engine(line)).close()


def test_an_engine_that_judges_otherwise_is_not_calibrated(
    line: Station, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = active_bundle(line)
    monkeypatch.setenv("EDGE_AD_SPOIL", "noise 0.02")
    done = edge_ad("calibrate", "-c", line.path, "--refit")
    assert done.returncode == 1, done.stderr + done.stdout
    assert "does not judge like openvino-f32" in " ".join(done.stderr.split())
    assert active_bundle(line) == before
    monkeypatch.delenv("EDGE_AD_SPOIL")
    done = edge_ad("calibrate", "-c", line.path, "--refit")
    assert done.returncode == 0, done.stderr


def test_what_is_wrong_is_named(line: Station, fake: FakeDriver, tmp_path: Path) -> None:
    bundle = open_bundle(active_bundle(line))
    fake.machine(devices=0)
    with pytest.raises(DeviceError, match="GPU"):
        open_inspector(bundle, chosen_engine(line))
    fake.machine(devices=1)
    with pytest.raises(ArtifactError, match=r"no engine of backbone .* give 'edge-ad backbone build"):
        open_inspector(bundle, EngineChoice("tensorrt", "f16", cache=str(tmp_path / "empty")))
    plan = next((line.state_path / "engines").glob("*/engine.plan"))
    whole = plan.read_bytes()
    plan.write_bytes(whole[:-10])
    try:
        with pytest.raises(ArtifactError, match=r"engine\.plan.*edge-ad backbone build"):
            open_inspector(bundle, chosen_engine(line))
    finally:
        plan.write_bytes(whole)
    assert fake.nothing_left() is None
