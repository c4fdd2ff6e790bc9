from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from rich.console import Console

from edge_ad.bundle.qualification import Detected
from edge_ad.capture.defects import DEFECTS
from edge_ad.capture.parts import part_key, plate
from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.demo.progress import Options, Progress
from edge_ad.demo.screen import Screen, _gauge, final_screen
from edge_ad.demo.tally import Agreement, Result, Tally
from edge_ad.demo.thumbnail import close_up, thumbnail
from edge_ad.gaussian.threshold import conformal


def scored(index: int, verdict: str, score: float | None) -> tuple[Header, ScoreBody]:
    header = Header("1.0", "demo", "e", index + 1, part_key(index), 0, 0, "plate", "b")
    return header, ScoreBody(verdict, "", score, 100.0, latency_ms=7.0)


@pytest.fixture
def progress() -> Progress:
    options = Options(defect_rate=0.5)
    made = Progress(options, Tally(options.truth), "net")
    made.begin("start", "the daemon")
    made.finish("pid 1")
    made.begin("inspect", "100 parts")
    made.share = 0.5
    for index in range(options.good_first, options.good_first + 40):
        record = scored(index, "REJECT" if options.truth(part_key(index)) else "PASS", 80.0 + index % 50)
        made.tally.add(*record)
        made.recent.append(record)
        if kind := options.truth(record[0].part):
            made.examples[kind] = made.rejected = record
    made.recent.append(scored(999, "FAULT", None))
    return made


def result(**changes: object) -> Result:
    _, promise = conformal(np.arange(300.0), 0.01, "leave-one-out")
    values: dict[str, object] = {
        "ok": True,
        "problems": (),
        "parts": 140,
        "verdicts": {"PASS": 101, "REJECT": 39, "FAULT": 0},
        "missed_defects": 2,
        "detection": Detected(
            parts=100, detected=99, missed=1, faults=0, rate=0.99, confident=0.953, smallest_margin=0.9
        ),
        "false_rejects": 1,
        "late": 0,
        "good_parts": 100,
        "defective_parts": 40,
        "confusion": {"good": {"PASS": 99, "REJECT": 1}, "dent": {"PASS": 2, "REJECT": 38}},
        "promised_false_rejects": (0, 6),
        "promise": promise,
        "threshold": 123.4,
        "agreement": Agreement(500, 500, ""),
        "latency_ms": {"p50": 7.2, "p99": 14.1, "max": 28.8},
        "metrics_url": "http://127.0.0.1:46011/metrics",
        "metrics_parts": 499,
        "backbone": "net",
        "engine": "openvino-f32",
        "judged_by": {"openvino-f32": 140},
        "calibration_parts": 300,
        "seconds": 59.0,
    }
    return Result(**{**values, **changes})  # type: ignore[arg-type]


def text_of(what: object, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(what)
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [100, 80])
def test_last_screen_has_every_number_and_fits(progress: Progress, width: int) -> None:
    lines = text_of(final_screen(progress, result(), width), width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 33
    text = "\n".join(lines)
    for part in (
        "1 of 100, promised at most 6",
        "2 of 40 defects",
        "≤ 4.7 % (100 known-bad parts)",
        "daemon 500, consumer 500",
        "p50 7.2, p99 14.1, max 28.8",
        "300 parts, threshold 123.4",
        "http://127.0.0.1:46011/metrics",
        "edge_ad_parts_total = 499",
        "missing feature",
        "95 %",
        "agree part by part",
    ):
        assert part in text, part
    assert "…" not in text


def test_last_screen_says_what_failed(progress: Progress) -> None:
    bad = result(
        ok=False, problems=("daemon and consumer differ: part 7",), agreement=Agreement(2, 1, "part 7")
    )
    text = "\n".join(text_of(final_screen(progress, bad), 100))
    assert "failed: daemon and consumer differ: part 7" in text and "✗ daemon 2, consumer 1" in text


def test_last_screen_names_the_engines_that_judged(progress: Progress) -> None:
    both = result(engine="tensorrt-f16", judged_by={"openvino-f32": 120, "torch-f32": 20})
    text = "\n".join(text_of(final_screen(progress, both), 100))
    assert "net, openvino-f32, torch-f32" in text and "tensorrt" not in text


def test_last_screen_explains_late_verdicts(progress: Progress) -> None:
    text = " ".join(" ".join(text_of(final_screen(progress, result(late=3)), 100)).split())
    assert "3 verdicts came after the deadline of 500 ms" in text and "agree part by part" in text


def test_live_screen_fits_a_terminal_of_100_by_32(progress: Progress) -> None:
    console = Console(file=io.StringIO(), width=100, height=32, force_terminal=True, color_system=None)
    with Screen(console) as screen:
        screen.show(progress)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "inspect" in text and "S00000999" in text and "REJECT" in text
    assert "…" not in text


def test_without_a_terminal_each_step_is_said_once(progress: Progress) -> None:
    console = Console(file=io.StringIO(), width=100)
    with Screen(console) as screen:
        screen.show(progress)
        screen.show(progress)
        progress.finish("all seen")
        screen.show(progress)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines == ["start      pid 1", "inspect    all seen"]


@pytest.mark.parametrize("defect", DEFECTS)
def test_close_up_shows_the_defect(defect: str) -> None:
    for index in range(10):
        whole = close_up(1, index, 640, 480, defect, zoom=1.0)
        near = close_up(1, index, 640, 480, defect, zoom=3.0)
        assert whole.shape == (480, 640) and near.shape == (160, 212)
        clean = plate(1, 640, 480).render(index, "").astype(int)
        y, x = np.unravel_index(np.abs(whole.astype(int) - clean).argmax(), whole.shape)
        where = cv2.minMaxLoc(cv2.matchTemplate(whole, near, cv2.TM_SQDIFF))[2]
        assert where[0] <= x < where[0] + 212 and where[1] <= y < where[1] + 160


def test_a_thumbnail_has_two_pixels_per_cell() -> None:
    image = np.zeros((60, 80), np.uint8)
    image[30:] = 255
    text = thumbnail(image, 40)
    lines = text.plain.split("\n")
    assert [len(line) for line in lines] == [40] * 15
    styles = [str(span.style) for span in text.spans]
    assert styles[0] == "#000000 on #000000" and styles[-1] == "#ffffff on #ffffff"


@pytest.mark.parametrize("ratio", [-1.5, -0.05, 0.0, 0.99, 2.5])
def test_every_bar_is_as_wide_also_of_a_negative_score(ratio: float) -> None:
    assert len(_gauge(ratio).plain) == 15
