"""The picture of `edge-ad camera grab --overlay`."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_ad.config import View, Zone
from edge_ad.errors import ConfigError
from edge_ad.report.overlay import draw_overlay
from edge_ad.report.tags import Tags

SIZES = [(480, 640), (2048, 2448), (40, 64)]


def zone(name: str, kind: str = "inspect") -> Zone:
    corners = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    return Zone(name=name, camera="top", kind=kind, polygon=corners)  # type: ignore[arg-type]


def changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.bool_]:
    bgr = cv2.cvtColor(before, cv2.COLOR_GRAY2BGR) if before.ndim == 2 else before
    return np.asarray((bgr != after).any(axis=2))


@pytest.mark.parametrize("shape", SIZES)
def test_every_kind_of_thing_is_drawn_where_it_is(shape: tuple[int, int]) -> None:
    height, width = shape
    grey = np.full(shape, 120, np.uint8)
    labels = np.zeros(shape, np.uint8)
    inspected = (slice(height // 2, height * 3 // 4), slice(width // 4, width // 2))
    ignored = (slice(height // 2, height * 3 // 4), slice(width * 5 // 8, width * 7 // 8))
    labels[inspected], labels[ignored] = 1, 2
    view = View(name="plate", camera="top", tiles=(2, 2))
    drawn = draw_overlay(grey, [view], [zone("a"), zone("b", "ignore")], labels, None)
    assert drawn.shape == (*shape, 3) and drawn.dtype == np.uint8
    marked = changed(grey, drawn)
    assert marked[0].all() and marked[-1].all() and marked[:, 0].all() and marked[:, -1].all()
    assert marked[inspected].mean() > 0.99 and marked[ignored].mean() > 0.99
    assert drawn[ignored].mean() < grey.mean() - 10  # darker: nothing is looked at
    assert (grey == 120).all()  # what was given is not drawn on
    if height > 100:
        assert marked.mean() < 0.35  # what was photographed is still seen
        assert marked[height // 2 - 1 : height // 2 + 1, : width // 8].any(axis=0).all()  # tiles meet


def test_a_dashed_box_shows_what_is_located() -> None:
    colour = np.full((480, 640, 3), 120, np.uint8)
    drawn = draw_overlay(colour, [], [], None, (64, 48, 512, 384))
    marked = changed(colour, drawn)
    assert marked[48, 64:576].all() and marked[48:432, 575].all()
    assert not marked[60:400, 80:500].any()
    assert {tuple(p) for p in drawn[48, 64:400].tolist()} == {(245, 245, 245), (25, 25, 25)}


def test_names_do_not_cover_each_other() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    tags = Tags(image.shape, 1.0)
    for k in range(4):
        tags.add(f"zone {k}", (50 + 50 * k, 255, 0), (300, 200, 60, 40), ("above", "below", "middle"))
    tags.draw(image)
    areas = [int((image == (50 + 50 * k, 255, 0)).all(axis=2).sum()) for k in range(4)]
    assert min(areas) > 0.8 * max(areas) > 200
    assert not image[:150].any()


def test_letters_grow_with_the_picture() -> None:
    tall = []
    for shape, scale in (((480, 640, 3), 1.0), ((2048, 2448, 3), 4.0)):
        image = np.zeros(shape, np.uint8)
        tags = Tags(shape, scale)
        tags.add("plate", (255, 255, 255), (0, 0, shape[1], shape[0]), ("top left",))
        tags.draw(image)
        tall.append(int(image.any(axis=(1, 2)).sum()))
    assert 12 <= tall[0] <= 24 and 3.2 < tall[1] / tall[0] < 4.8


def test_a_view_outside_of_the_frame_is_refused() -> None:
    view = View(name="far", camera="top", roi=(600, 0, 100, 100))
    with pytest.raises(ConfigError, match=r"view far: roi .* is outside of 640 x 480 px"):
        draw_overlay(np.zeros((480, 640), np.uint8), [view], [], None, None)
