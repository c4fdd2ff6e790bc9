from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_ad.capture.images import list_images, read_image
from edge_ad.capture.pixels import pixel_rule
from edge_ad.errors import CaptureError

AUTO = pixel_rule("auto")
LIMIT = 1_000_000
GREY = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
SUFFIXES = [".png", ".jpg", ".bmp", ".tif"]


def encode(suffix: str, image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(suffix, image)[1])


def png(width: int, height: int, colour: int = 0, depth: int = 8, extra: bytes = b"") -> bytes:
    """A PNG whose header claims this size and whose data is almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + extra
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_files_come_back_as_they_were(suffix: str, image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(suffix, image))
    np.testing.assert_array_equal(read_image(path, AUTO, LIMIT), image)


def test_jpeg_comes_back_in_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(".jpg", cv2.GaussianBlur(COLOUR, (0, 0), 3)))
    assert read_image(path, AUTO, LIMIT).shape == COLOUR.shape


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.97])
def test_truncated_files_are_refused(suffix: str, keep: float, tmp_path: Path) -> None:
    data = encode(suffix, GREY)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: max(3, int(len(data) * keep))])
    with pytest.raises(CaptureError, match=f"a{suffix}: ") as caught:
        read_image(path, AUTO, LIMIT)
    assert "\n" not in str(caught.value)


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_refused(tmp_path: Path) -> None:
    data, thumbnail = encode(".jpg", GREY), encode(".jpg", GREY[:8, :8])
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + exif + data[2:])
    assert read_image(path, AUTO, LIMIT).shape == GREY.shape
    path.write_bytes((data[:2] + exif + data[2:])[:-40])
    with pytest.raises(CaptureError, match="truncated"):
        read_image(path, AUTO, LIMIT)


@pytest.mark.parametrize("at", [20, 60, 500])
def test_a_flipped_bit_in_a_png_is_noticed(at: int, tmp_path: Path) -> None:
    data = bytearray(encode(".png", GREY))
    data[at] ^= 1
    path = tmp_path / "a.png"
    path.write_bytes(bytes(data))
    with pytest.raises(CaptureError, match=r"a\.png"):
        read_image(path, AUTO, LIMIT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello, this is not an image", "not a PNG, JPEG, BMP or TIFF"),
        (b"\x89PNG\r\n\x1a\n", "inside its header"),
        (b"\xff\xd8\xff", "inside its header"),
        (png(0, 5), "claims 0 x 5"),
        (png(20, 20), "cannot be decoded"),
        (encode(".png", np.zeros((4, 4, 4), np.uint8)), "alpha.*without transparency"),
        (encode(".tif", np.zeros((4, 4, 4), np.uint8)), "alpha"),
        (encode(".png", np.zeros((4, 4), np.uint16)), "mono10, mono12 or mono16"),
        (encode(".tif", np.zeros((4, 4), np.float32)), "float32"),
    ],
)
def test_what_cannot_be_trusted_is_refused_in_one_line(
    data: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(data)
    with pytest.raises(CaptureError, match=rf"part\.png: .*{message}") as caught:
        read_image(path, AUTO, LIMIT)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_missing_file_and_directory_as_file(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        read_image(tmp_path / "none.png", AUTO, LIMIT)
    with pytest.raises(CaptureError, match="directory"):
        read_image(tmp_path, AUTO, LIMIT)


def test_a_decompression_bomb_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60_000, 60_000))
    before = psutil.Process().memory_info().rss
    with pytest.raises(CaptureError, match=r"60000 x 60000 is 3600\.0 megapixels, over the limit of 1;"):
        read_image(path, AUTO, LIMIT)
    assert psutil.Process().memory_info().rss - before < 50_000_000


def test_a_file_far_too_long_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    with path.open("wb") as stream:
        stream.truncate(40_000_000_000)  # sparse: takes no space
    with pytest.raises(CaptureError, match="40000 MB"):
        read_image(path, AUTO, LIMIT)


def test_declared_depth_reads_16_bit_files(tmp_path: Path) -> None:
    deep = np.arange(0, 4096, dtype=np.uint16).reshape(64, 64)
    path = tmp_path / "a.png"
    path.write_bytes(encode(".png", deep))
    image = read_image(path, pixel_rule("mono12"), LIMIT)
    np.testing.assert_array_equal(image, (deep >> 4).astype(np.uint8))


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    """Orientation 6 asks viewers to turn the picture by 90 degrees."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    data = encode(".jpg", GREY)
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert cv2.imread(str(path)).shape[:2] == (53, 37)
    assert read_image(path, AUTO, LIMIT).shape == (37, 53)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    suffix=st.sampled_from(SUFFIXES),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 7)), max_size=4),
)
def test_damage_never_raises_anything_else(
    suffix: str, cut: float, flips: list[tuple[float, int]], tmp_path: Path
) -> None:
    data = bytearray(encode(suffix, GREY))
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    path = tmp_path / f"a{suffix}"
    path.write_bytes(bytes(data[: int(len(data) * cut)]))
    try:
        image = read_image(path, AUTO, LIMIT)
    except CaptureError as error:
        assert "\n" not in str(error)
    else:
        assert image.dtype == np.uint8 and image.size <= 3 * LIMIT


def test_images_are_listed_at_any_depth_and_sorted(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "a.jpeg", "b/1.tif", "notes.txt", "c/d/x.bmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)]
    assert names == ["a.jpeg", "b/1.tif", "b/2.PNG", "c/d/x.bmp"]


def test_no_images_and_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no images in the folder"):
        list_images(tmp_path)
    with pytest.raises(CaptureError, match="no such directory"):
        list_images(tmp_path / "none")
