"""A part's images into the rows of an engine's input."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.config import View
from edge_ad.errors import ConfigError
from edge_ad.preprocess import PartInput, Preprocessor, ViewInput, tile_boxes

VIEWS = (
    View(name="whole", camera="b"),
    View(name="tiled", camera="a", roi=(4, 6, 90, 60), tiles=(2, 3), overlap=6),
    View(name="rest", camera="b", tiles=(1, 2)),
)


def images(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((80, 100), (50, 70, 3))]


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_every_tile_is_prepared_by_itself(threads: int) -> None:
    part = PartInput(VIEWS, ["a", "b"], 24, 32, threads)
    for seed in range(3):
        a, b = images(seed)
        out = np.zeros((9, 24, 32, 3), np.uint8)
        part.fill([a, b], out)
        boxes = [
            (b, None),
            *((a, box) for box in tile_boxes((4, 6, 90, 60), (2, 3), 6)),
            *((b, box) for box in tile_boxes((0, 0, 70, 50), (1, 2), 0)),
        ]
        expected = np.zeros((24, 32, 3), np.uint8)
        for row, (image, box) in zip(out, boxes, strict=True):
            Preprocessor(24, 32).prepare(image, box, expected)
            np.testing.assert_array_equal(row, expected)
    assert part.box(0) == (0, 0, 70, 50)
    assert part.box(3) == boxes[3][1]
    assert part.box(8) == (35, 0, 35, 50)
    with pytest.raises(IndexError):
        part.box(9)
    part.close()
    part.close()
    if threads > 1:  # their rows would stay as they were
        with pytest.raises(ValueError, match="has been closed"):
            part.fill([a, b], out)


def test_sizes_may_change_from_frame_to_frame() -> None:
    view = ViewInput(View(name="v", camera="a", tiles=(2, 2)), 16, 16)
    out = np.zeros((4, 16, 16, 3), np.uint8)
    maps = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    shapes = []
    for shape in ((40, 60), (80, 61, 3), (40, 60)):
        view.fit(shape)
        view.fill(np.zeros(shape, np.uint8), out)
        shapes.append((view.boxes[0][2:], view.stitch((2, 2))(maps).shape))
    assert shapes == [((30, 20), (4, 4)), ((31, 40), (4, 4)), ((30, 20), (4, 4))]


def test_one_tile_keeps_its_map() -> None:
    view = ViewInput(View(name="v", camera="a"), 16, 16)
    view.fit((37, 41))
    maps = np.random.default_rng(0).normal(size=(1, 3, 5)).astype(np.float32)
    np.testing.assert_array_equal(view.stitch((3, 5))(maps), maps[0])


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (
            View(name="v", camera="a", roi=(20, 0, 60, 40)),
            r"view v: roi \[20, 0, 60, 40\] is outside of 70",
        ),
        (View(name="v", camera="a", tiles=(9, 1)), r"view v: 9 rows of tiles in 50 px are 6 px each"),
        (View(name="v", camera="a", tiles=(1, 2), overlap=60), "view v: 2 columns .* smaller overlap"),
    ],
)
def test_a_view_that_does_not_fit_is_named(view: View, expected: str) -> None:
    part = PartInput([view], ["a"], 16, 16)
    image, out = np.zeros((50, 70), np.uint8), np.zeros((12, 16, 16, 3), np.uint8)
    for method in (part.fit, lambda images: part.fill(images, out)):
        with pytest.raises(ConfigError, match=expected):
            method([image])
