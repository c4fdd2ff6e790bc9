from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ad.config import Zone
from edge_ad.errors import ConfigError
from edge_ad.zones import label_images

SHAPE = (12, 16)
BOX = ((2.0, 2.0), (8.0, 2.0), (8.0, 6.0), (2.0, 6.0))


def moved(x: float, y: float = 0.0) -> tuple[tuple[float, float], ...]:
    return tuple((a + x, b + y) for a, b in BOX)


def zone(name: str, **keys: object) -> Zone:
    if "file" not in keys:
        keys.setdefault("polygon", BOX)
    return Zone(name=name, camera=str(keys.pop("camera", "top")), **keys)  # type: ignore[arg-type]


def refusal(zones: list[Zone], base: Path = Path(), shape: tuple[int, int] = SHAPE) -> str:
    with pytest.raises(ConfigError) as caught:
        label_images(zones, base, {"top": shape}, "line.toml")
    text = str(caught.value)
    assert text.startswith("line.toml: zone[") and "\n" not in text
    return text


def test_each_camera_counts_its_own_zones(tmp_path: Path) -> None:
    zones = [
        zone("a"),
        zone("b", camera="side"),
        zone("c", polygon=moved(6)),
        zone("d", camera="unseen"),
    ]
    found = label_images(zones, tmp_path, {"top": SHAPE, "side": (20, 20, 3), "none": SHAPE})
    assert sorted(found) == ["side", "top"]
    top = found["top"]
    assert top.dtype == np.uint8 and top.shape == SHAPE and found["side"].shape == (20, 20)
    assert top[3].tolist() == [0, 0, *[1] * 6, *[2] * 6, 0, 0]
    assert np.unique(found["side"]).tolist() == [0, 1]
    assert label_images([], tmp_path, {"top": SHAPE}) == {}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_ignore_wins_whichever_comes_first(order: tuple[int, int], tmp_path: Path) -> None:
    both = [zone("in"), zone("out", kind="ignore", polygon=moved(3))]
    zones = [both[i] for i in order]
    top = label_images(zones, tmp_path, {"top": SHAPE})["top"]
    inspect, ignore = order.index(0) + 1, order.index(1) + 1
    assert top[3].tolist() == [0, 0, *[inspect] * 3, *[ignore] * 6, *[0] * 5]


def test_of_two_ignored_the_first_has_the_pixels_of_both(tmp_path: Path) -> None:
    zones = [zone("a", kind="ignore"), zone("b", kind="ignore", polygon=moved(3))]
    top = label_images(zones, tmp_path, {"top": SHAPE})["top"]
    assert top[3].tolist() == [0, 0, *[1] * 6, *[2] * 3, *[0] * 5]


def test_two_inspected_zones_that_overlap_are_refused() -> None:
    text = refusal([zone("a"), zone("far", polygon=moved(0, 5)), zone("b", polygon=moved(3, 2))])
    assert "zone[2].polygon: zone 'b' and zone[0], 'a', overlap in 6 px at x 5 to 7, y 4 to 5; " in text
    assert "draw them apart" in text


def test_an_overlap_in_files_names_the_file(tmp_path: Path) -> None:
    grey = np.zeros(SHAPE, np.uint8)
    grey[5, 3:6] = 9
    cv2.imwrite(str(tmp_path / "z.png"), grey)
    text = refusal([zone("a"), zone("b", file="z.png", label=9)], tmp_path)
    assert (
        "zone[1].file: z.png: zone 'b' and zone[0], 'a', overlap in 3 px at x 3 to 5, y 5 to 5" in text
    )


def test_a_zone_without_a_pixel_is_refused() -> None:
    thin = zone("thin", polygon=((1.6, 1.6), (1.9, 1.6), (1.9, 9.0)))
    assert "zone[0].polygon: zone 'thin' has no pixel's middle in it; draw it larger" in refusal([thin])
    covered = [zone("a"), zone("b", kind="ignore", polygon=((0, 0), (16, 0), (16, 12), (0, 12)))]
    assert "zone[0].polygon: zone 'a' has no pixel left, zones to ignore cover it" in refusal(covered)


def test_polygons_are_refused_by_their_key() -> None:
    bow = zone("bow", polygon=((1, 1), (5, 5), (5, 1), (1, 5)))
    assert "zone[1].polygon: crosses itself: the edge 1, 1 - 5, 5 crosses" in refusal([zone("a"), bow])
    assert "zone[0].polygon: corner 1 at 8, 2 is outside of the frame of 7 x 9 px" in refusal(
        [zone("a")], shape=(9, 7)
    )


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".png", np.uint8),
        (".png", np.uint16),
        (".tif", np.uint8),
        (".tif", np.uint16),
        (".bmp", np.uint8),
    ],
)
def test_a_label_image_by_grey_value(suffix: str, kind: type[np.generic], tmp_path: Path) -> None:
    high = 60_000 if kind is np.uint16 else 200
    drawn = np.zeros(SHAPE, kind)
    drawn[2:5, 3:9], drawn[8:, 10:] = 3, high
    cv2.imwrite(str(tmp_path / f"z{suffix}"), drawn)
    zones = [zone("a", file=f"z{suffix}", label=high), zone("b", file=f"z{suffix}", label=3)]
    top = label_images(zones, tmp_path, {"top": SHAPE})["top"]
    np.testing.assert_array_equal(top == 1, drawn == high)
    np.testing.assert_array_equal(top == 2, drawn == 3)


def drawing(path: Path, what: str) -> None:
    grey = np.zeros(SHAPE, np.uint8)
    grey[:3], grey[5:8] = 1, 7
    data = cv2.imencode(".png", grey)[1].tobytes()
    if what == "truncated":
        path.write_bytes(data[:-15])
    elif what == "text":
        path.write_text("hello")
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "colour":
        cv2.imwrite(str(path), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    elif what == "small":
        cv2.imwrite(str(path), grey[1:])
    elif what == "float":
        path.with_suffix(".tif").write_bytes(cv2.imencode(".tif", grey.astype(np.float32))[1].tobytes())
        path.with_suffix(".tif").rename(path)
    elif what == "directory":
        path.mkdir()
    elif what == "huge":
        path.write_bytes(data)
        with path.open("r+b") as file:
            file.truncate(1 << 30)  # a hole: no disk is used
    elif what == "values":
        cv2.imwrite(str(path), grey)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "there is no such file in "),
        ("directory", "is not a file"),
        ("empty", "not a PNG, JPEG, BMP or TIFF image"),
        ("text", "not a PNG, JPEG, BMP or TIFF image"),
        ("truncated", "the PNG file is truncated or damaged; save it again"),
        ("huge", "1074 MB is more than the 17 MB that are read; check the path"),
        ("colour", "is of colours, or has a palette or an alpha channel; save it as grey"),
        ("float", "is float32; save it as grey of 8 or 16 bit"),
        ("small", "the label image is of 16 x 11 px, the camera's frame of 16 x 12; draw on"),
        ("values", "no pixel has the label 3; have 0, 1, 7"),
    ],
)
def test_a_label_image_that_cannot_be_used(what: str, message: str, tmp_path: Path) -> None:
    drawing(tmp_path / "z.png", what)
    text = refusal([zone("a", file="z.png", label=3)], tmp_path)
    assert "zone[0].file: z.png: " in text and message in text


@pytest.mark.parametrize("name", ["a\0b.png", "~nobody-is-called-this/z.png"])
def test_a_name_that_is_no_path(name: str, tmp_path: Path) -> None:
    assert "; " in refusal([zone("a", file=name, label=3)], tmp_path)
