from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from edge_ad.errors import ConfigError
from edge_ad.preprocess import RULE, Preprocessor, halve


def prepare(
    image: np.ndarray, size: int = 224, roi: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    out = np.zeros((size, size, 3), np.uint8)
    Preprocessor(size, size).prepare(image, roi, out)
    return out


def naive_halve(image: np.ndarray) -> np.ndarray:
    pad = [(0, image.shape[0] % 2), (0, image.shape[1] % 2)] + [(0, 0)] * (image.ndim - 2)
    x = np.pad(image, pad, mode="edge").astype(int)
    mean = (x[0::2, 0::2] + x[0::2, 1::2] + x[1::2, 0::2] + x[1::2, 1::2] + 2) >> 2
    return mean.astype(np.uint8)


def naive_prepare(image: np.ndarray, size: int) -> np.ndarray:
    while min(image.shape[:2]) >= 2 * size:
        image = naive_halve(image)
    if image.shape[:2] == (size, size):
        pass
    elif max(image.shape[:2]) > 4 * size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    else:
        image = naive_halve(naive_bilinear(image, 2 * size))
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def naive_bilinear(image: np.ndarray, size: int) -> np.ndarray:
    """Pixel centres at half-integers, edges repeated; weights of 8 bits, one rounding at the end."""
    x = image.astype(np.int64)
    for axis in (1, 0):
        n = x.shape[axis]
        at = (np.arange(size) + 0.5) * n / size - 0.5
        low = np.floor(at).astype(int)
        weight = np.rint((at - low) * 256).astype(np.int64)
        a = x.take(np.clip(low, 0, n - 1), axis)
        b = x.take(np.clip(low + 1, 0, n - 1), axis)
        weight = weight.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
        x = a * (256 - weight) + b * weight
    return ((x + (1 << 15)) >> 16).astype(np.uint8)


@pytest.mark.parametrize("shape", [(8, 8), (9, 8), (8, 9), (31, 17), (2, 3), (64, 65, 3), (33, 40, 3)])
def test_halving_is_the_stated_integer_formula(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    out = np.zeros(((shape[0] + 1) // 2, (shape[1] + 1) // 2, *shape[2:]), np.uint8)
    halve(image, out)
    np.testing.assert_array_equal(out, naive_halve(image))


@pytest.mark.parametrize(
    "shape",
    [
        (1200, 1920),
        (2048, 2448),
        (899, 1001),
        (480, 640),
        (130, 700),
        (1000, 230),
        (50, 60),
        (481, 643, 3),
        (224, 224),
        (448, 448, 3),
        (896, 447),
        (895, 896),
    ],
)
def test_prepare_equals_the_naive_rule(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(prepare(image), naive_prepare(image, 224))


@pytest.mark.parametrize("shape", [(300, 380), (700, 1000), (1200, 1920)])
def test_the_filter_stays_close_to_one_area_average(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(2).normal(128, 60, shape)
    image = np.clip(cv2.GaussianBlur(noise, (0, 0), 1.0) * 2 - 128, 0, 255).astype(np.uint8)
    area = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA).astype(float)
    ours = prepare(image)[:, :, 0].astype(float)
    assert np.corrcoef(area.ravel(), ours.ravel())[0, 1] > 0.9
    assert abs(area.mean() - ours.mean()) < 0.5


@pytest.mark.parametrize("shape", [(224, 224), (224, 224, 3)])
def test_a_picture_of_the_networks_size_stays_as_it_is(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(8).integers(0, 256, shape, dtype=np.uint8)
    expected = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(prepare(image), expected)


def test_a_3_px_defect_never_vanishes() -> None:
    """2448 x 2048 -> 256: with plain bilinear the same defect is invisible in most positions."""
    rng = np.random.default_rng(3)
    preprocessor = Preprocessor(256, 256)
    out = np.zeros((256, 256, 3), np.uint8)
    black = np.zeros((2048, 2448), np.uint8)
    seen, bilinear = [], []
    corners = [(0, 0), (2045, 2445), (0, 2445), (2045, 0)]
    for y, x in [*corners, *zip(rng.integers(0, 2046, 400), rng.integers(0, 2446, 400), strict=True)]:
        image = black.copy()
        image[y : y + 3, x : x + 3] = 255
        preprocessor.prepare(image, None, out)
        seen.append(int(out.max()))
        bilinear.append(int(cv2.resize(image, (256, 256), interpolation=cv2.INTER_LINEAR).max()))
    assert np.mean(np.array(bilinear) == 0) > 0.5
    assert min(seen) >= 4


def test_roi_is_the_same_as_a_cropped_frame() -> None:
    image = np.random.default_rng(4).integers(0, 256, (700, 900), dtype=np.uint8)
    np.testing.assert_array_equal(
        prepare(image, roi=(101, 33, 555, 601)), prepare(image[33:634, 101:656].copy())
    )


@pytest.mark.parametrize("roi", [(500, 0, 500, 100), (0, 650, 10, 51), (-1, 0, 10, 10)])
def test_roi_outside_the_frame_is_named(roi: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"roi .* frame of 900 x 700 px"):
        prepare(np.zeros((700, 900), np.uint8), roi=roi)


def test_grey_and_its_colour_copy_come_out_alike() -> None:
    grey = np.random.default_rng(5).integers(0, 256, (1000, 1100), dtype=np.uint8)
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    np.testing.assert_array_equal(prepare(grey), prepare(colour))


def test_nothing_image_sized_is_allocated_after_the_first_frame() -> None:
    image = np.zeros((1201, 1921), np.uint8)
    preprocessor = Preprocessor(224, 224)
    out = np.zeros((224, 224, 3), np.uint8)
    preprocessor.prepare(image, None, out)
    tracemalloc.start()
    preprocessor.prepare(image, None, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000  # rows and columns, not images


def test_sizes_may_alternate() -> None:
    rng = np.random.default_rng(6)
    images = [
        rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((900, 900), (300, 301), (1500, 950, 3))
    ]
    preprocessor = Preprocessor(224, 224)
    out = np.zeros((224, 224, 3), np.uint8)
    for image in images + images[::-1]:
        preprocessor.prepare(image, None, out)
        np.testing.assert_array_equal(out, prepare(image))


def test_the_rule_has_a_version() -> None:
    assert RULE == "halve-area-2"
