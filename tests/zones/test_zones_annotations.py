from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_ad.config import Zone
from edge_ad.errors import ConfigError
from edge_ad.zones import label_images

SHAPE = (60, 80)
SQUARE = [[10, 20], [30, 20], [30, 40], [10, 40]]
FLAT = [v for point in SQUARE for v in point]


def labelme(*shapes: dict[str, Any], **keys: object) -> dict[str, Any]:
    return {"version": "5.5", "flags": {}, "shapes": list(shapes), "imagePath": "a.png",
            "imageData": None, "imageHeight": 60, "imageWidth": 80, **keys}  # fmt: skip


def shape(points: object = None, kind: str = "polygon", label: str = "logo") -> dict[str, Any]:
    return {"label": label, "points": SQUARE if points is None else points, "shape_type": kind,
            "group_id": None, "flags": {}}  # fmt: skip


def coco(*annotations: dict[str, Any], **keys: object) -> dict[str, Any]:
    return {
        "info": {},
        "images": [
            {"id": 1, "width": 80, "height": 60, "file_name": "a.png"},
            {"id": 2, "width": 80, "height": 99, "file_name": "b.png"},
        ],
        "categories": [{"id": 5, "name": "logo"}, {"id": 6, "name": "hole"}, {"id": 7, "name": "none"}],
        "annotations": list(annotations),
        **keys,
    }


def annotation(segmentation: object = None, image: object = 1, category: int = 5) -> dict[str, Any]:
    return {"id": 1, "image_id": image, "category_id": category, "iscrowd": 0, "bbox": [1, 2, 3, 4],
            "segmentation": [FLAT] if segmentation is None else segmentation}  # fmt: skip


def pixels(data: object, base: Path, label: str = "logo") -> NDArray[np.bool_]:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    (base / "zones.json").write_bytes(text)
    zone = Zone(name="z", camera="top", file="zones.json", label=label)
    found: NDArray[np.bool_] = label_images([zone], base, {"top": SHAPE})["top"] == 1
    return found


def box(x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
    expected = np.zeros(SHAPE, bool)
    expected[y : y + height, x : x + width] = True
    return expected


def test_labelme_and_coco_mean_the_same_pixels(tmp_path: Path) -> None:
    expected = box(10, 20, 20, 20)
    hole = shape([[0, 0], [5, 0], [5, 5]], label="hole")
    np.testing.assert_array_equal(pixels(labelme(hole, shape()), tmp_path), expected)
    other = annotation([[0, 0, 5, 0, 5, 5]], image=2, category=6)
    np.testing.assert_array_equal(pixels(coco(other, annotation()), tmp_path), expected)
    np.testing.assert_array_equal(
        pixels(b"\xef\xbb\xbf" + json.dumps(labelme(shape())).encode(), tmp_path), expected
    )


def test_all_shapes_of_a_label_are_one_zone(tmp_path: Path) -> None:
    right = [[40, 20], [50, 20], [50, 40], [40, 40]]
    overlapping = [[20, 30], [40, 30], [40, 40], [20, 40]]
    expected = box(10, 20, 20, 20) | box(40, 20, 10, 20) | box(20, 30, 20, 10)
    shapes = [shape(), shape(right), shape(overlapping)]
    np.testing.assert_array_equal(pixels(labelme(*shapes), tmp_path), expected)
    flat = [[v for p in points for v in p] for points in (SQUARE, right, overlapping)]
    np.testing.assert_array_equal(
        pixels(coco(annotation(flat[:2]), annotation(flat[2:])), tmp_path), expected
    )


def test_rectangles_and_circles_are_polygons(tmp_path: Path) -> None:
    for corners in ([[10, 20], [30, 40]], [[30, 40], [10, 20]], [[30, 20], [10, 40]], SQUARE):
        found = pixels(labelme(shape(corners, "rectangle")), tmp_path)
        np.testing.assert_array_equal(found, box(10, 20, 20, 20))
    found = pixels(labelme(shape([[40, 30], [60, 30]], "circle")), tmp_path)
    assert abs(int(found.sum()) / (math.pi * 20**2) - 1) < 0.01
    assert found[30, 20] and found[30, 59] and not found[11, 25]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not valid JSON"),
        (b'{"shapes": [', "is not valid JSON"),
        (b'{"shapes": [{"label": "\xff\xfe"}]}', "; export it"),
        (b"[" * 100_000, "; export it again"),
        (b'{"x": ' * 100_000, "; export it again"),
        (b"[]", "is neither LabelMe's nor COCO's JSON: Expected `object`"),
        ({"a": 1}, "has no 'shapes') nor COCO's (it lacks"),
        ({"images": [], "annotations": []}, "nor COCO's (it lacks"),
        ({"shapes": []}, "is not as LabelMe writes it: Object missing required field `imageHeight`"),
        ({"shapes": 3, "imageHeight": 60, "imageWidth": 80}, "Expected `array`, got `int` - at `$.sh"),
        (labelme(shape(), imageHeight="60"), "Expected `int`, got `str` - at `$.imageHeight`"),
        (labelme(shape(), imageHeight=61), "it is of 80 x 61 px, the camera's frame of 80 x 60; draw"),
        (labelme(shape(label="b"), shape(label="a")), "no shape has the label 'logo'; have 'a', 'b'"),
        (labelme(), "no shape has the label 'logo'; there are no labels at all"),
        (labelme(shape(), shape([[1, 1]], "point")), "shapes[1]: a shape of type 'point' is no area"),
        (labelme(shape([[1, 1], [2, 2]], "line")), "shapes[0]: a shape of type 'line' is no area"),
        (labelme(shape([[1, 1]], "circle")), "shapes[0]: a circle of 1 points, 2 are expected"),
        (labelme(shape([[1, 1]], "rectangle")), "shapes[0]: a rectangle of 1 points, 2 are"),
        (labelme(shape([[70, 30], [79, 42]], "circle")), "shapes[0]: corner "),
        (labelme(shape([[1, 1], ["2", 2], [3, 9]])), "shapes[0].points: Expected `float`, got `str`"),
        (labelme(shape([[1, 1], [2, 2, 2], [3, 9]])), "shapes[0].points: Expected `array` of length 2"),
        (labelme(shape([[1, 1], [None, 2], [3, 9]])), "shapes[0].points: Expected `float`, got `null`"),
        (labelme(shape([[1, 1], [float("nan"), 2], [3, 9]])), "is not valid JSON"),
        (labelme(shape([[1, 1], [10**400, 2], [3, 9]])), "; export it again"),
        (labelme(shape([[1, 1], [9, 9]])), "shapes[0]: has 2 distinct corners"),
        (labelme(shape([])), "shapes[0]: has 0 distinct corners"),
        (labelme(shape([[1, 1], [90, 9], [1, 9]])), "shapes[0]: corner 1 at 90, 9 is outside of"),
        (labelme(shape([[1, 1], [9, 9], [9, 1], [1, 9]])), "shapes[0]: crosses itself"),
        (labelme(shape([[1, 1]] * 10_001)), "shapes[0]: 10001 corners, at most 10000"),
        (coco(annotation({"size": [60, 80], "counts": "abc"})), "(RLE); polygons are needed"),
        (coco(annotation({"size": [60, 80], "counts": [1, 2]})), "annotations[0].segmentation is run-"),
        (coco(annotation([])), "annotations[0].segmentation is empty"),
        (coco({"image_id": 1, "category_id": 5}), "annotations[0].segmentation is empty"),
        (coco(annotation([[1, 2, 3]])), "annotations[0].segmentation[0]: 3 numbers are no pairs"),
        (coco(annotation([FLAT, [1, 1, 5, "x"]])), "segmentation: Expected `float`, got `str`"),
        (coco(annotation("x")), "segmentation: Expected `array`, got `str`"),
        (coco(annotation(category=6)), "no shape has the label 'logo'; have 'hole'"),
        (coco(annotation(), annotation(image=2)), "of 'logo' belong to 2 images (ids 1, 2)"),
        (coco(annotation(), annotation(image="x")), "of 'logo' belong to 2 images (ids 1, 'x')"),
        (coco(annotation(image=9)), "belong to image 9, which 'images' lacks"),
        (coco(annotation(image=2)), "its image 'b.png' is of 80 x 99 px, the camera's frame of 80 x 60"),
        (coco(annotation(), categories=7), "is not as COCO has it: Expected `array`, got `int`"),
    ],
)
def test_a_file_that_cannot_be_used(data: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        pixels(data, tmp_path)
    text = str(caught.value)
    assert text.startswith("zone[0].file: zones.json: ") and message in text and "\n" not in text


def test_files_that_are_too_large_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "zones.json").open("wb") as file:
        file.truncate(1 << 30)  # a hole: no disk is used
    zone = Zone(name="z", camera="top", file="zones.json", label="logo")
    with pytest.raises(ConfigError, match="1074 MB is more than the 134 MB"):
        label_images([zone], tmp_path, {"top": SHAPE})


garbage: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["logo", "", "polygon"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["label", "points", "shape_type", "id", "image_id", "category_id", "name"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
places = st.sampled_from([
    ("shapes",), ("imageHeight",), ("shapes", 0), ("shapes", 0, "points"), ("shapes", 0, "points", 1),
    ("shapes", 0, "label"), ("shapes", 0, "shape_type"),
    ("images",), ("images", 0), ("images", 0, "id"), ("categories",), ("categories", 0),
    ("categories", 0, "id"), ("annotations",), ("annotations", 0), ("annotations", 0, "segmentation"),
    ("annotations", 0, "segmentation", 0), ("annotations", 0, "image_id"),
])  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places, garbage)
def test_garbage_anywhere_is_refused_or_read(
    tmp_path: Path, place: tuple[Any, ...], value: object
) -> None:
    data = labelme(shape()) if place[0] in ("shapes", "imageHeight") else coco(annotation())
    target: Any = data
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    try:
        assert pixels(data, tmp_path).any()
    except ConfigError as error:
        assert "\n" not in str(error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400), st.binary(max_size=4))
def test_bytes_that_were_damaged_are_refused_or_read(tmp_path: Path, at: int, damage: bytes) -> None:
    data = json.dumps(labelme(shape())).encode()
    try:
        assert pixels(data[:at] + damage + data[at + len(damage) :], tmp_path).any()
    except ConfigError as error:
        assert "\n" not in str(error)
