"""The monitor's arithmetic: a false-alarm rate that is kept whatever the values' distribution is."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from edge_ad.backbone.spec import Level
from edge_ad.capture.parts import render_part
from edge_ad.config import Monitor
from edge_ad.frame import Image
from edge_ad.gaussian.view import Features, FitSettings, fit_view
from edge_ad.monitor.cusum import Cusum, limit, slack
from edge_ad.monitor.looks import Looks, look
from edge_ad.monitor.reference import MOST, Reference, thinned
from edge_ad.monitor.rejects import Rejects

DRAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.lognormal(sigma=1.0, size=n),
    "heavy tails": lambda rng, n: rng.standard_t(2, size=n),
    "few values": lambda rng, n: rng.integers(0, 4, size=n).astype(float),
}


def watched(good: np.ndarray, parts: int, statistics: int = 1) -> Callable[[float], bool]:
    reference = Reference(thinned(good))
    one = Cusum(slack(reference.parts), limit(parts, statistics))
    return lambda value: one.add(reference.z(value)) and one.alarm


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("good", [20, 100])
def test_false_alarms_are_no_more_than_stated(kind: str, good: int) -> None:
    """Over many references of the size; 400 of 500 parts each, one alarm in 2,000 parts allowed."""
    rng = np.random.default_rng(good)
    alarms, parts = 0, 0
    for _ in range(200):
        add = watched(DRAWS[kind](rng, good), parts=1_000)
        values = DRAWS[kind](rng, 500).tolist()
        parts += len(values)
        alarms += sum(add(value) for value in values)
    assert alarms <= parts / 1_000


@pytest.mark.parametrize("good", [20, 100])
def test_distances_by_a_fit_without_the_part_keep_the_stated_rate(good: int) -> None:
    """More features than parts, or fewer. One fit moves all further parts alike: over many fits."""
    rng = np.random.default_rng(good)
    mixing = rng.normal(size=(30, 30))
    alarms, parts = 0, 0
    for _ in range(60):
        features = (rng.normal(size=(good + 500, 30)) @ mixing).astype(np.float32)
        fit = fit_view(Features(features[:good]), FitSettings([Level("all", "x", 30, 16, 0)]))
        add = watched(fit.distances[:, 0], parts=1_000)
        values = fit.score(Features(features[good:])).distances[:, 0].tolist()
        parts += len(values)
        alarms += sum(add(value) for value in values)
    assert alarms <= parts / 1_000


@pytest.mark.parametrize("good", [30, 100, 400])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_lasting_shift_is_noticed_soon(good: int, sign: int) -> None:
    rng = np.random.default_rng(7)
    needed = []
    for _ in range(20):
        add = watched(rng.normal(size=good), parts=1_000_000, statistics=5)
        needed.append(next(i for i in itertools.count(1) if add(float(sign * 3 + rng.normal()))))
    assert max(needed) <= 20


def test_one_part_far_out_is_no_drift_and_a_lasting_one_ends_when_it_is_over() -> None:
    reference = Reference(list(np.linspace(0, 1, 100)))
    one = Cusum(slack(100), limit(1_000_000, 5))
    assert not one.add(reference.z(1e9))
    assert one.ratio < 0.3
    changed = [one.add(reference.z(1e9)) for _ in range(10_000)]
    assert sum(changed) == 1
    assert (one.alarm, one.higher, one.alarms, one.ratio) == (True, True, 1, 1.0)
    changed = [one.add(reference.z(0.5)) for _ in range(50)]
    assert sum(changed) == 1  # days of drift are over within a few parts
    assert not one.alarm


def test_ranks_are_even_and_bounded() -> None:
    reference = Reference([1.0, 2.0, 2.0, 3.0])
    assert reference.z(2.0) == 0.0
    assert reference.z(-9.0) == pytest.approx(-reference.z(9.0))
    assert [reference.z(v) for v in (0, 1, 1.5, 2.5, 3, 4)] == sorted(
        reference.z(v) for v in (0, 1, 1.5, 2.5, 3, 4)
    )
    alike = Reference([5.0] * 50)  # a light that shows the very same value every time
    assert alike.z(5.0) == 0.0
    assert alike.z(4.0) < -1.5
    assert Reference(thinned([0.50123457] * 50)).z(0.50123457) == 0.0


def test_many_values_are_thinned_out_and_few_are_kept() -> None:
    assert thinned([3.0, 1.0, 2.0]) == [1.0, 2.0, 3.0]
    many = thinned(np.arange(10_000.0))
    assert (len(many), many[0], many[-1]) == (MOST, 0.0, 9_999.0)


def part(index: int = 0, width: int = 320, height: int = 240) -> Image:
    return render_part(1, index, width, height, 0.0)[0]


def test_gain_changes_the_grey_value_and_little_else() -> None:
    good = look(part())
    dark = look(np.asarray(cv2.convertScaleAbs(part(), alpha=0.9), np.uint8))
    assert dark.grey == pytest.approx(0.9 * good.grey, rel=0.01)
    assert dark.focus == pytest.approx(good.focus, rel=0.05)
    assert dark.x == pytest.approx(good.x, abs=0.002)


def test_blur_lowers_the_focus_and_little_else() -> None:
    good = look(part())
    soft = look(np.asarray(cv2.GaussianBlur(part(), (0, 0), 1.0), np.uint8))
    assert soft.focus < 0.5 * good.focus
    assert soft.grey == pytest.approx(good.grey, rel=0.01)


def test_a_camera_that_moved_moves_the_centroid() -> None:
    moved = [np.roll(part(), by, axis) for by, axis in ((16, 1), (12, 0))]
    good, right, down = look(part()), *map(look, moved)
    assert right.x - good.x > 0.02
    assert abs(right.y - good.y) < 0.01
    assert down.y - good.y > 0.02


def test_the_patch_is_what_the_grey_value_is_of() -> None:
    image = part()
    image[10:30, 20:60] = 200
    assert look(image, (20, 10, 40, 20)).grey == 200.0
    colour = np.dstack([image, image // 2, image // 4])
    assert look(colour, (20, 10, 40, 20)).grey == pytest.approx((200 + 100 + 50) / 3)


@pytest.mark.parametrize("size", [(8, 8), (1, 300), (2000, 3000)])
def test_any_picture_can_be_measured(size: tuple[int, int]) -> None:
    assert look(np.full(size, 128, np.uint8)) == Looks(128.0, 0.0, 0.5, 0.5)


def test_rejects_in_a_row_and_too_large_a_share() -> None:
    rejects = Rejects(Monitor(rejects_in_row=3, reject_rate=0.25, reject_window=20))
    for _ in range(10):
        rejects.add(False)
        rejects.add(True)
        assert not rejects.row_alarm
    assert rejects.share == 0.5
    assert rejects.share_alarm
    for _ in range(20):
        rejects.add(True)
    assert (rejects.share, rejects.share_alarm) == (0.0, False)
    for expected in (False, False, True, True):
        rejects.add(False)
        assert rejects.row_alarm is expected
    rejects.add(True)
    assert (rejects.row_alarm, rejects.in_row) == (False, 0)


def test_a_window_that_is_not_full_is_no_rate_and_zero_watches_nothing() -> None:
    rejects = Rejects(Monitor(rejects_in_row=0, reject_rate=0.0, reject_window=10))
    for _ in range(9):
        rejects.add(False)
    assert rejects.share == 0.0
    rejects.add(False)
    assert rejects.share == 1.0
    assert not (rejects.row_alarm or rejects.share_alarm)
