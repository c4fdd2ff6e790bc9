"""The location transform by the kernels is that of the CPU, bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from preprocess_emulator import PreprocessEmulator, View, on_the_cpu

from edge_ad.capture.pixels import pixel_rule
from edge_ad.errors import ConfigError
from edge_ad.locate.locator import Locator
from edge_ad.locate.pose import Pose, matrix
from edge_ad.preprocess.cuda import arithmetic as arithmetic_module
from edge_ad.preprocess.cuda import frames as frames_module
from edge_ad.preprocess.cuda.arithmetic import KNOWN, Arithmetic, installed_arithmetic, straightened
from edge_ad.preprocess.cuda.cameras import CameraPixels
from edge_ad.preprocess.cuda.plan import plan_preprocess

Image = NDArray[np.uint8]
POSES = (
    Pose(3.3, -7.9, 11.7, 1.07),
    Pose(0.0, 0.0, 0.0),
    Pose(0.5, 0.5, 0.0),
    Pose(-400.0, 90.0, 178.0),
)


def noise(shape: tuple[int, ...], seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def middle(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.array([shape[1] / 2 - 0.5, shape[0] / 2 - 0.5])


def by_locator(image: Image, pose: Pose) -> Image:
    """What a locator with the middle of the frame as its box's makes of it."""
    out = np.empty_like(image)
    Locator.straighten(SimpleNamespace(middle=middle(image.shape)), image, pose, out)  # type: ignore[arg-type]
    return out


def same_straight(preprocess: PreprocessEmulator, image: Image, pose: Pose, **options: int) -> None:
    """The whole frame, so that every pixel counts."""
    plan = plan_preprocess([View()], [CameraPixels("top", image.shape, located=True)], *image.shape[:2])
    rows, _ = preprocess.rows(plan, [image], [matrix(pose, middle(image.shape))], **options)
    expected = by_locator(image, pose)
    colours = expected if image.ndim == 3 else np.repeat(expected[..., None], 3, 2)
    for order in rows:
        np.testing.assert_array_equal(order[0], colours)


@pytest.mark.parametrize(
    "shape", [(480, 640), (201, 333, 3), (64, 64), (65, 71, 3), (300, 15), (9, 7, 3)]
)
@pytest.mark.parametrize("pose", POSES, ids=str)
def test_a_frame_is_laid_straight_as_the_locator_does(
    preprocess: PreprocessEmulator, shape: tuple[int, ...], pose: Pose
) -> None:
    same_straight(preprocess, noise(shape), pose, orders=("forward", "random:1"))


@settings(max_examples=60, deadline=None)
@given(
    side=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    colour=st.booleans(),
    pose=st.builds(
        Pose, st.floats(-40, 40), st.floats(-40, 40), st.floats(-180, 180), st.floats(0.5, 2.0)
    ),
)
def test_any_pose(
    preprocess: PreprocessEmulator, side: tuple[int, int], colour: bool, pose: Pose
) -> None:
    same_straight(
        preprocess, noise((*side, 3) if colour else side), pose, orders=("forward", "reversed")
    )


@pytest.mark.parametrize("arithmetic", KNOWN, ids=str)
@pytest.mark.parametrize("shape", [(181, 95), (120, 47, 3)])
def test_every_arithmetic_is_its_formula(
    preprocess: PreprocessEmulator,
    monkeypatch: pytest.MonkeyPatch,
    arithmetic: Arithmetic,
    shape: tuple[int, ...],
) -> None:
    monkeypatch.setattr(frames_module, "installed_arithmetic", lambda: arithmetic)
    image = noise(shape)
    plan = plan_preprocess([View()], [CameraPixels("top", shape, located=True)], *shape[:2])
    for pose in POSES:
        move = matrix(pose, middle(shape))
        rows, _ = preprocess.rows(plan, [image], [move])
        expected = straightened(image, move, arithmetic).reshape(*shape[:2], -1)
        for order in rows:
            np.testing.assert_array_equal(order[0], np.broadcast_to(expected, (*shape[:2], 3)))


@pytest.mark.parametrize("text", ["places[j % 2][j / 2] =", "straight_pixel<3>(job"])
def test_a_barrier_that_is_missing_shows(
    preprocess: PreprocessEmulator, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(frames_module, "installed_arithmetic", lambda: Arithmetic("fixed"))
    image = noise((150, 70))
    plan = plan_preprocess([View()], [CameraPixels("top", image.shape, located=True)], *image.shape)
    move = matrix(Pose(1.0, 2.0, 9.0), middle(image.shape))
    whole, _ = preprocess.rows(plan, [image], [move], grid=1)
    assert (whole == whole[0]).all()
    monkeypatch.setenv("SHIM_LEAVE_OUT", str(preprocess.barrier_after(text)))
    rows, _ = preprocess.rows(plan, [image], [move], grid=1)
    assert (rows != whole[0]).any()


def test_cameras_that_locate_beside_others_in_regions_of_any_format(
    preprocess: PreprocessEmulator,
) -> None:
    images = [noise((96, 130, 3), 1), noise((80, 71), 2), noise((90, 100), 3)]
    cameras = [
        CameraPixels("a", images[0].shape, "rgb8", located=True),
        CameraPixels("still", images[1].shape),
        CameraPixels("b", images[2].shape, "bayerrg8", located=True),
        CameraPixels("unseen", (40, 40), located=True),
    ]
    views = [
        View("1", "b", (13, 11, 60, 70), (2, 1), 6),
        View("2", "still"),
        View("3", "a", (70, 31, 60, 65)),
    ]
    plan = plan_preprocess(views, cameras, 23, 29)
    assert plan.located == (0, 2)
    poses = [Pose(4.2, -3.1, 5.5, 1.02), Pose(-6.5, 2.25, -8.0, 0.97)]
    moves = [matrix(p, middle(images[i].shape)) for p, i in zip(poses, plan.located, strict=True)]
    rows, _ = preprocess.rows(plan, [*images, noise((40, 40))], moves)
    converted = [pixel_rule(c.pixel_format).convert(i) for c, i in zip(cameras, images, strict=False)]
    straight = [by_locator(converted[0], poses[0]), converted[1], by_locator(converted[2], poses[1])]
    expected = on_the_cpu(views, ["a", "still", "b"], straight, (23, 29))
    for order in rows:
        np.testing.assert_array_equal(order, expected)


def test_the_installed_opencv_is_known_and_the_others_differ_from_it() -> None:
    found = installed_arithmetic()
    assert found in KNOWN
    images = [noise(shape) for shape in arithmetic_module.PROBES]
    for other in KNOWN:
        differ = [
            (straightened(i, arithmetic_module.MOVE, other)
             != straightened(i, arithmetic_module.MOVE, found)).any()
            for i in images
        ]  # fmt: skip
        assert any(differ) == (other != found)


def test_an_opencv_that_may_not_use_wide_vectors_is_known_too() -> None:
    """On another processor it computes otherwise, and its place in the list says so."""
    code = "from edge_ad.preprocess.cuda.arithmetic import *; print(installed_arithmetic())"
    environment = {**os.environ, "OPENCV_CPU_DISABLE": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    here = installed_arithmetic()
    expected = Arithmetic("plain", 8) if here == Arithmetic("fused", 16) else here
    assert done.stdout.strip() == str(expected), done.stderr


def test_an_opencv_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(image: Image, move: NDArray[np.float64], out: Image) -> None:
        out[...] = image

    monkeypatch.setattr(arithmetic_module, "lay_straight", other)
    unknown = installed_arithmetic.__wrapped__
    assert unknown() is None
    monkeypatch.setattr(frames_module, "installed_arithmetic", unknown)
    with pytest.raises(ConfigError, match=r"camera top: this OpenCV lays parts straight .* install"):
        plan_preprocess([View()], [CameraPixels("top", (20, 20), located=True)], 8, 8)
    plan_preprocess([View()], [CameraPixels("top", (20, 20))], 8, 8)
