"""Pixel formats by the kernels are those of capture/pixels.py, bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from preprocess_emulator import PreprocessEmulator, View, on_the_cpu

from edge_ad.capture.pixels import FORMATS, pixel_rule
from edge_ad.errors import CaptureError
from edge_ad.preprocess.cuda.cameras import CameraPixels
from edge_ad.preprocess.cuda.plan import PreprocessPlan, plan_preprocess

SHAPES: dict[str, Sequence[tuple[int, ...]]] = {
    "auto": [(37, 41), (37, 41, 3)],
    "mono8": [(37, 41), (37, 41, 3)],
    "bgr8": [(37, 41, 3)],
    "rgb8": [(37, 41, 3)],
    "yuv422_yuyv": [(37, 42, 2), (1, 2, 2)],
    "yuv422_uyvy": [(37, 42, 2)],
    **{f"mono{n}": [(37, 41)] for n in (10, 12, 16)},
    **{f"bayer{n}8": [(38, 42), (4, 4), (6, 70)] for n in ("rg", "gr", "gb", "bg")},
}
CASES = [(name, shape) for name in FORMATS for shape in SHAPES[name]]


def samples(name: str, shape: tuple[int, ...], depth: int = 0) -> NDArray[Any]:
    """Every value that a sample can have, at random."""
    rng = np.random.default_rng(3)
    if name in ("mono10", "mono12", "mono16"):
        return rng.integers(0, 1 << (depth or int(name[4:])), shape, np.uint16)
    return rng.integers(0, 256, shape, np.uint8)


def planned(name: str, shape: tuple[int, ...], depth: int = 0) -> PreprocessPlan:
    return plan_preprocess([View()], [CameraPixels("top", shape, name, depth)], *shape[:2])


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_format_is_that_of_the_cpu(
    preprocess: PreprocessEmulator, name: str, shape: tuple[int, ...]
) -> None:
    raw = samples(name, shape)
    image = pixel_rule(name).convert(raw)
    rows, faults = preprocess.rows(planned(name, shape), [raw])
    expected = on_the_cpu([View()], ["top"], [image], shape[:2])
    for order in rows:
        np.testing.assert_array_equal(order, expected)
    assert not faults.any()


@pytest.mark.parametrize("name", ["yuv422_yuyv", "yuv422_uyvy", "mono8"])
def test_every_combination_of_values(preprocess: PreprocessEmulator, name: str) -> None:
    """Of a colour space's three numbers, in steps that include the ends."""
    steps = np.array([0, 1, 15, 16, 17, 90, 127, 128, 129, 200, 234, 235, 236, 254, 255], np.uint8)
    a, b, c = (grid.reshape(len(steps), -1) for grid in np.meshgrid(steps, steps, steps))
    raw = np.stack([a, b, c], axis=2)
    if name != "mono8":
        raw = np.stack([a, b, a[::-1], c], axis=2).reshape(len(steps), -1, 2)
    image = pixel_rule(name).convert(raw)
    rows, _ = preprocess.rows(planned(name, raw.shape), [raw], orders=("forward",))
    np.testing.assert_array_equal(rows[0], on_the_cpu([View()], ["top"], [image], raw.shape[:2]))


@pytest.mark.parametrize(
    ("name", "depth"), [("mono10", 0), ("mono12", 10), ("mono16", 14), ("mono16", 8)]
)
def test_a_sample_that_is_too_large_is_told_of_its_camera(
    preprocess: PreprocessEmulator, name: str, depth: int
) -> None:
    raw = samples(name, (30, 20), depth)
    cameras = [CameraPixels("other", (20, 20)), CameraPixels("top", raw.shape, name, depth)]
    plan = plan_preprocess([View(), View("b", "other")], cameras, 9, 9)
    other = np.zeros((20, 20), np.uint8)
    assert not preprocess.rows(plan, [other, raw])[1].any()
    raw[29, 19] = 1 << (depth or int(name[4:]))
    with pytest.raises(CaptureError, match="does not fit"):
        pixel_rule(name, depth).convert(raw)
    assert preprocess.rows(plan, [other, raw])[1].tolist() == [[0, 1]] * 4


def test_cameras_of_all_formats_at_once(preprocess: PreprocessEmulator) -> None:
    frames = [samples(name, shape) for name, shape in CASES]
    cameras = [CameraPixels(f"{i}", shape, name) for i, (name, shape) in enumerate(CASES)]
    views = [View(f"of {i}", f"{i}", tiles=(1, 1)) for i in reversed(range(len(CASES)))]
    images = [pixel_rule(name).convert(raw) for (name, _), raw in zip(CASES, frames, strict=True)]
    rows, faults = preprocess.rows(plan_preprocess(views, cameras, 19, 17), frames)
    expected = on_the_cpu(views, [camera.name for camera in cameras], images, (19, 17))
    for order in rows:
        np.testing.assert_array_equal(order, expected)
    assert faults.shape == (4, len(CASES))
