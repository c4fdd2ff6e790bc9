"""Every pixel of every format, as the pipeline has it: odd widths, padded rows, planes elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from gst_sources import drain, first, installed, made_sample, picture, source
from numpy.typing import NDArray

from edge_ad.capture.pixels import pixel_rule
from edge_ad.config import Camera
from edge_ad.errors import CaptureError

pytestmark = pytest.mark.usefixtures("gst")

WIDTHS = (37, 38, 39, 40)
HEIGHT = 21


@pytest.fixture(scope="module")
def gst() -> None:
    installed()


def noise(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(3).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def written(path: Path, image: NDArray[Any]) -> str:
    assert cv2.imwrite(str(path), image)
    return f"filesrc location={path} ! pngdec"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("pixel_format", ["auto", "bgr8", "rgb8"])
def test_colours_of_a_lossless_file(tmp_path: Path, width: int, pixel_format: str) -> None:
    image = noise(HEIGHT, width, 3)
    found = picture(written(tmp_path / "a.png", image), pixel_format=pixel_format)
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("width", WIDTHS)
def test_grey_of_a_lossless_file(tmp_path: Path, width: int) -> None:
    image = noise(HEIGHT, width)
    found = picture(written(tmp_path / "a.png", image), pixel_format="mono8")
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("pixel_format", "depth"), [("mono16", 16), ("mono12", 12), ("mono10", 10)])
def test_deep_grey_keeps_the_upper_bits(
    tmp_path: Path, width: int, pixel_format: str, depth: int
) -> None:
    raw = noise(HEIGHT, width, dtype=np.uint16) >> (16 - depth)
    # A PNG's samples are big-endian.
    pipeline = written(tmp_path / "a.png", raw) + " ! videoconvert dither=none"
    found = picture(pipeline, pixel_format=pixel_format)
    np.testing.assert_array_equal(found, (raw >> (depth - 8)).astype(np.uint8))


def parsed(path: Path, raw: NDArray[Any], name: str) -> str:
    path.write_bytes(raw.tobytes())
    height, width = raw.shape[:2]
    size = f"width={width} height={height} plane-strides=<{raw.nbytes // height}>"
    return f"filesrc location={path} ! rawvideoparse format={name} {size}"


@pytest.mark.parametrize("width", [2, 6, 38])
@pytest.mark.parametrize(("pixel_format", "name"), [("yuv422_yuyv", "yuy2"), ("yuv422_uyvy", "uyvy")])
def test_yuv_422_is_converted_by_its_rule(
    tmp_path: Path, width: int, pixel_format: str, name: str
) -> None:
    raw = noise(HEIGHT, width, 2)
    found = picture(parsed(tmp_path / "a.raw", raw, name), pixel_format=pixel_format)
    np.testing.assert_array_equal(found, pixel_rule(pixel_format).convert(raw))


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_without_padding_are_moved_to_where_they_belong(tmp_path: Path, width: int) -> None:
    image = noise(HEIGHT, width, 3)
    found = picture(parsed(tmp_path / "a.raw", image, "bgr"), pixel_format="bgr8")
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("pad", [0, 2], ids=["tight", "padded"])
@pytest.mark.parametrize(
    ("pixel_format", "name"),
    [("bayerrg8", "rggb"), ("bayergr8", "grbg"), ("bayergb8", "gbrg"), ("bayerbg8", "bggr")],
)
def test_a_mosaic_with_rows_of_either_kind(
    tmp_path: Path, pixel_format: str, name: str, pad: int
) -> None:
    raw = noise(20, 38 + pad)
    (tmp_path / "a.raw").write_bytes(raw.tobytes() * 2)
    pipeline = (
        f"filesrc location={tmp_path}/a.raw blocksize={raw.nbytes} "
        f"! capsfilter caps=video/x-bayer,format={name},width=38,height=20,framerate=1/1"
    )
    frames = drain(source(pipeline, pixel_format=pixel_format))
    assert len(frames) == 2
    for frame in frames:
        np.testing.assert_array_equal(
            frame.image, pixel_rule(pixel_format).convert(np.ascontiguousarray(raw[:, :38]))
        )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plain_colour_of_the_test_source(width: int) -> None:
    found = picture(
        "videotestsrc pattern=solid-color foreground-color=0xff204060 "
        f"! video/x-raw,format=BGR,width={width},height=9"
    )
    np.testing.assert_array_equal(found, np.full((9, width, 3), (0x60, 0x40, 0x20)))


def test_an_odd_width_of_422_is_a_fault_with_its_reason() -> None:
    frame = first("videotestsrc ! video/x-raw,format=YUY2,width=37", pixel_format="yuv422_yuyv")
    assert frame.image is None and frame.fault == "pixel_format" and "even width" in frame.detail


def test_a_partial_frame_is_a_fault_and_the_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(2 * 38 * 20 - 100))
    caps = "video/x-bayer,format=rggb,width=38,height=20,framerate=1/1"
    pipeline = f"filesrc location={tmp_path}/a.raw blocksize=760 ! capsfilter caps={caps}"
    good, short = drain(source(pipeline, pixel_format="bayerrg8"))
    assert good.fault == "" and short.fault == "pixel_format"
    assert "660 bytes where rggb of 38 x 20 with 38 bytes per row needs 760" in short.detail


def test_more_bits_than_declared_are_a_fault() -> None:
    frame = first("videotestsrc ! video/x-raw,format=GRAY16_LE", pixel_format="mono12")
    assert frame.fault == "pixel_format" and "does not fit the declared 12 bits" in frame.detail


def test_where_the_meta_says_that_rows_lie_they_are_read() -> None:
    memory = noise(8 * 64)
    sample = made_sample("video/x-raw,format=BGR,width=7,height=5", memory.tobytes(), (7, 5, 30, 64))
    with sample.pixels() as found:
        rows = [memory[30 + 64 * y : 30 + 64 * y + 21] for y in range(5)]
        np.testing.assert_array_equal(found.reshape(5, 21), rows)
        assert not found.flags.writeable
    sample.release()
    sample.release()


@pytest.mark.parametrize(
    ("caps", "meta", "message"),
    [
        ("video/x-raw,format=BGR,width=7,height=5", (7, 5, 300, 64), "needs 577"),
        ("video/x-raw,format=BGR,width=7,height=5", (7, 5, 300, -21), "do not describe its frames"),
        ("video/x-raw,format=GRAY8,width=99,height=5", None, "100 bytes per row needs 499"),
        ("video/x-raw,format=NV12,width=8,height=4", None, "frames of 'NV12'; have GRAY8"),
        ("audio/x-raw,format=S16LE", None, "audio/x-raw frames without a size"),
    ],
)
def test_memory_that_is_not_what_it_says_is_not_read(
    caps: str, meta: tuple[int, int, int, int] | None, message: str
) -> None:
    sample = made_sample(caps, bytes(400), meta)
    with pytest.raises(CaptureError, match=message), sample.pixels():
        pass
    sample.release()


@pytest.mark.parametrize(("flag", "message"), [(1 << 8, "corrupted"), (1 << 11, "gap"), (1 << 6, "")])
def test_damage_is_known_by_the_flags(flag: int, message: str) -> None:
    sample = made_sample("video/x-raw,format=GRAY8,width=4,height=4", bytes(16), flags=flag)
    assert message in sample.damaged and bool(sample.damaged) == bool(message)
    sample.release()


def test_frames_over_the_pixel_limit_are_refused() -> None:
    made = source("videotestsrc ! video/x-raw,width=1000,height=1001", max_megapixels=1)
    with pytest.raises(
        CaptureError, match=r"sends 1\.0 megapixels, over the limit of 1; raise max_mega"
    ):
        made.read()
    made.close()


def test_every_format_of_the_configuration_has_a_pipeline() -> None:
    from edge_ad.capture.gstreamer import describe
    from edge_ad.capture.pixels import FORMATS

    for name in FORMATS:
        camera = Camera(name="top", uri="gst://videotestsrc", pixel_format=name)  # type: ignore[arg-type]
        assert "appsink name=edge_ad" in describe(camera)
