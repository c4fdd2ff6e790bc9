"""Triggers and the daemon: every accepted one has one verdict, whatever cameras, queue and engine do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from daemon_line import BLACK, LOST, Line, ScriptedSource, good, wait_for
from tiny_bundle import make_bundle

from edge_ad import failpoints
from edge_ad.bundle import open_bundle
from edge_ad.config import Camera, Station
from edge_ad.daemon.loading import build_inspector
from edge_ad.delivery.trigger import TriggerClient, TriggerRequest
from edge_ad.errors import DeliveryError
from edge_ad.frame import Frame

SLOW = 60_000.0  # ms: nothing is late for a machine that is busy


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    failpoints.activate(())


def message(
    state: Path, *, asked: bool = True, trigger: dict[str, Any] | None = None, **rest: Any
) -> Line:
    options = {
        "deadline_ms": SLOW,
        "trigger": {"kind": "message", "frame_ms": 10_000.0, **(trigger or {})},
        **rest.pop("options", {}),
    }
    return Line(state, asked=asked, options=options, **rest)


class Patient(ScriptedSource):
    """A camera that the line triggers."""

    patient = True


def client(line: Line) -> TriggerClient:
    return TriggerClient(line.station.trigger_endpoint, 20.0)


def test_announced_part_is_judged_under_its_key_and_named_in_full(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with message(tmp_path) as line, client(line) as trigger:
        line.feed(good(0), BLACK)
        reply = trigger.send("A1", encoder=4711)
        assert (reply.accepted, reply.count) == (True, 1)
        header, body = line.verdict()
        assert (header.part, body.verdict) == ("A1", "PASS")
        assert (header.trigger, header.count, header.encoder, header.advisory) == (
            "message",
            1,
            4711,
            False,
        )
        trigger.send("A2")
        header, body = line.verdict()
        assert (header.part, header.count, header.encoder, body.verdict) == ("A2", 2, None, "REJECT")
        assert line.metric("edge_ad_triggers_total", result="accepted") == 2
        assert line.control.request("status")["triggers"]["accepted"] == 2


def test_free_running_verdicts_are_advisory(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with Line(tmp_path) as line:
        line.feed(good(0))
        header, body = line.verdict()
        assert (header.trigger, header.advisory, body.verdict) == ("free", True, "PASS")
        with pytest.raises(DeliveryError, match=r"trigger\.kind is 'free'"):
            line.control.request("trigger")


def test_lost_camera_faults_parts_at_once_and_is_asked_again_when_it_is_back(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with message(tmp_path, trigger={"frame_ms": 500.0}) as line, client(line) as trigger:
        line.feed(LOST)
        trigger.send("A")
        header, body = line.verdict()
        assert (header.part, body.verdict, body.reason) == ("A", "FAULT", "no_frame")
        end = time.monotonic() + 20
        number = 0
        while body.verdict != "PASS":
            assert time.monotonic() < end
            number += 1
            trigger.send(f"B{number}")
            header, body = line.verdict()
            assert header.part == f"B{number}"


def test_camera_that_takes_nothing_is_no_frame_in_time(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with message(tmp_path, trigger={"frame_ms": 60.0}) as line, client(line) as trigger:
        line.scripts["top"].put(None)
        trigger.send("A")
        header, body = line.verdict()
        assert (header.part, body.reason) == ("A", "no_frame")
        assert "within 60 ms" in body.detail


def test_frames_of_a_camera_that_the_line_triggers_are_matched_by_time(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    limits = {"frame_ms": 1000.0, "early_ms": 500.0}
    with message(tmp_path, asked=False, live=True, trigger=limits) as line, client(line) as trigger:
        trigger.send("A")
        line.feed(good(0))
        header, body = line.verdict()
        assert (header.part, body.verdict) == ("A", "PASS")
        time.sleep(1.6)
        line.feed(BLACK)  # nobody announced it
        wait_for(lambda: (line.metric("edge_ad_frames_unmatched_total", camera="top") or 0) == 1)
        trigger.send("B")
        line.feed(good(1), good(1))  # one too many
        header, body = line.verdict()
        assert header.part == "B"
        wait_for(lambda: line.metric("edge_ad_frames_ambiguous_total") == 1)


def test_burst_is_answered_part_by_part_within_the_bound(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    failpoints.activate(["inspect.before=sleep:0.05"])
    with message(tmp_path, trigger={"queue": 4}) as line, client(line) as trigger:
        replies = {f"K{i}": trigger.send(f"K{i}") for i in range(60)}
        seen = [line.verdict() for _ in range(60)]
        assert [header.part for header, _ in seen] == list(replies)
        for header, body in seen:
            assert body.reason == replies[header.part].reason
            assert (body.verdict == "PASS") == replies[header.part].accepted
        counts = line.control.request("status")["triggers"]
        assert counts["overflow"] == sum(b.reason == "overflow" for _, b in seen) > 0
        assert counts["accepted"] + counts["overflow"] == 60
        assert line.scores.receive(0.2) is None


def test_slow_inspection_is_late_and_counted_and_a_hang_shows(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with message(tmp_path, trigger={"queue": 2}, options={"deadline_ms": 200.0}) as line:
        with client(line) as trigger:
            failpoints.activate(["inspect.before=sleep:3@1"])
            assert trigger.send("A").accepted
            wait_for(lambda: (line.metric("edge_ad_progress_age_seconds") or 0) > 0.5)
            status = line.control.request("status")
            assert status["progress_age_s"] > 0.4
            keys = [f"B{i}" for i in range(4)]
            reasons = [trigger.send(key).reason for key in keys]
            assert reasons == ["", "", "overflow", "overflow"]
            seen = [line.verdict() for _ in range(5)]
        assert [h.part for h, _ in seen] == ["A", *keys]
        assert [b.reason for _, b in seen] == ["late", "late", "late", "overflow", "overflow"]
        assert (line.metric("edge_ad_deadline_missed_total") or 0) >= 3
        wait_for(lambda: line.control.request("status")["progress"] > status["progress"] + 5)
        assert line.control.request("status")["progress_age_s"] < 1.4


def test_command_announces_no_name_that_a_message_could_not(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with message(tmp_path) as line:
        for names in ({"part": "K" * 129}, {"product": "P" * 65}):
            with pytest.raises(DeliveryError, match="is longer than"):
                line.control.request("trigger", **names)
        assert line.control.request("trigger", part="K" * 128)["accepted"]
        assert line.verdict()[0].part == "K" * 128


def test_key_that_comes_again_passes_neither(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    failpoints.activate(["inspect.before=sleep:2@1"])
    with message(tmp_path) as line, client(line) as trigger:
        assert trigger.send("A").accepted
        reply = trigger.send("A")
        assert (reply.accepted, reply.reason) == (False, "key_reused")
        seen = [line.verdict() for _ in range(2)]
        assert [(h.part, b.verdict, b.reason) for h, b in seen] == [("A", "FAULT", "key_reused")] * 2
        assert trigger.send("B").accepted
        assert line.verdicts(1) == ["PASS"]


def test_each_verdict_names_the_bundle_of_its_own_product(tmp_path: Path) -> None:
    shas = {
        product: open_bundle(make_bundle(tmp_path, product=product)).sha256
        for product in ("valve", "plate")
    }
    options = {"product": "valve", "products": ["valve", "plate"]}
    with message(tmp_path, options=options) as line, client(line) as trigger:
        # Both are loaded by then.
        line.control.request("product", timeout_s=30.0, name="plate")
        line.control.request("product", timeout_s=30.0, name="valve")
        products = ["valve"] * 3 + ["plate"] * 3 + ["valve", "plate", "valve"] + ["plate"] * 2
        for i, product in enumerate(products):
            assert trigger.send(f"K{i}", product).accepted
        seen = [line.verdict() for _ in products]
        assert [h.part for h, _ in seen] == [f"K{i}" for i in range(len(products))]
        for (header, body), product in zip(seen, products, strict=True):
            if body.verdict == "PASS":
                assert (header.product, header.bundle) == (product, shas[product])
            else:
                assert body.reason == "changeover"
        assert sum(b.verdict == "PASS" for _, b in seen) >= 8
        trigger.send("last", "plate")
        assert line.verdicts(1) == ["PASS"]


def test_part_of_a_product_that_is_not_in_use_yet_is_not_judged_by_the_old_one(tmp_path: Path) -> None:
    for product in ("valve", "plate"):
        make_bundle(tmp_path, product=product)
    ready = threading.Event()

    def build(station: Station) -> Any:
        if station.product == "plate":
            assert ready.wait(60)
        return build_inspector(station)

    options = {"product": "valve", "products": ["valve", "plate"]}
    with message(tmp_path, options=options, build=build) as line, client(line) as trigger:
        trigger.send("before")
        assert line.verdicts(1) == ["PASS"]
        names = ("plate", "valve", "plate", "plate")
        changing = [line.daemon.change_product(name) for name in names]
        trigger.send("meanwhile")  # it names no product: it is of what was announced
        assert line.verdicts(1) == ["FAULT changeover"]
        ready.set()
        assert changing[-1].result(60)["product"] == "plate"
        trigger.send("after")
        header, body = line.verdict()
        assert (header.product, body.verdict) == ("plate", "PASS")
        line.daemon.change_product("plate")  # which changes nothing
        trigger.send("again")
        assert line.verdicts(1) == ["PASS"]


def test_change_that_fails_lets_nothing_pass_by_the_old_product(tmp_path: Path) -> None:
    for product in ("valve", "plate"):
        make_bundle(tmp_path, product=product)
    options = {"product": "valve", "products": ["valve", "plate"]}
    with message(tmp_path, options=options) as line, client(line) as trigger:
        swap = line.daemon.loop.swap
        line.daemon.loop.swap = lambda active, timeout_s: False  # type: ignore[method-assign]
        with pytest.raises(DeliveryError, match="did not change over"):
            line.control.request("product", timeout_s=30.0, name="plate")
        line.daemon.loop.swap = swap  # type: ignore[method-assign]
        trigger.send("A")
        assert line.verdicts(1) == ["FAULT changeover"]
        line.control.request("product", timeout_s=30.0, name="valve")
        trigger.send("B")
        assert line.verdicts(1) == ["PASS"]


def test_unknown_product_is_fault_until_a_known_one_is_named(tmp_path: Path) -> None:
    make_bundle(tmp_path, product="valve")
    with message(tmp_path, options={"product": "valve"}) as line, client(line) as trigger:
        reply = trigger.send("A", "other")
        assert (reply.accepted, reply.reason) == (False, "unknown_product")
        assert "['valve']" in reply.text
        assert line.verdicts(1) == ["FAULT unknown_product"]
        wait_for(lambda: line.control.request("status")["product"] == "other")
        trigger.send("B")  # without a code: what is made now
        assert line.verdicts(1) == ["FAULT unknown_product"]
        trigger.send("C", "valve")
        assert line.verdicts(1) == ["PASS"]


def test_clock_that_jumps_an_hour_changes_no_deadline(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    offset_ns = 0

    def wall() -> int:
        return time.time_ns() + offset_ns

    with message(tmp_path, wall=wall) as line, client(line) as trigger:
        for i, jump in enumerate((0, 3600, -3600)):
            offset_ns = jump * 10**9
            trigger.send(f"K{i}")
            header, body = line.verdict()
            assert body.verdict == "PASS"
            assert abs(header.t_wall_ns - time.time_ns() - offset_ns) < 600 * 10**9
            assert body.latency_ms < SLOW


def test_stop_answers_what_was_accepted_and_refuses_the_rest(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    failpoints.activate(["inspect.before=sleep:0.2"])
    with message(tmp_path) as line, client(line) as trigger:
        accepted = [f"K{i}" for i in range(6) if trigger.send(f"K{i}").accepted]
        line.daemon.stop()
        wait_for(lambda: line.daemon.stopping)
        reply = trigger.send("late")
        assert (reply.accepted, reply.reason) == (False, "not_ready")
        assert "STOPPING" in reply.text
        seen = [line.verdict() for _ in accepted]
        assert [h.part for h, _ in seen] == accepted
        assert {b.verdict for _, b in seen} <= {"PASS", "FAULT"}
        assert line.daemon.triggers is not None
        assert line.daemon.triggers.counts["not_ready"] == 1


def test_trigger_while_the_bundle_is_loaded_is_not_ready(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    told: list[str] = []

    def build(station: Any) -> Any:
        with TriggerClient(station.trigger_endpoint, 20.0) as trigger:
            told.append(trigger.send("A").reason)
        return None

    with message(tmp_path, build=build) as line:
        assert told == ["not_ready"]
        assert line.metric("edge_ad_triggers_total", result="not_ready") == 1
        assert line.scores.receive(0.1) is None


def test_trigger_that_was_long_under_way_is_stale(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with message(tmp_path, trigger={"frame_ms": 50.0}) as line:
        desk = line.daemon.triggers
        assert desk is not None
        reply = desk.announce("A", at_ns=time.monotonic_ns() - 60_000_000)
        assert (reply.accepted, reply.reason) == (False, "stale")
        assert line.metric("edge_ad_triggers_total", result="stale") == 1


def test_trigger_of_another_machine_is_as_old_as_its_sender_says(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with message(tmp_path, trigger={"frame_ms": 5000.0}) as line:
        desk = line.daemon.triggers
        assert desk is not None
        for age_s, reason in ((6, "stale"), (3, "")):
            request = TriggerRequest("1.1", str(age_s), "A", clock="another", age_ns=age_s * 10**9)
            assert desk.answer(request).reason == reason
        assert line.verdict()[1].latency_ms > 3000  # its deadline runs from then, too


def test_software_triggers_by_period_and_on_command_with_keys_of_their_own(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    options = {"deadline_ms": SLOW, "trigger": {"kind": "software", "period_ms": 30.0}}
    with Line(tmp_path, asked=True, options=options) as line:
        headers = [line.verdict()[0] for _ in range(5)]
        counts = [header.count for header in headers]
        assert counts == list(range(counts[0] or 0, (counts[0] or 0) + 5))
        assert {header.trigger for header in headers} == {"software"}
        assert len({header.part for header in headers}) == 5
        assert all(line.daemon.epoch in header.part for header in headers)
    options = {"deadline_ms": SLOW, "trigger": {"kind": "software", "frame_ms": 10_000.0}}
    with Line(tmp_path, asked=True, options=options) as line:
        assert line.control.request("trigger", part="mine")["accepted"] is True
        assert line.verdict()[0].part == "mine"
        assert line.control.request("trigger")["count"] == 2
        assert line.daemon.epoch in line.verdict()[0].part


def test_two_cameras_with_shots_answer_one_trigger(tmp_path: Path) -> None:
    with (
        message(tmp_path, cameras=("a", "b"), camera_options={"shots": ["x", "y"]}) as line,
        client(line) as trigger,
    ):
        trigger.send("A")
        assert line.verdicts(1) == ["FAULT uncalibrated"]
        assert line.metric("edge_ad_frames_total", camera="a") == 2
        assert line.metric("edge_ad_frames_total", camera="b") == 2


def test_faults_in_a_row_ask_the_line_to_stop_until_a_part_is_judged(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    unreadable = Frame("top", 0, None, 0, 0, None, "unreadable", "zero bytes")
    with message(tmp_path, trigger={"line_stop_after": 3}) as line, client(line) as trigger:
        flags = []
        for i in range(3):
            line.feed(unreadable)
            trigger.send(f"K{i}")
            flags.append(line.verdict()[1].line_stop)
        assert flags == [False, False, True]
        assert line.metric("edge_ad_line_stop_request") == 1
        assert line.control.request("status")["line_stop"] is True
        trigger.send("good")
        body = line.verdict()[1]
        assert (body.verdict, body.line_stop) == ("PASS", False)
        assert line.metric("edge_ad_line_stop_request") == 0


def test_many_clients_at_once_each_get_their_own_verdict(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    with message(tmp_path, trigger={"queue": 64}) as line:
        accepted: list[str] = []

        def announce(name: str) -> None:
            with client(line) as trigger:
                accepted.extend(f"{name}{i}" for i in range(20) if trigger.send(f"{name}{i}").accepted)

        threads = [threading.Thread(target=announce, args=(name,)) for name in "ABC"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = [line.verdict()[0] for _ in range(60)]
        assert sorted(h.part for h in seen) == sorted(accepted)
        assert [h.count for h in seen] == list(range(1, 61))


def test_product_that_was_changed_by_hand_meanwhile_is_changed_back_by_the_next_part(
    tmp_path: Path,
) -> None:
    for product in ("valve", "plate"):
        make_bundle(tmp_path, product=product)
    options = {"product": "valve", "products": ["valve", "plate"]}
    with message(tmp_path, options=options) as line, client(line) as trigger:
        trigger.send("A", "valve")
        assert line.verdicts(1) == ["PASS"]
        line.control.request("product", timeout_s=30.0, name="plate")
        trigger.send("B", "valve")
        header, body = line.verdict()
        assert (header.product, body.verdict) == ("valve", "PASS")
        trigger.send("C")
        assert line.verdict()[0].product == "valve"


def test_collection_keeps_the_product_and_other_parts_are_not_collected(tmp_path: Path) -> None:
    for product in ("valve", "plate"):
        make_bundle(tmp_path / "s", product=product)
    options = {"product": "valve", "products": ["valve", "plate"]}
    with message(tmp_path / "s", options=options) as line, client(line) as trigger:
        line.control.request("collect", parts=2, directory=str(tmp_path / "kept"))
        for key, product in (("A", "valve"), ("B", "plate"), ("C", "valve")):
            trigger.send(key, product)
        assert line.verdicts(3) == ["FAULT calibrating", "FAULT changeover", "FAULT calibrating"]
        wait_for(lambda: line.control.request("status")["collect"]["done"])
        trigger.send("D", "plate")
        assert line.verdict()[0].product == "plate"


def test_a_camera_that_the_line_triggers_is_opened_anew_when_parts_get_no_picture(
    tmp_path: Path,
) -> None:
    """Between parts its silence says nothing; three parts without a picture do."""
    make_bundle(tmp_path)
    sources: list[Patient] = []

    def patient(camera: Camera, base: Path) -> Patient:
        sources.append(Patient(camera.name, SimpleQueue()))
        return sources[-1]

    with message(
        tmp_path, asked=False, trigger={"frame_ms": 60.0}, camera_options={"stale_ms": 50.0},
        make_source=patient,
    ) as line, client(line) as trigger:  # fmt: skip
        opened = len(sources)
        wait_for(lambda: line.metric("edge_ad_camera_up", camera="top") == 1)
        time.sleep(0.3)  # a break
        for key in ("A", "B", "C"):
            assert len(sources) == opened
            trigger.send(key)
            assert line.verdict()[1].reason == "no_frame"
        wait_for(lambda: len(sources) == opened + 1)
        wait_for(lambda: line.metric("edge_ad_camera_reconnects_total", camera="top") == 1)


def test_camera_that_does_not_return_faults_its_part_and_another_thread_takes_over(
    tmp_path: Path,
) -> None:
    make_bundle(tmp_path)
    with message(tmp_path, camera_options={"stale_ms": 200.0}) as line, client(line) as trigger:
        line.feed("hang")
        trigger.send("A")  # its frame might still come for 10 s, but the camera is known to be stuck
        header, body = line.verdict(8)
        assert (header.part, body.reason) == ("A", "no_frame")
        wait_for(lambda: line.control.request("status")["cameras"]["top"]["state"] == "up")
        trigger.send("B")
        header, body = line.verdict()
        assert (header.part, body.verdict) == ("B", "PASS")
