"""An engine that fails is opened anew, then replaced by the CPU engine that the bundle holds, loudly."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from daemon_line import Line, wait_for
from numpy.typing import NDArray
from tiny_station import active_bundle, part_image, write_parts, write_station

from edge_ad.backbone.engine import ScoreEngine
from edge_ad.bundle import open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.config import Station, load_station
from edge_ad.daemon.fallback import slowest_ms, stand_in
from edge_ad.daemon.loading import build_inspector
from edge_ad.engines import EngineChoice
from edge_ad.errors import ArtifactError, DeviceError
from edge_ad.inspector import Inspector, open_inspector
from edge_ad.reference import reference_images

LOST = DeviceError("torch-f32: the device is lost; look at its power supply")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A bundle of both engines."""
    directory = tmp_path_factory.mktemp("torch")
    write_station(directory)
    path = directory / "line.toml"
    path.write_text(path.read_text().replace("[engine]\n", '[engine]\nkind = "torch"\n'))
    station = load_station(path)
    write_parts(directory / "good", 40)
    calibrate(station, Request(directory=directory / "good", person="anna", reason="first"))
    return station


@pytest.fixture
def state(calibrated: Station, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calibrated.state_path, tmp_path / "state", symlinks=True))


class Lost:
    """An engine whose device goes away after some parts; `log` gets what is done with it."""

    def __init__(self, engine: ScoreEngine, parts: int, log: list[str]) -> None:
        self._engine, self._left, self._log = engine, parts, log
        self.identity, self.input = engine.identity, engine.input

    @property
    def cells(self) -> NDArray[np.float32] | None:
        return self._engine.cells

    @property
    def local(self) -> NDArray[np.float32] | None:
        return self._engine.local

    def infer(self) -> NDArray[np.float32]:
        if self._left == 0:
            raise LOST
        self._left -= 1
        return self._engine.infer()

    def close(self) -> None:
        self._log.append("closed")
        self._engine.close()


def losing(parts: int, log: list[str], then: Callable[[Station], Any]) -> Callable[[Station], Any]:
    """A `build` whose first engine is lost after some parts, and what is built after it."""

    def build(station: Station) -> Any:
        log.append("built")
        if log.count("built") > 1:
            return then(station)
        inspector = build_inspector(station)
        assert isinstance(inspector, Inspector)
        inspector.engine = Lost(inspector.engine, parts, log)
        return inspector

    return build


def options(**engine: Any) -> dict[str, Any]:
    return {"product": "disc", "engine": {"kind": "torch", "threads": 1, **engine}}


def whole(station: Station) -> Any:
    """With its tensors, which `build_inspector` lets go of."""
    return open_bundle(active_bundle(station))


def test_a_lost_engine_is_replaced_and_every_verdict_says_so(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    build = losing(2, log, lambda station: stand_in(whole(station), station, LOST))
    spoilt = part_image(3000)
    spoilt[10:30, 20:44] = 255
    with caplog.at_level(logging.ERROR), Line(state, build=build, options=options()) as line:
        assert line.daemon.state == "RUNNING"
        line.feed(*(part_image(2000 + i) for i in range(5)))
        bodies = [line.verdict()[1] for _ in range(5)]
        assert [(b.engine, b.degraded) for b in bodies] == [("torch-f32", False)] * 5
        assert [b.reason for b in bodies[2:]] == ["engine"] * 3
        wait_for(lambda: line.daemon.state == "DEGRADED")
        line.feed(part_image(2100), spoilt)
        bodies = [line.verdict()[1] for _ in range(2)]
        assert [(b.engine, b.degraded) for b in bodies] == [("openvino-f32", True)] * 2
        assert bodies[1].verdict == "REJECT"
        wait_for(lambda: line.metric("edge_ad_degraded_parts_total") == 2)
        assert line.metric("edge_ad_state", state="DEGRADED") == 1
        status = line.control.request("status")
        assert (status["state"], status["engine"]) == ("DEGRADED", "openvino-f32")
        assert line.metric("edge_ad_parts_total", verdict="FAULT", reason="engine") == 3
    # The device was free when it was tried again.
    assert log == ["built", "closed", "built"]
    assert "openvino-f32 takes the place of torch-f32" in caplog.text
    assert "look at its power supply" in caplog.text


def test_an_engine_that_opens_again_is_used_again(state: Path) -> None:
    log: list[str] = []
    with Line(state, build=losing(0, log, build_inspector), options=options()) as line:
        line.feed(*(part_image(2000 + i) for i in range(3)))
        assert line.verdicts(3) == ["FAULT engine"] * 3
        wait_for(lambda: len(log) == 3 and not line.daemon._rebuilding)
        line.feed(part_image(2100))
        body = line.verdict()[1]
        assert (body.engine, body.degraded, body.reason) == ("torch-f32", False, "")
        assert line.daemon.state == "RUNNING"


def test_without_a_fallback_parts_stay_faults(state: Path) -> None:
    log: list[str] = []
    build = losing(0, log, lambda station: stand_in(whole(station), station, LOST))
    with Line(state, build=build, options=options(fallback=False)) as line:
        line.feed(*(part_image(2000 + i) for i in range(3)))
        assert line.verdicts(3) == ["FAULT engine"] * 3
        wait_for(lambda: len(log) == 3 and not line.daemon._rebuilding)
        line.feed(part_image(2100))
        assert line.verdicts(1) == ["FAULT engine"]
        assert line.daemon.state == "RUNNING"


def test_what_does_not_allow_a_fallback_is_named(calibrated: Station) -> None:
    bundle = open_bundle(active_bundle(calibrated))
    engine = msgspec.structs.replace(calibrated.engine, fallback=False)
    with pytest.raises(DeviceError, match=r"power supply; engine\.fallback = false"):
        stand_in(bundle, msgspec.structs.replace(calibrated, engine=engine), LOST)
    with pytest.raises(DeviceError, match=r"99 % of parts take up to \d+ ms, deadline_ms is 0.001"):
        stand_in(bundle, msgspec.structs.replace(calibrated, deadline_ms=0.001), LOST)
    engines = {key: one for key, one in bundle.manifest.engines.items() if key == "torch-f32"}
    manifest = msgspec.structs.replace(bundle.manifest, engines=engines)
    alone = type(bundle)(bundle.path, manifest, bundle.sha256, bundle.tensors)
    with pytest.raises(DeviceError, match=r"no section 'openvino-f32'.*calibrate --refit"):
        stand_in(alone, calibrated, LOST)
    own = msgspec.structs.replace(calibrated.engine, kind="openvino")
    with pytest.raises(DeviceError) as caught:
        stand_in(bundle, msgspec.structs.replace(calibrated, engine=own), LOST)
    assert caught.value is LOST


class Watched:
    """An engine that keeps the pictures it is shown."""

    def __init__(self, engine: ScoreEngine) -> None:
        self._engine = engine
        self.identity, self.input = engine.identity, engine.input
        self.seen: list[bytes] = []

    @property
    def cells(self) -> NDArray[np.float32] | None:
        return self._engine.cells

    @property
    def local(self) -> NDArray[np.float32] | None:
        return self._engine.local

    def infer(self) -> NDArray[np.float32]:
        self.seen.append(self.input.tobytes())
        return self._engine.infer()

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def reference(calibrated: Station) -> Iterator[Inspector]:
    """The CPU engine's inspector; its camera's frames may have any size."""
    bundle = whole(calibrated)
    assert bundle.manifest.preprocess.cameras["top"].frame_size == "any"
    inspector = open_inspector(bundle, EngineChoice(threads=1))
    yield inspector
    inspector.close()


def test_what_it_takes_is_measured_on_the_bundles_parts(reference: Inspector) -> None:
    files = reference.bundle.section("openvino-f32").reference_scores
    shown = []
    for file in files:
        reference.inspect_part(reference_images(reference.bundle, file))
        shown.append(reference.engine.input.tobytes())
    reference.engine = watched = Watched(reference.engine)
    assert 0.01 < slowest_ms(reference) < 1000
    assert len(files) == 8
    assert set(shown) <= set(watched.seen)
    assert watched.seen[-16:-8] == watched.seen[-8:]  # in turn


def test_what_it_takes_is_measured_from_frame_to_verdict(
    reference: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(owner: Any, name: str) -> None:
        fast = getattr(owner, name)

        def slow(*arguments: Any) -> Any:
            time.sleep(0.02)
            return fast(*arguments)

        monkeypatch.setattr(owner, name, slow)

    slower(reference._locator, "straighten")
    slower(reference._part, "fill")
    slower(reference, "_judge")
    monkeypatch.setattr("edge_ad.daemon.fallback.MOST_SECONDS", 0.0)
    assert slowest_ms(reference) > 60


def test_without_the_bundles_parts_nothing_is_promised(calibrated: Station) -> None:
    bundle = whole(calibrated)
    bare = {
        key: msgspec.structs.replace(section, reference_scores={})
        for key, section in bundle.manifest.engines.items()
    }
    manifest = msgspec.structs.replace(bundle.manifest, engines=bare)
    bundle = type(bundle)(bundle.path, manifest, bundle.sha256, bundle.tensors)
    with pytest.raises(ArtifactError, match=r"no reference frames to measure on.*calibrate --refit"):
        stand_in(bundle, calibrated, LOST)
