"""The daemon in this process: every part has one verdict, and PASS only with proof."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq
from daemon_line import BLACK, LOST, Line, good, wait_for
from numpy.typing import NDArray
from tiny_bundle import HEIGHT, WIDTH, make_bundle

from edge_ad.backbone.engine import ScoreEngine
from edge_ad.bundle import open_bundle
from edge_ad.config import Station
from edge_ad.daemon.collecting import Collector
from edge_ad.daemon.loading import build_inspector
from edge_ad.daemon.publishing import Journal
from edge_ad.delivery import wire
from edge_ad.delivery.scores import ScoreSubscriber
from edge_ad.delivery.wire import VERSION
from edge_ad.errors import ArtifactError, ConfigError, DeliveryError, DeviceError
from edge_ad.frame import Frame, Image
from edge_ad.inspector import Inspector
from edge_ad.verdict import Verdict


class Wrapped:
    """An engine around the real one whose result or timing is bent by `bend`."""

    def __init__(self, engine: ScoreEngine, bend: Callable[[NDArray[np.float32]], NDArray[np.float32]]):
        self.identity = engine.identity
        self.input = engine.input
        self.cells = self.local = None  # a bundle of profile "paper"
        self._engine = engine
        self._bend = bend

    def infer(self) -> NDArray[np.float32]:
        return self._bend(self._engine.infer())

    def close(self) -> None:
        self._engine.close()


def bent(bend: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Callable[[Station], Any]:
    """A `build` whose engine is wrapped."""

    def build(station: Station) -> Inspector:
        inspector = build_inspector(station)
        assert isinstance(inspector, Inspector)
        return Inspector(inspector.bundle, Wrapped(inspector.engine, bend))

    return build


def test_every_part_is_judged_and_named_in_full(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "s", product="valve")
    journal = tmp_path / "verdicts.jsonl"
    with Line(tmp_path / "s", options={"product": "valve"}, journal=journal) as line:
        rejects = ScoreSubscriber(line.daemon.channels.scores.endpoint, ["rejects"])
        rejects.sync(line.control)
        line.feed(good(0), BLACK, good(1))
        seen = [line.verdict() for _ in range(3)]
        message = rejects.receive(5)
        rejects.close()
        assert [b.verdict for _, b in seen] == ["PASS", "REJECT", "PASS"]
        header, body = seen[1]
        assert message == ("rejects", header, body)
        assert (header.v, header.station, header.product) == (VERSION, "line1", "valve")
        assert [h.seq for h, _ in seen] == [1, 2, 3]
        assert [h.part for h, _ in seen] == ["P0", "P1", "P2"]
        assert header.bundle == open_bundle(path).sha256
        assert header.epoch == line.daemon.epoch
        assert body.score is not None
        assert body.threshold is not None
        assert body.score > body.threshold
        assert body.distances is not None
        assert sum(body.distances[0]) == pytest.approx(body.score)
        assert [b.rejects for _, b in seen] == [0, 1, 1]
        wait_for(lambda: line.metric("edge_ad_part_seconds_count") == 3)
        assert line.metric("edge_ad_parts_total", verdict="PASS", reason="none") == 2
        assert line.metric("edge_ad_parts_total", verdict="REJECT", reason="score") == 1
        assert line.metric("edge_ad_parts_total", verdict="FAULT", reason="late") == 0
        assert line.metric("edge_ad_score_ratio_bucket", le="1.0") == 2
        assert line.metric("edge_ad_part_seconds_bucket", le="0.5") == 3  # the deadline, exactly
        assert line.metric("edge_ad_frames_total", camera="top") == 3
        assert line.metric("edge_ad_camera_up", camera="top") == 1
        assert line.metric("edge_ad_state", state="RUNNING") == 1
        status = line.control.request("status")
        assert (status["state"], status["parts"], status["rejects"]) == ("RUNNING", 3, 1)
        assert status["cameras"]["top"]["size"] == [WIDTH, HEIGHT, 1]
    assert line.code == 0
    lines = [wire.read_journal_line(text) for text in journal.read_bytes().splitlines()]
    assert lines == seen


def test_without_a_bundle_nothing_passes(tmp_path: Path) -> None:
    with Line(tmp_path) as line:
        line.feed(good(0), good(1))
        assert line.verdicts(2) == ["FAULT uncalibrated"] * 2
        assert line.control.request("status")["state"] == "LEARNING"
        assert line.metric("edge_ad_state", state="LEARNING") == 1


def test_verdict_after_the_deadline_is_late_and_never_pass(tmp_path: Path) -> None:
    make_bundle(tmp_path)

    def slow(distances: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(0.12)
        return distances

    with Line(tmp_path, options={"deadline_ms": 100.0}, build=bent(slow)) as line:
        line.feed(good(0), BLACK)
        assert line.verdicts(2) == ["FAULT late"] * 2
        assert line.metric("edge_ad_part_seconds_bucket", le="0.1") == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_distance_that_is_not_finite_is_fault(tmp_path: Path, value: float) -> None:
    make_bundle(tmp_path)

    def poison(distances: NDArray[np.float32]) -> NDArray[np.float32]:
        distances[0, 2] = value
        return distances

    with Line(tmp_path, build=bent(poison)) as line:
        line.feed(good(0))
        _header, body = line.verdict()
        assert (body.verdict, body.reason, body.score) == ("FAULT", "not_finite", None)


def test_failing_engine_is_fault_and_built_anew(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    built: list[int] = []

    def build(station: Station) -> Any:
        built.append(1)
        if len(built) > 1:
            return build_inspector(station)

        def fail(distances: NDArray[np.float32]) -> NDArray[np.float32]:
            raise DeviceError("engine: out of memory")

        return bent(fail)(station)

    with Line(tmp_path, build=build) as line:
        line.feed(good(0), good(1), good(2))
        faults = [line.verdict()[1] for _ in range(3)]
        assert {(b.verdict, b.reason, b.detail) for b in faults} == {
            ("FAULT", "engine", "engine: out of memory")
        }
        wait_for(lambda: len(built) == 2 and not line.daemon.changes.rebuilding)
        line.feed(good(3))
        assert line.verdicts(1) == ["PASS"]


@pytest.mark.parametrize(
    ("image", "verdict"),
    [
        (np.zeros((HEIGHT, WIDTH + 1), np.uint8), "FAULT frame_size"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), "FAULT pixel_format"),
        (np.zeros((HEIGHT, WIDTH), np.uint16), "FAULT pixel_format"),
        (Frame("top", 0, None, 0, 0, "bad", "unreadable", "zero bytes"), "FAULT unreadable"),
    ],
    ids=["size", "channels", "depth", "unreadable"],
)
def test_picture_that_does_not_fit_the_bundle_is_fault(tmp_path: Path, image: Any, verdict: str) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path) as line:
        line.feed(image, good(0))
        assert line.verdicts(2) == [verdict, "PASS"]


def test_other_pixel_rule_than_the_bundles_is_fault(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path) as line:
        line.feed(good(0))
        assert line.verdicts(1) == ["PASS"]
        line.opened[-1].pixel_rule_name = "mono12>>4"
        line.feed(LOST, good(1))
        _header, body = line.verdict()
        assert body.reason == "pixel_format"
        assert "'mono12>>4'" in body.detail
        assert "'auto8'" in body.detail


def test_two_cameras_worst_view_missing_view_and_back_in_step(tmp_path: Path) -> None:
    make_bundle(tmp_path, cameras=("a", "b"))
    with Line(tmp_path, cameras=("a", "b"), live=True, options={"join_ms": 60.0}) as line:
        line.feed(good(0), camera="a")
        line.feed(BLACK, camera="b")
        body = line.verdict()[1]
        assert (body.verdict, body.view) == ("REJECT", "b")
        line.feed(good(1), camera="b")
        assert line.verdicts(1) == ["FAULT missing_view"]
        time.sleep(0.1)
        for index in (2, 3):
            line.feed(good(index), camera="a")
            line.feed(good(index), camera="b")
            assert line.verdicts(1) == ["PASS"]
            time.sleep(0.1)


def test_lost_camera_is_a_state_and_the_daemon_goes_on(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path) as line:
        line.feed(LOST)
        wait_for(lambda: line.control.request("status")["cameras"]["top"]["state"] == "lost")
        assert line.metric("edge_ad_camera_up", camera="top") == 0
        line.feed(good(0))
        assert line.verdicts(1) == ["PASS"]
        assert line.metric("edge_ad_camera_up", camera="top") == 1
        assert line.metric("edge_ad_camera_reconnects_total", camera="top") == 1


def test_collecting_keeps_frames_losslessly_and_never_passes(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s") as line:
        line.control.request("collect", parts=3, directory=str(tmp_path / "kept"))
        assert line.control.request("status")["state"] == "COLLECTING"
        with pytest.raises(DeliveryError, match="collection is running"):
            line.control.request("collect", parts=3, directory=str(tmp_path / "other"))
        unreadable = Frame("top", 0, None, 0, 0, "bad", "unreadable", "zero bytes")
        line.feed(good(0), unreadable, good(1), good(2), good(3))
        assert line.verdicts(5) == [
            "FAULT calibrating",
            "FAULT unreadable",
            "FAULT calibrating",
            "FAULT calibrating",
            "PASS",
        ]
        wait_for(lambda: line.control.request("status")["collect"]["done"])
        progress = line.control.request("status")["collect"]
        assert (progress["collected"], progress["wanted"], progress["error"]) == (3, 3, "")
        assert progress["rate"] > 0
        assert line.control.request("status")["state"] == "RUNNING"
    files = sorted((tmp_path / "kept").iterdir())
    assert [f.name for f in files] == ["000000.png", "000001.png", "000002.png"]
    for index, file in enumerate(files):
        assert np.array_equal(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), good(index))


def test_collecting_from_two_cameras_without_a_bundle_and_cancel(tmp_path: Path) -> None:
    with Line(tmp_path / "s", cameras=("a", "b")) as line:
        line.control.request("collect", parts=100, directory=str(tmp_path / "kept"))
        line.feed(good(0), camera="a")
        line.feed(good(1), camera="b")
        assert line.verdicts(1) == ["FAULT calibrating"]
        line.control.request("collect_cancel")
        wait_for(lambda: line.control.request("status")["collect"]["done"])
        assert line.control.request("status")["state"] == "LEARNING"
        line.control.request("collect", parts=1, directory=str(tmp_path / "again"))
    names = sorted(str(f.relative_to(tmp_path / "kept")) for f in (tmp_path / "kept").rglob("*.png"))
    assert names == ["a/000000.png", "b/000000.png"]


def test_collecting_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Line(tmp_path / "s") as line:
        with pytest.raises(DeliveryError, match="cannot be made"):
            line.control.request("collect", parts=1, directory=str(tmp_path / "file" / "x"))
        with pytest.raises(DeliveryError, match="relative"):
            line.control.request("collect", parts=1, directory="x")
        with pytest.raises(DeliveryError, match="parts >= 1"):
            line.control.request("collect", parts=0, directory=str(tmp_path))
        assert line.control.request("status")["state"] == "LEARNING"


def test_disk_that_fails_ends_the_collection_and_says_why(tmp_path: Path) -> None:
    make_bundle(tmp_path / "s")
    with Line(tmp_path / "s") as line:
        line.control.request("collect", parts=3, directory=str(tmp_path / "kept"))
        (tmp_path / "kept").rmdir()
        line.feed(good(0))
        assert line.verdicts(1) == ["FAULT calibrating"]
        wait_for(lambda: line.control.request("status")["collect"]["done"])
        progress = line.control.request("status")["collect"]
        assert progress["collected"] == 0
        assert "cannot write a frame" in progress["error"]
        line.feed(good(1))
        assert line.verdicts(1) == ["PASS"]


def test_full_backlog_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    options = {"scores": {"endpoint": "tcp://127.0.0.1:0", "backlog": 16}}
    with Line(tmp_path, options=options) as line:
        release = line.daemon.channels.publisher._journal = Stuck()
        line.feed(BLACK)
        assert line.verdict()[0].seq == 1  # sent, and now the publisher is stuck in the journal
        line.feed(*[BLACK] * 39)
        wait_for(
            lambda: line.daemon.channels.publisher.dropped == 39 - 16
        )  # the inspection did not wait
        assert line.metric("edge_ad_publish_dropped_total") == 23
        release.go = True
        assert [line.verdict()[0].seq for _ in range(16)] == list(range(25, 41))


class Stuck:
    """A journal whose disk does not answer until `go`."""

    go = False

    def write(self, line: bytes) -> None:
        while not self.go:
            time.sleep(0.005)

    def close(self) -> None:
        pass


def test_journal_on_a_full_disk_is_counted_and_the_line_goes_on(tmp_path: Path) -> None:
    with Line(tmp_path, journal=Path("/dev/full")) as line:
        line.feed(BLACK, BLACK)
        assert line.verdicts(2) == ["FAULT uncalibrated"] * 2
        wait_for(lambda: line.metric("edge_ad_journal_errors_total") == 2)


def test_engine_that_never_returns_is_left_behind_and_its_parts_are_answered(tmp_path: Path) -> None:
    make_bundle(tmp_path)

    def hang(distances: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(3600)
        return distances

    line = Line(tmp_path, build=bent(hang), drain_s=0.1)
    with line:
        line.feed(good(0), good(1), good(2))
        wait_for(lambda: line.daemon.feeds[0].frames == 3)
        line.daemon.stop()
        assert line.verdicts(3) == ["FAULT stopped"] * 3
    assert line.code == 5


def test_message_that_cannot_be_sent_is_counted_and_the_others_go_out(tmp_path: Path) -> None:
    with Line(tmp_path) as line:
        send, failures = line.daemon.channels.scores.send, [zmq.ZMQError(zmq.EAGAIN)]

        def fail_first(header: bytes, body: bytes, rejected: bool, product: str) -> None:
            if failures:
                raise failures.pop()
            send(header, body, rejected, product)

        line.daemon.channels.scores.send = fail_first  # type: ignore[method-assign]
        line.feed(BLACK, BLACK)
        assert line.verdict()[0].seq == 2
        assert line.metric("edge_ad_publish_dropped_total") == 1


def test_line_that_a_full_disk_cut_off_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "verdicts.jsonl")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.write(b'{"one": 1}\n')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.write(b'{"two": 2}\n')
    journal.close()
    assert journal.path.read_bytes().splitlines() == [b'{"one": ', b'{"two": 2}']


def test_line_that_the_daemons_end_cut_off_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes(b'{"one": ')
    for line in (b'{"two": 2}\n', b'{"three": 3}\n'):
        journal = Journal(path)
        journal.write(line)
        journal.close()
    assert path.read_bytes().splitlines() == [b'{"one": ', b'{"two": 2}', b'{"three": 3}']


def test_collection_whose_thread_fails_ends_and_says_why(tmp_path: Path) -> None:
    collector = Collector(tmp_path, 5, ["a", "b"], time.monotonic_ns)
    collector.offer([Frame("a", 0, BLACK, 0, 0)])  # one picture of two
    collector.join(5)
    assert collector.done
    assert not collector.active
    assert "cannot write a frame" in collector.error


def test_orders_that_come_while_the_daemon_drains_do_not_upset_its_end(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    draining = threading.Event()

    def fail(distances: NDArray[np.float32]) -> NDArray[np.float32]:
        draining.wait(10)
        raise RuntimeError("device lost")

    with Line(tmp_path, build=bent(fail)) as line:
        line.feed(*[good(i) for i in range(4)])
        wait_for(lambda: line.daemon.feeds[0].frames == 4)
        line.daemon.stop()
        wait_for(lambda: line.daemon.state == "STOPPING")
        draining.set()  # three failures ask for a rebuild
        line.daemon.request_reload()
        assert line.verdicts(4) == ["FAULT engine"] * 4
    assert line.code == 0


class Station2:
    """A station file on disk, for reloads."""

    def __init__(self, root: Path) -> None:
        self.path = root / "line.toml"
        self.write("default")

    def write(self, product: str, extra: str = "") -> None:
        self.path.write_text(
            f'schema = 1\nstation = "line1"\nproduct = "{product}"\n{extra}\n'
            '[[camera]]\nname = "top"\nuri = "fake://"\n'
            '[scores]\nendpoint = "tcp://127.0.0.1:0"\n[metrics]\nport = 0\n'
        )


@pytest.fixture
def file(tmp_path: Path) -> Station2:
    return Station2(tmp_path)


def reloadable(file: Station2, **options: Any) -> Line:
    from edge_ad.config import load_station

    line = Line(file.path.parent / "state", **options)
    station = load_station(file.path)
    daemon = type(line.daemon)(
        station, make_source=lambda c, b: line.opened.append(_source(line)) or line.opened[-1]
    )
    line.station, line.daemon = station, daemon
    return line


def _source(line: Line) -> Any:
    from daemon_line import ScriptedSource

    return ScriptedSource("top", line.scripts["top"], live=False)


def test_reload_takes_the_new_bundle_between_two_parts_and_loses_none(file: Station2) -> None:
    state = file.path.parent / "state"
    first = open_bundle(make_bundle(state, name="b1")).sha256
    with reloadable(file) as line:
        line.feed(*[good(i) for i in range(20)])
        second = open_bundle(make_bundle(state, name="b2", parts=50)).sha256
        line.feed(*[good(i) for i in range(20, 40)])
        reply = line.control.request("reload", timeout_s=30)
        assert reply["bundle"] == second
        line.feed(*[good(i) for i in range(40, 60)])
        headers = [line.verdict()[0] for _ in range(60)]
        assert [h.part for h in headers] == [f"P{i}" for i in range(60)]
        bundles = [h.bundle for h in headers]
        swap = bundles.index(second)
        assert set(bundles[:swap]) == {first}
        assert set(bundles[swap:]) == {second}
        assert swap <= 40
        labels = {"product": "default", "bundle": "b2", "sha256": second, "backbone": "tiny"}
        assert line.metric("edge_ad_bundle_info", engine="openvino-f32", **labels) == 1


def test_reload_of_another_product_without_a_bundle_is_learning_again(file: Station2) -> None:
    make_bundle(file.path.parent / "state")
    with reloadable(file) as line:
        file.write("gasket")
        assert line.control.request("reload", timeout_s=30)["state"] == "LEARNING"
        line.feed(good(0))
        header, body = line.verdict()
        assert (header.product, header.bundle, body.reason) == ("gasket", "", "uncalibrated")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("deadline_ms = -1", "deadline_ms"),
        ("deadline_ms = 100", "deadline_ms changed, which needs a restart"),
        ("[[view]]\nname = 'v'\ncamera = 'top'\n", "was made for views"),
        ("nonsense", "not valid TOML"),
    ],
    ids=["invalid", "fixed", "other views", "syntax"],
)
def test_bad_configuration_keeps_the_old_one_and_says_why(
    file: Station2, extra: str, words: str
) -> None:
    make_bundle(file.path.parent / "state")
    with reloadable(file) as line:
        file.write("default", extra)
        with pytest.raises(DeliveryError, match=words):
            line.control.request("reload", timeout_s=30)
        assert line.metric("edge_ad_reload_failures_total") == 1
        line.feed(good(0))
        assert line.verdicts(1) == ["PASS"]


def test_damaged_bundle_keeps_the_old_one_and_says_why(
    file: Station2, caplog: pytest.LogCaptureFixture
) -> None:
    state = file.path.parent / "state"
    make_bundle(state, name="b1")
    with reloadable(file) as line:
        path = make_bundle(state, name="b2")
        target = path / "gaussian.safetensors"
        target.chmod(0o644)
        data = bytearray(target.read_bytes())
        data[-5] ^= 1
        target.write_bytes(data)
        with pytest.raises(DeliveryError, match=r"b2: gaussian\.safetensors has sha256"):
            line.control.request("reload", timeout_s=30)
        line.feed(good(0))
        assert line.verdicts(1) == ["PASS"]
        wait_for(lambda: "reload refused" in caplog.text)


def test_damaged_bundle_at_the_start_is_refused(tmp_path: Path) -> None:
    path = make_bundle(tmp_path)
    (path / "extra").write_text("")
    line = Line(tmp_path)
    with pytest.raises(ArtifactError, match="extra is not in the manifest"):
        line.daemon.start()


def test_bundle_of_other_cameras_is_refused(tmp_path: Path) -> None:
    make_bundle(tmp_path, cameras=("a", "b"))
    with pytest.raises(ArtifactError, match=r"cameras \['a', 'b'\].*\['top'\]"):
        Line(tmp_path).daemon.start()


def test_ports_in_use_and_a_second_daemon_are_refused_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = {"metrics": {"port": port}}
        with pytest.raises(DeliveryError, match=rf"metrics\.port: 127\.0\.0\.1:{port} .*in use"):
            Line(tmp_path, options=busy).daemon.start()
    with Line(tmp_path):
        with pytest.raises(DeliveryError, match="running daemon with pid") as caught:
            Line(tmp_path).daemon.start()
        assert "\n" not in str(caught.value)
    with Line(tmp_path):  # what a refused start had opened was closed again
        pass


def test_wrong_uri_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    from edge_ad.config import parse_station
    from edge_ad.daemon import Daemon

    camera = [{"name": "top", "uri": "ftp://x"}]
    with pytest.raises(ConfigError, match="ftp"):
        Daemon(
            parse_station({"schema": 1, "station": "l", "state_dir": str(tmp_path), "camera": camera})
        )


def test_unknown_command_is_refused(tmp_path: Path) -> None:
    with Line(tmp_path) as line, pytest.raises(DeliveryError, match="unknown command 'dance'"):
        line.control.request("dance")


def test_wrapper_around_the_inspector_may_stand_in(tmp_path: Path) -> None:
    """As `bench` does to time the bare engine between parts."""
    make_bundle(tmp_path)

    class Counting:
        def __init__(self, inner: Inspector) -> None:
            self._inner = inner
            self.calls = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def inspect_part(self, images: Sequence[Image]) -> Verdict:
            self.calls += 1
            return self._inner.inspect_part(images)

    made: list[Counting] = []

    def build(station: Station) -> Any:
        inner = build_inspector(station)
        assert isinstance(inner, Inspector)
        made.append(Counting(inner))
        return made[-1]

    with Line(tmp_path, build=build) as line:
        line.feed(good(0), good(1))
        assert line.verdicts(2) == ["PASS", "PASS"]
        assert made[0].calls == 2


def test_scrape_over_http_holds_every_metric(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path) as line:
        url = line.control.request("status")["metrics"]
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        for name in (
            'edge_ad_parts_total{reason="stopped",verdict="FAULT"} 0.0',
            'edge_ad_stage_seconds_bucket{le="0.0125",stage="preprocess"} 0.0',
            'edge_ad_promised_false_reject_ratio{kind="expected"}',
            'edge_ad_promised_false_reject_ratio{kind="confident"}',
            'edge_ad_camera_frame_age_seconds{camera="top"}',
            'edge_ad_camera_last_frame_timestamp_seconds{camera="top"}',
            'edge_ad_frames_skipped_total{camera="top"} 0.0',
            "edge_ad_publish_dropped_total 0.0",
            "edge_ad_reload_failures_total 0.0",
            'edge_ad_state{state="RUNNING"} 1.0',
            "edge_ad_build_info{",
            "edge_ad_bundle_info{",
        ):
            assert name in text, name
        assert json.dumps("_created") not in text
