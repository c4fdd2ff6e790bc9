"""Industrial cameras in the daemon: every frame that the line triggers has one verdict, whatever was
lost on its way, and an asked camera's picture is its part's own."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from daemon_line import Line, wait_for
from industrial_cameras import BASLER, fake_gige
from tiny_bundle import HEIGHT, WIDTH, make_bundle

from edge_ad.capture.basler import PylonCamera
from edge_ad.capture.connection import Picture
from edge_ad.capture.industrial import IndustrialSource
from edge_ad.capture.source import Source, open_source
from edge_ad.config import Camera
from edge_ad.delivery.trigger import TriggerClient

SLOW = 60_000.0
SIZE = {"Width": WIDTH, "Height": HEIGHT}


def options(**trigger: Any) -> dict[str, Any]:
    return {"deadline_ms": SLOW, "trigger": trigger}


class Lossy(PylonCamera):
    """The blocks 3, 4 and 7 do not arrive."""

    def pull(self, timeout_s: float) -> Picture | None:
        picture = super().pull(timeout_s)
        if picture is not None and picture.counter in (3, 4, 7):
            picture.release()
            return None
        return picture


def test_a_gap_in_the_block_ids_is_so_many_faults(tmp_path: Path) -> None:
    make_bundle(tmp_path)

    def lossy(camera: Camera, base: Path) -> Source:
        return IndustrialSource(camera, lambda: Lossy("0815-0000"), time.monotonic_ns)

    features = SIZE | {"AcquisitionFrameRateEnable": True, "AcquisitionFrameRate": 20.0}
    camera = {"uri": BASLER, "overflow": "wait", "genicam": {"features": features}}
    with Line(tmp_path, camera_options=camera, options=options(kind="line"), make_source=lossy) as line:
        seen = [line.verdict() for _ in range(6)]
        while seen[-1][0].count < 9:
            seen.append(line.verdict())
        counts = [header.count for header, _ in seen]
        assert counts == list(range(counts[0], counts[0] + len(counts)))
        reasons = {header.count: body.reason for header, body in seen}
        assert {count for count, reason in reasons.items() if reason == "no_frame"} == {3, 4, 7}
        assert {reason for count, reason in reasons.items() if count not in (3, 4, 7)} == {"score"}
        assert line.metric("edge_ad_frames_lost_total", camera="top") == 3


def test_packets_that_are_lost_are_faults_of_their_own_part(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    features = SIZE | {"AcquisitionFrameRate": 50.0}
    camera = {"uri": "genicam://127.0.0.1", "overflow": "wait", "genicam": {"features": features}}
    with fake_gige() as gige:
        gige.start(lost_per_mille=30)
        with Line(
            tmp_path, camera_options=camera, options=options(kind="line"), make_source=open_source
        ) as line:
            seen = [line.verdict() for _ in range(60)]
            # A frame that lost its very first packet has no id; the others are counted through.
            counts = [
                (i, header.count) for i, (header, _) in enumerate(seen) if header.count is not None
            ]
            assert len({count - i for i, count in counts}) == 1
            assert len(counts) > 40
            reasons = [body.reason for _, body in seen]
            assert set(reasons) <= {"score", "unreadable", "no_frame"}
            faulty = line.metric("edge_ad_frames_faulty_total", camera="top")
            assert faulty is not None and faulty >= reasons.count("unreadable") > 3
            assert not any(body.verdict == "PASS" for _, body in seen)


@pytest.mark.parametrize("trouble", ["stalls", "dies"])
def test_parts_of_a_camera_that_is_gone_are_faults_at_once_until_it_is_back(
    tmp_path: Path, trouble: str
) -> None:
    """Within its frame-age limit; the library itself would notice after 5 s, or never."""
    make_bundle(tmp_path, threshold=1e9)
    camera = {"uri": "genicam://127.0.0.1", "stale_ms": 500.0, "genicam": {"features": SIZE}}
    trigger = options(kind="message", frame_ms=400.0, early_ms=200.0)
    with fake_gige() as gige:
        gige.start()
        with Line(
            tmp_path, camera_options=camera, options=trigger, make_source=open_source,
            backoff_s=(0.2, 0.5),
        ) as line, TriggerClient(line.station.trigger_endpoint, 20.0) as client:  # fmt: skip
            told: list[str] = []

            def part() -> str:
                began = time.monotonic()
                client.send(f"P{len(told)}")
                told.append(line.verdicts(1)[0])
                assert time.monotonic() - began < 2.0  # the verdict waits for no library
                return told[-1]

            wait_for(lambda: line.metric("edge_ad_camera_up", camera="top") == 1, 30)
            if trouble == "stalls":
                gige.signal(signal.SIGSTOP)
            else:
                gige.kill()
            gone = time.monotonic()
            time.sleep(0.3)  # what was on its way has come
            while time.monotonic() - gone < 2.0:
                assert part() == "FAULT no_frame"
            assert line.metric("edge_ad_camera_up", camera="top") == 0
            if trouble == "stalls":
                gige.signal(signal.SIGCONT)
            else:
                gige.start()
            wait_for(lambda: line.metric("edge_ad_camera_up", camera="top") == 1, 30)
            assert line.metric("edge_ad_camera_reconnects_total", camera="top") >= 1  # type: ignore[operator]


def test_an_asked_camera_takes_the_picture_of_each_announced_part(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    genicam = {"trigger": "Software", "features": SIZE}
    with Line(
        tmp_path,
        camera_options={"uri": BASLER, "genicam": genicam},
        options=options(kind="software", frame_ms=2000.0),
        make_source=open_source,
    ) as line:
        wait_for(lambda: line.metric("edge_ad_camera_up", camera="top") == 1)
        for number in range(3):
            reply = line.control.request("trigger", part=f"P{number}")
            assert reply["accepted"], reply
            header, body = line.verdict()
            assert (header.part, body.reason) == (f"P{number}", "score")
