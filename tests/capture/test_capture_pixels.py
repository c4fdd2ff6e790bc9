from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_ad.capture.pixels import FORMATS, file_rule, pixel_rule
from edge_ad.errors import CaptureError, ConfigError

# The two rows of two pixels that each PFNC name stands for.
MOSAICS = {
    "bayerrg8": ("RG", "GB"),
    "bayergr8": ("GR", "BG"),
    "bayergb8": ("GB", "RG"),
    "bayerbg8": ("BG", "GR"),
}


@pytest.mark.parametrize("name", MOSAICS)
def test_bayer_mosaic_gives_back_the_colour_it_was_taken_of(name: str) -> None:
    colour = {"B": 20, "G": 90, "R": 220}
    raw = np.zeros((32, 48), np.uint8)
    for row in (0, 1):
        for column in (0, 1):
            raw[row::2, column::2] = colour[MOSAICS[name][row][column]]
    image = pixel_rule(name).convert(raw)
    assert image.shape == (32, 48, 3)
    assert image[8:-8, 8:-8].reshape(-1, 3).tolist() == [[20, 90, 220]] * (16 * 32)


@pytest.mark.parametrize("name", MOSAICS)
def test_bayer_keeps_an_edge_where_it_was(name: str) -> None:
    """A grey scene needs no colour: the mosaic is the scene, and every channel must follow it."""
    raw = np.full((32, 32), 40, np.uint8)
    raw[:, 16:] = 200
    image = pixel_rule(name).convert(raw)
    assert (image[:, :14] == 40).all() and (image[:, 18:] == 200).all()


@pytest.mark.parametrize(
    ("pixel_format", "depth", "name", "full", "expected"),
    [
        ("mono10", 0, "mono10>>2", 1023, 255),
        ("mono12", 0, "mono12>>4", 4095, 255),
        ("mono12", 0, "mono12>>4", 2048, 128),
        ("mono16", 0, "mono16>>8", 65535, 255),
        ("mono16", 12, "mono16>>4", 4095, 255),
        ("mono16", 8, "mono16>>0", 255, 255),
    ],
)
def test_deep_samples_scale_by_the_declared_depth(
    pixel_format: str, depth: int, name: str, full: int, expected: int
) -> None:
    rule = pixel_rule(pixel_format, depth)
    assert rule.name == name
    image = rule.convert(np.array([[0, full]], np.uint16))
    assert image.dtype == np.uint8
    assert image.tolist() == [[0, expected]]


def test_a_sample_over_the_declared_depth_is_refused_not_wrapped() -> None:
    with pytest.raises(CaptureError, match="4096 does not fit the declared 12 bits"):
        pixel_rule("mono12").convert(np.array([[0, 4096]], np.uint16))


@pytest.mark.parametrize(
    ("pixel_format", "depth", "message"),
    [
        ("mono10", 12, "8 to 10"),
        ("mono16", 7, "8 to 16"),
        ("mono8", 12, "mono10"),
        ("rgb9", 0, "unknown"),
    ],
)
def test_impossible_formats_are_configuration_errors(
    pixel_format: str, depth: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pixel_rule(pixel_format, depth)


def test_colour_orders() -> None:
    raw = np.zeros((2, 2, 3), np.uint8)
    raw[:] = (10, 20, 30)
    assert pixel_rule("rgb8").convert(raw)[0, 0].tolist() == [30, 20, 10]
    assert pixel_rule("bgr8").convert(raw)[0, 0].tolist() == [10, 20, 30]
    assert pixel_rule("auto").convert(raw)[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("order", ["yuyv", "uyvy"])
def test_yuv422_gives_back_grey_and_colour(order: str) -> None:
    """BT.601, luma 16 to 235: naive conversion of one flat colour."""
    y, u, v = 120, 90, 200
    samples = {"yuyv": [(y, u), (y, v)], "uyvy": [(u, y), (v, y)]}[order]
    raw = np.tile(np.array(samples, np.uint8), (4, 3, 1))
    image = pixel_rule(f"yuv422_{order}").convert(raw)
    luma = 1.164 * (y - 16)
    expected = [
        luma + 2.018 * (u - 128),
        luma - 0.391 * (u - 128) - 0.813 * (v - 128),
        luma + 1.596 * (v - 128),
    ]
    assert np.abs(image.reshape(-1, 3) - np.clip(expected, 0, 255)).max() <= 1.5


def test_mono8_undoes_what_a_video_decoder_did_to_a_grey_camera() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    rule = pixel_rule("mono8")
    np.testing.assert_array_equal(rule.convert(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)), grey)
    np.testing.assert_array_equal(rule.convert(grey[:, :, None]), grey)


@pytest.mark.parametrize(
    ("pixel_format", "raw", "message"),
    [
        ("auto", np.zeros((4, 4), np.uint16), "mono10, mono12 or mono16"),
        ("auto", np.zeros((4, 4, 4), np.uint8), "alpha"),
        ("auto", np.zeros((4, 4, 2), np.uint8), "one or three channels"),
        ("mono8", np.zeros((4, 4), np.uint16), "8-bit"),
        ("mono12", np.zeros((4, 4), np.uint8), "16-bit"),
        ("bayerrg8", np.zeros((4, 4, 3), np.uint8), "one channel"),
        ("bayerrg8", np.zeros((5, 4), np.uint8), "even sides"),
        ("yuv422_yuyv", np.zeros((4, 4), np.uint8), "two bytes"),
        ("rgb8", np.zeros((4, 4), np.uint8), "three 8-bit"),
    ],
)
def test_samples_unlike_the_format_are_refused_with_both_sides(
    pixel_format: str, raw: np.ndarray, message: str
) -> None:
    with pytest.raises(CaptureError, match=message):
        pixel_rule(pixel_format).convert(raw)


@pytest.mark.parametrize(
    ("pixel_format", "shape", "dtype"),
    [("mono12", (6, 8), "<u2"), ("bayerrg8", (6, 8), "u1"), ("yuv422_yuyv", (6, 8, 2), "u1")],
)
def test_a_drivers_flat_buffer_becomes_a_raster(
    pixel_format: str, shape: tuple[int, ...], dtype: str
) -> None:
    rule = pixel_rule(pixel_format)
    raster = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    flat = raster.view(np.uint8).reshape(1, -1)
    np.testing.assert_array_equal(rule.raster(flat, 8, 6), raster)
    np.testing.assert_array_equal(rule.raster(raster, 8, 6), raster)
    with pytest.raises(CaptureError, match="bytes where"):
        rule.raster(flat[:, :-4], 8, 6)


def test_every_rule_has_a_name_of_its_own() -> None:
    names = [pixel_rule(f).name for f in FORMATS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["mono12", "bayerrg8", "yuv422_yuyv", "rgb8"])
def test_files_may_hold_pictures_that_were_converted_before(name: str) -> None:
    shape = (8, 8) if name == "mono12" else (8, 8, 3)
    picture = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(file_rule(name).convert(picture), picture)


def test_files_may_hold_the_cameras_own_samples() -> None:
    raw = np.full((8, 8), 0x0AB0, np.uint16)
    np.testing.assert_array_equal(file_rule("mono12").convert(raw), pixel_rule("mono12").convert(raw))
    mosaic = np.arange(64, dtype=np.uint8).reshape(8, 8)
    expected = pixel_rule("bayergb8").convert(mosaic)
    np.testing.assert_array_equal(file_rule("bayergb8").convert(mosaic), expected)


@pytest.mark.parametrize("name", ["mono12", "bayerrg8"])
def test_files_of_neither_kind_are_refused(name: str) -> None:
    wrong = np.zeros((8, 8, 3) if name == "mono12" else (8, 8), np.uint16)
    if name == "mono12":
        wrong = wrong.astype(np.uint8)
    with pytest.raises(CaptureError, match=name):
        file_rule(name).convert(wrong)
