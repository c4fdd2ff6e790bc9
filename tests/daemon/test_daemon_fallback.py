"""An engine that fails is opened anew, then replaced by the CPU engine that the bundle holds, loudly."""

from __future__ import annotations

import logging
import shutil
import threading
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
from edge_ad.frame import Frame
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


class Wrapped:
    """An engine that stands before another one."""

    def __init__(self, engine: ScoreEngine) -> None:
        self._engine = engine
        self.identity, self.input = engine.identity, engine.input

    @property
    def cells(self) -> NDArray[np.float32] | None:
        return self._engine.cells

    @property
    def local(self) -> NDArray[np.float32] | None:
        return self._engine.local

    def infer(self) -> NDArray[np.float32]:
        return self._engine.infer()

    def close(self) -> None:
        self._engine.close()


class Lost(Wrapped):
    """Its device goes away after some parts; `log` gets what is done with it."""

    def __init__(self, engine: ScoreEngine, parts: int, log: list[str]) -> None:
        super().__init__(engine)
        self._left, self._log = parts, log

    def infer(self) -> NDArray[np.float32]:
        if self._left == 0:
            raise LOST
        self._left -= 1
        return super().infer()

    def close(self) -> None:
        self._log.append("closed")
        super().close()


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


def test_a_start_without_a_gpu_is_degraded_and_says_so(
    state: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with caplog.at_level(logging.ERROR), Line(state, options=options(device="cuda")) as line:
        assert line.daemon.state == "DEGRADED"
        assert line.control.request("status")["engine"] == "openvino-f32"
        assert line.metric("edge_ad_state", state="DEGRADED") == 1
        line.feed(part_image(2000))
        assert line.verdict()[1].degraded
    assert "openvino-f32 takes the place of torch-f32" in caplog.text


def test_only_parts_that_the_stand_in_was_asked_about_count_as_degraded(
    state: Path,
) -> None:
    log: list[str] = []
    build = losing(0, log, lambda station: stand_in(whole(station), station, LOST))
    with Line(state, build=build, options=options()) as line:
        line.feed(*(part_image(2000 + i) for i in range(3)))
        assert line.verdicts(3) == ["FAULT engine"] * 3
        wait_for(lambda: line.daemon.state == "DEGRADED")
        inspector = line.daemon.loop.active.inspector
        assert isinstance(inspector, Inspector)
        unreadable = Frame("top", 9, None, time.monotonic_ns(), 0, "P9", fault="unreadable")
        line.feed(unreadable, part_image(2001))
        assert line.verdicts(2) == ["FAULT unreadable", "PASS"]
        inspector.engine = Lost(inspector.engine, 0, log)
        line.feed(unreadable, part_image(2002))
        bodies = [line.verdict()[1] for _ in range(2)]
        assert [(b.reason, b.degraded) for b in bodies] == [("unreadable", True), ("engine", True)]
        # The good one, and the one at which it failed.
        wait_for(lambda: line.metric("edge_ad_parts_total", verdict="FAULT", reason="engine") == 4)
        assert line.metric("edge_ad_degraded_parts_total") == 2


def test_an_engine_that_opens_again_is_used_again(state: Path) -> None:
    log: list[str] = []
    with Line(state, build=losing(0, log, build_inspector), options=options()) as line:
        line.feed(*(part_image(2000 + i) for i in range(3)))
        assert line.verdicts(3) == ["FAULT engine"] * 3
        wait_for(lambda: len(log) == 3 and not line.daemon.changes.rebuilding)
        line.feed(part_image(2100))
        body = line.verdict()[1]
        assert (body.engine, body.degraded, body.reason) == ("torch-f32", False, "")
        assert line.daemon.state == "RUNNING"


def test_without_a_fallback_parts_stay_faults(state: Path) -> None:
    log: list[str] = []
    build = losing(0, log, lambda station: stand_in(whole(station), station, LOST))
    own = options(fallback=False)
    with Line(state, build=build, options=own, backoff_s=(60.0, 60.0)) as line:
        line.feed(*(part_image(2000 + i) for i in range(3)))
        assert line.verdicts(3) == ["FAULT engine"] * 3
        wait_for(lambda: len(log) == 3 and not line.daemon.changes.rebuilding)
        line.feed(*(part_image(2100 + i) for i in range(7)))
        bodies = [line.verdict()[1] for _ in range(7)]
        assert {body.reason for body in bodies} == {"engine"}
        assert {body.detail for body in bodies} == {f"3 engine failures in a row, the last: {LOST}"}
        assert line.daemon.state == "FAILED"
        assert line.metric("edge_ad_state", state="FAILED") == 1
        assert len(log) == 3


def test_it_is_tried_again_after_pauses_that_grow(state: Path) -> None:
    log: list[str] = []
    tried: list[float] = []

    def then(station: Station) -> Any:
        tried.append(time.monotonic())
        if len(tried) < 4:
            raise DeviceError("no GPU")
        return build_inspector(station)

    build = losing(0, log, then)
    with Line(state, build=build, options=options(), backoff_s=(0.1, 0.2)) as line:
        line.feed(*(part_image(2000 + i) for i in range(3)))
        assert line.verdicts(3) == ["FAULT engine"] * 3
        wait_for(lambda: line.daemon.state == "FAILED")
        wait_for(lambda: line.daemon.state == "RUNNING")
        line.feed(part_image(2100))
        assert line.verdict()[1].reason == ""
        assert line.metric("edge_ad_reload_failures_total") == 3
    first, second, third = np.diff(tried)
    assert first >= 0.1
    assert second >= 0.2
    assert third >= 0.2
    assert len(tried) == 4


def test_a_file_of_the_engine_that_is_gone_does_not_stop_the_line(state: Path) -> None:
    def then(station: Station) -> Any:
        raise ArtifactError("engine.plan: damaged; build it anew")

    with Line(state, build=losing(0, [], then), options=options()) as line:
        line.feed(*(part_image(2000 + i) for i in range(3)))
        assert line.verdicts(3) == ["FAULT engine"] * 3
        wait_for(lambda: line.daemon.state == "DEGRADED")
        line.feed(part_image(2100))
        assert line.verdict()[1].engine == "openvino-f32"


@pytest.mark.parametrize("reload_first", [True, False])
def test_what_judges_after_a_reload_is_not_built_again(state: Path, reload_first: bool) -> None:
    log: list[str] = []
    release = threading.Event()

    def then(station: Station) -> Any:
        if log.count("built") == 2:
            release.wait(20)
            if not reload_first:
                raise DeviceError("no GPU")
        return build_inspector(station)

    build = losing(0, log, then)
    with Line(state, build=build, options=options(), backoff_s=(60.0, 60.0)) as line:
        daemon = line.daemon
        daemon.changes._read_again = lambda: (daemon.station, "disc")  # type: ignore[method-assign]
        daemon.station = msgspec.structs.replace(daemon.station, path="line.toml")
        outcome = daemon.reload() if reload_first else None
        line.feed(*(part_image(2000 + i) for i in range(5)))  # and ask for another engine
        assert line.verdicts(5) == ["FAULT engine"] * 5
        wait_for(lambda: daemon.changes.rebuilding)
        outcome = outcome or daemon.reload()  # queued behind it
        release.set()
        outcome.result(20)
        wait_for(lambda: not daemon.changes.rebuilding)
        line.feed(*(part_image(2100 + i) for i in range(5)))
        assert [line.verdict()[1].reason for _ in range(5)] == [""] * 5
    assert log.count("built") == (2 if reload_first else 3)


def test_what_is_opened_too_late_is_closed(state: Path) -> None:
    log: list[str] = []
    release = threading.Event()

    def then(station: Station) -> Any:
        release.wait(20)
        inspector = build_inspector(station)
        assert isinstance(inspector, Inspector)
        inspector.engine = Lost(inspector.engine, 0, log)
        return inspector

    with Line(state, build=losing(0, log, then), options=options()) as line:
        line.feed(*(part_image(2000 + i) for i in range(3)))
        wait_for(lambda: log == ["built", "closed", "built"])
    release.set()
    wait_for(lambda: log == ["built", "closed", "built", "closed"])


def test_what_does_not_allow_a_fallback_is_named(calibrated: Station) -> None:
    bundle = open_bundle(active_bundle(calibrated))
    engine = msgspec.structs.replace(calibrated.engine, fallback=False)
    with pytest.raises(DeviceError, match=r"power supply; engine\.fallback = false"):
        stand_in(bundle, msgspec.structs.replace(calibrated, engine=engine), LOST)
    with pytest.raises(DeviceError, match=r"99 % of parts take up to \d+ ms, deadline_ms is 0.001"):
        stand_in(bundle, msgspec.structs.replace(calibrated, deadline_ms=0.001), LOST)
    damaged = type(bundle)(bundle.path, bundle.manifest, bundle.sha256, bundle.tensors, Path("/nowhere"))
    with pytest.raises(
        DeviceError, match=r"power supply; openvino-f32 cannot take its place: .*nowhere"
    ):
        stand_in(damaged, calibrated, LOST)
    engines = {key: one for key, one in bundle.manifest.engines.items() if key == "torch-f32"}
    manifest = msgspec.structs.replace(bundle.manifest, engines=engines)
    alone = type(bundle)(bundle.path, manifest, bundle.sha256, bundle.tensors)
    with pytest.raises(DeviceError, match=r"no section 'openvino-f32'.*calibrate --refit"):
        stand_in(alone, calibrated, LOST)
    own = msgspec.structs.replace(calibrated.engine, kind="openvino")
    with pytest.raises(DeviceError) as caught:
        stand_in(bundle, msgspec.structs.replace(calibrated, engine=own), LOST)
    assert caught.value is LOST


class Watched(Wrapped):
    """Keeps the pictures it is shown."""

    def __init__(self, engine: ScoreEngine) -> None:
        super().__init__(engine)
        self.seen: list[bytes] = []

    def infer(self) -> NDArray[np.float32]:
        self.seen.append(self.input.tobytes())
        return super().infer()


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
    with pytest.raises(DeviceError, match=r"supply; .*no reference frames to measure on"):
        stand_in(bundle, calibrated, LOST)
