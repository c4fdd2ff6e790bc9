"""Who encodes the pictures of parts that are kept: a process, as long as that does it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import psutil
import pytest
from encoder_processes import PATIENCE_S, encoders, patient_encoder

from edge_ad.aside import Aside
from edge_ad.bundle import ViewRule
from edge_ad.errors import DeviceError
from edge_ad.evidence import encode as module
from edge_ad.evidence.encode import Drawing, Encoded, Encoder, Pictures, encode
from edge_ad.frame import Image
from edge_ad.locate.pose import Pose
from edge_ad.report.heat import PartDrawer

__all__ = ["patient_encoder"]


@dataclass
class Bench:
    """An encoder, what it has told, and its process."""

    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.encoder = Encoder(lambda level, text: self.told.append(f"{level}: {text}"))

    @property
    def process(self) -> psutil.Process | None:
        found = encoders()
        assert len(found) <= 1
        return found[0] if found else None

    def close(self) -> None:
        self.encoder.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with closing(Bench()) as one:
        yield one


def part(shape: tuple[int, ...] = (60, 80, 3)) -> Pictures:
    """Two cameras, one of which locates; a map over each."""
    made = np.random.default_rng(3)
    grey: Image = made.integers(0, 256, shape[:2], dtype=np.uint8)
    colour: Image = made.integers(0, 256, shape, dtype=np.uint8)
    views = ViewRule(name="top", camera="top", roi=(10, 8, 40, 40)), ViewRule(name="side", camera="side")
    drawer = PartDrawer(("top", "side"), views, {"side": np.array([40.0, 30.0])})
    maps = made.random((4, 4), np.float32), np.full((2, 3), np.nan, np.float32)
    return Pictures(
        {"top": grey, "side": colour}, Drawing(drawer, (None, Pose(3.0, -2.0, 4.0)), maps, 0.7)
    )


def test_the_process_makes_the_same_of_it(bench: Bench) -> None:
    asked = part()
    here = encode(asked)
    assert set(here.frames) == set(here.overlays) == {"top", "side"}
    assert bench.process is None
    assert bench.encoder.encode(asked) == here
    process = bench.process
    assert process is not None and os.sched_getscheduler(process.pid) == os.SCHED_IDLE
    assert bench.encoder.encode(Pictures(asked.frames, None)) == Encoded(here.frames)
    assert process is not None and bench.process == process and bench.told == []


def test_a_map_that_cannot_be_drawn_costs_no_picture(bench: Bench) -> None:
    asked = part()
    drawing = asked.drawing
    assert drawing is not None
    beyond = PartDrawer(("top",), (ViewRule(name="top", camera="top", roi=(0, 0, 81, 60)),), {})
    encoded = bench.encoder.encode(
        Pictures(asked.frames, Drawing(beyond, (None,), drawing.maps[:1], 1.0))
    )
    assert encoded.frames == encode(asked).frames and encoded.overlays == {}
    assert "outside of 80 x 60" in encoded.undrawn


def test_a_frame_that_cannot_be_encoded_is_named(bench: Bench) -> None:
    asked = Pictures({"top": np.zeros((4, 4, 5), np.uint8)}, None)
    with pytest.raises(DeviceError, match=r"shape \(4, 4, 5\) as PNG"):
        bench.encoder.encode(asked)
    assert bench.process is not None and bench.told == []


def test_one_that_ends_costs_maps_for_a_while_and_no_picture(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = part()
    whole = bench.encoder.encode(asked)
    for _ in range(2):
        if bench.process is not None:
            bench.process.send_signal(signal.SIGKILL)
        assert bench.encoder.encode(asked) == Encoded(whole.frames)
        assert bench.process is None
    (line,) = bench.told
    assert line == (
        "warning: evidence: the process that encodes pictures ended with code -9; "
        "pictures are kept without maps until it is started again"
    )
    monkeypatch.setattr(bench.encoder, "_without_until", 0.0)  # a minute later
    assert bench.encoder.encode(asked) == whole
    assert bench.process is not None and len(bench.told) == 1


def test_one_that_cannot_be_started_costs_maps_and_no_picture(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_ad.aside.sys.executable", "/no/such/python")
    asked = part()
    assert bench.encoder.encode(asked) == Encoded(encode(asked).frames)
    monkeypatch.setattr(bench.encoder, "_without_until", 0.0)  # a minute later
    assert bench.encoder.encode(asked) == Encoded(encode(asked).frames)
    assert len(bench.told) == 1 and "/no/such/python" in bench.told[0]


def test_one_that_starts_slowly_is_not_taken_for_one_that_hangs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.0)
    bench.encoder.start()
    process = bench.process
    hear = Aside.hear

    def and_then(self: Aside[Pictures, Encoded], timeout_s: float | None = None) -> Encoded:
        monkeypatch.setattr(module, "ANSWER_S", PATIENCE_S)
        return hear(self, timeout_s)

    monkeypatch.setattr(Aside, "hear", and_then)
    asked = part()
    assert bench.encoder.encode(asked) == encode(asked)
    assert process is not None and bench.process == process and bench.told == []


def test_one_that_gets_no_core_has_a_share_of_them_for_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = part()
    whole = bench.encoder.encode(asked)
    starved = bench.process
    assert starved is not None
    starved.suspend()
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    tell, told = bench.encoder._tell, bench.told

    def patient(level: str, text: str) -> None:
        monkeypatch.setattr(module, "ANSWER_S", PATIENCE_S)
        tell(level, text)

    monkeypatch.setattr(bench.encoder, "_tell", patient)
    assert bench.encoder.encode(asked) == whole
    assert told == [
        "info: evidence: the process that encodes pictures does not answer; for 60 s it gives way less"
    ]
    other = bench.process
    assert other is not None and not starved.is_running()
    assert (os.sched_getscheduler(other.pid), other.nice()) == (os.SCHED_OTHER, 10)
    assert bench.encoder.encode(asked) == whole and bench.process == other
    monkeypatch.setattr(bench.encoder, "_pressed_until", 0.0)  # a minute later
    assert bench.encoder.encode(asked) == whole
    assert bench.process is not None and os.sched_getscheduler(bench.process.pid) == os.SCHED_IDLE


def test_one_that_hangs_with_a_share_of_the_cores_is_done_without(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Aside[Pictures, Encoded]):
        def __init__(self, name: str, heard: type[Encoded], *words: str) -> None:
            super().__init__(name, heard, *words)
            self._process.send_signal(signal.SIGSTOP)

    monkeypatch.setattr(module, "Aside", Stopped)
    monkeypatch.setattr(module, "START_S", 0.1)
    asked = part()
    assert bench.encoder.encode(asked) == Encoded(encode(asked).frames)
    assert [line.partition(":")[0] for line in bench.told] == ["info", "warning"]
    assert bench.process is None


def test_when_the_line_stands_nothing_gives_way(bench: Bench) -> None:
    asked = part()
    whole = bench.encoder.encode(asked)
    process = bench.process
    assert process is not None
    bench.encoder.hurry()
    process.wait(PATIENCE_S)
    assert bench.encoder.encode(asked) == whole
    assert bench.process is None and bench.told == []
