"""ROI, tiles, resize and masks by the kernels are those of the CPU, bit by bit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from preprocess_emulator import PreprocessEmulator, View, on_the_cpu

from edge_ad.preprocess.cuda.cameras import CameraPixels
from edge_ad.preprocess.cuda.plan import plan_preprocess
from edge_ad.preprocess.cuda.steps import bilinear, plan_steps

Image = NDArray[np.uint8]


def noise(shape: tuple[int, ...], seed: int = 0, steps: int = 256) -> Image:
    """Random grey values; few different ones meet the ties of rounding more often."""
    grey = np.linspace(0, 255, steps).astype(np.uint8)
    return grey[np.random.default_rng(seed).integers(0, steps, shape)]


def same_rows(
    preprocess: PreprocessEmulator,
    views: list[View],
    images: dict[str, Image],
    size: tuple[int, int],
    **options: int,
) -> None:
    cameras = [CameraPixels(name, image.shape) for name, image in images.items()]
    plan = plan_preprocess(views, cameras, *size)
    expected = on_the_cpu(views, list(images), list(images.values()), size)
    rows, faults = preprocess.rows(plan, list(images.values()), **options)
    for order in rows:
        np.testing.assert_array_equal(order, expected)
    assert not faults.any()


@st.composite
def regions(draw: st.DrawFn) -> tuple[tuple[int, ...], View, tuple[int, int]]:
    """A frame's shape, a view that may touch its borders, and a network's size."""
    size = draw(st.tuples(st.integers(8, 40), st.integers(8, 40)))
    ratio = draw(st.tuples(st.floats(0.4, 9.0), st.floats(0.4, 9.0)))
    tiles = draw(st.sampled_from([(1, 1), (1, 1), (1, 2), (2, 1), (2, 3)]))
    region = [max(9 * n, round(n * side * r)) for n, side, r in zip(tiles, size, ratio, strict=True)]
    margins = [draw(st.sampled_from([0, 0, 1, 2, 3, 5])) for _ in range(4)]
    shape = (region[0] + margins[0] + margins[1], region[1] + margins[2] + margins[3])
    overlap = draw(st.integers(0, 3)) if tiles != (1, 1) else 0
    view = View(roi=(margins[2], margins[0], region[1], region[0]), tiles=tiles, overlap=overlap)
    return (*shape, *draw(st.sampled_from([(), (3,)]))), view, size


@settings(max_examples=120, deadline=None)
@given(case=regions(), seed=st.integers(0, 99), steps=st.sampled_from([2, 5, 256]))
def test_a_view_is_that_of_the_cpu(
    preprocess: PreprocessEmulator,
    case: tuple[tuple[int, ...], View, tuple[int, int]],
    seed: int,
    steps: int,
) -> None:
    shape, view, size = case
    same_rows(
        preprocess, [view], {"top": noise(shape, seed, steps)}, size, orders=("forward", "random:1")
    )


@pytest.mark.parametrize(
    ("shape", "size", "mode"),
    [
        ((32, 33), (32, 33), "sized"),
        ((127, 131, 3), (32, 33), "sized"),  # by halving odd sides
        ((255, 261), (32, 33), "sized"),
        ((511, 263, 3), (64, 33), "sized"),
        ((480, 301), (32, 20), "twice"),
        ((61, 500, 3), (30, 40), "area"),
        ((64, 400), (32, 40), "whole_area"),
        ((128, 480, 3), (64, 40), "whole_area"),
        ((20, 500), (32, 40), "stretch"),
        ((500, 19, 3), (32, 40), "stretch"),
        ((3, 1), (32, 33), "twice"),
        ((1, 1), (8, 8), "twice"),
        ((1025, 900, 3), (16, 9), "twice"),  # six halvings, in two turns
        ((1100, 1050), (8, 8), "twice"),  # seven
        ((1700, 210), (8, 8), "area"),  # after four, with an area filter
    ],
)
def test_every_way_to_resize(
    preprocess: PreprocessEmulator, shape: tuple[int, ...], size: tuple[int, int], mode: str
) -> None:
    assert plan_steps(shape[:2], size).mode == mode
    same_rows(preprocess, [View()], {"top": noise(shape)}, size)


def test_many_cameras_and_views_in_the_order_of_their_rows(preprocess: PreprocessEmulator) -> None:
    images = {"left": noise((121, 97), 1), "top": noise((90, 131, 3), 2), "right": noise((70, 70, 3), 3)}
    views = [
        View("back", "right", tiles=(2, 2), overlap=5),
        View("front", "left", (3, 5, 94, 116)),
        View("whole", "top"),
        View("edge", "left", (0, 100, 97, 21), (1, 3), 4),
        View("corner", "top", (100, 60, 31, 30)),
    ]
    same_rows(preprocess, views, images, (24, 28))


def test_zones_that_are_ignored_are_painted(preprocess: PreprocessEmulator) -> None:
    image, zones = noise((150, 170, 3)), np.zeros((150, 170), np.uint8)
    cv2.circle(zones, (60, 70), 20, 2, -1)
    zones[140:, 160:] = 3
    zones[:10, :10] = 1  # looked at
    views = [View(tiles=(2, 2), overlap=10), View("part", roi=(100, 0, 60, 40)), View("all")]
    by_camera = {"top": (zones, [2, 3])}
    plan = plan_preprocess(views, [CameraPixels("top", image.shape)], 37, 41, by_camera)
    rows, _ = preprocess.rows(plan, [image])
    expected = on_the_cpu(views, ["top"], [image], (37, 41), by_camera)
    assert (expected == 128).all(axis=3).sum() > 100
    for order in rows:
        np.testing.assert_array_equal(order, expected)


def test_halves_hold_the_same_numbers(preprocess: PreprocessEmulator) -> None:
    image = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)  # every byte
    for size in ((16, 16), (9, 7)):
        plan = plan_preprocess([View()], [CameraPixels("top", image.shape)], *size, halves=True)
        rows, _ = preprocess.rows(plan, [image])
        expected = on_the_cpu([View()], ["top"], [image], size)
        assert rows.dtype == np.float16
        np.testing.assert_array_equal(rows, np.broadcast_to(expected, rows.shape))


@pytest.mark.parametrize("grid", [1, 3, 200])
def test_any_grid_gives_the_same(preprocess: PreprocessEmulator, grid: int) -> None:
    same_rows(preprocess, [View(tiles=(1, 2))], {"top": noise((97, 301, 3))}, (33, 40), grid=grid)
    same_rows(preprocess, [View()], {"top": noise((1025, 900))}, (16, 9), grid=grid)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("gather<C>(tile, picture", (90, 140, 3)),
        ("store(colours +", (90, 140, 3)),
        ("write_bytes(colours", (33, 65, 3)),  # one after the other, without a neighbourhood
    ],
)
def test_a_barrier_that_is_missing_shows(
    preprocess: PreprocessEmulator, text: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one after a line with this text; the emulator can leave it out."""
    same_rows(preprocess, [View()], {"top": noise(shape)}, (33, 65), grid=1)
    monkeypatch.setenv("SHIM_LEAVE_OUT", str(preprocess.barrier_after(text)))
    with pytest.raises(AssertionError, match="not equal"):
        same_rows(preprocess, [View()], {"top": noise(shape)}, (33, 65), grid=1)


sides = st.integers(1, 700)


@settings(max_examples=300, deadline=None)
@given(source=st.tuples(sides, sides), target=st.tuples(sides, sides), colour=st.booleans())
def test_bilinear_steps_are_those_of_opencv(
    source: tuple[int, int], target: tuple[int, int], colour: bool
) -> None:
    image = noise((*source, 3) if colour else (*source, 1), 5)
    wide = image.astype(np.int64)
    for axis in (1, 0):
        steps = bilinear(source[axis], target[axis])
        first, share = steps >> 9, np.expand_dims(steps & 511, (0, 2) if axis else (1, 2))
        after = np.minimum(first + 1, source[axis] - 1)
        wide = wide.take(first, axis) * (256 - share) + wide.take(after, axis) * share
    expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_LINEAR_EXACT)
    np.testing.assert_array_equal(((wide + (1 << 15)) >> 16).ravel(), expected.ravel())
