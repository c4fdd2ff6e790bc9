"""What a station looks at, drawn over a picture: views, tiles, zones, what the part is located by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.config import Zone
from edge_ad.frame import Image
from edge_ad.preprocess import Roi
from edge_ad.preprocess.tiles import WHOLE
from edge_ad.preprocess.views import ViewGeometry, view_boxes, view_region
from edge_ad.report.tags import Colour, Tags

VIEW_COLOURS: tuple[Colour, ...] = ((235, 190, 70), (220, 140, 200), (190, 215, 90), (240, 150, 120))
ZONE_COLOURS: tuple[Colour, ...] = ((60, 150, 255), (110, 215, 120), (170, 110, 245), (90, 225, 245))
IGNORED: Colour = (175, 175, 175)
LOCATED: Colour = (245, 245, 245)
DARK: Colour = (25, 25, 25)
FILL, SHADE, HATCH, TILE = 0.2, 0.5, 0.6, 0.5  # how much of the picture their colours cover


def draw_overlay(
    image: Image,
    views: Sequence[ViewGeometry],
    zones: Sequence[Zone],
    labels: NDArray[np.uint8] | None,
    box: Roi | None,
) -> Image:
    """The picture (uint8, H x W grey or H x W x 3 BGR) as BGR with all of one camera's drawn on it.

    `labels` is what `label_images` makes of `zones`, uint8 [H, W], None where there are none; `box` is
    what the part is located by, None where it is not. Lines and letters grow with the picture. Raises
    ConfigError where a view does not fit.
    """
    picture: Image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy()
    scale = max(0.5, float(np.sqrt(image.shape[0] * image.shape[1] / (640 * 480))))
    tags = Tags(image.shape, scale)
    places = [] if labels is None else _zone_places(labels, zones)
    for k, (_, _, colour, zone) in enumerate(places, 1):
        _fill(picture, np.asarray(labels == k), colour, scale, zone.kind == "ignore")
    for view, colour in zip(views, _cycle(VIEW_COLOURS, len(views)), strict=True):
        _draw_view(picture, view, colour, scale, tags)
    if box is not None:
        _dashed(picture, box, scale)
        tags.add("locate", LOCATED, box, ("bottom right", "bottom left"))
    for contours, bounds, colour, zone in places:
        _outline(picture, contours, colour, scale)
        note = " (ignored)" if zone.kind == "ignore" else ""
        tags.add(zone.name + note, colour, bounds, ("above", "below", "middle"))
    tags.draw(picture)
    return picture


_Place = tuple[Sequence[NDArray[np.int32]], Roi, Colour, Zone]


def _zone_places(labels: NDArray[np.uint8], zones: Sequence[Zone]) -> list[_Place]:
    """Each zone's outlines, the bounds of the largest, and the zone's colour."""
    colours = iter(_cycle(ZONE_COLOURS, len(zones)))
    places: list[_Place] = []
    for k, zone in enumerate(zones, 1):
        pixels = np.asarray(labels == k, np.uint8)
        contours, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)  # holes as well
        x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
        colour = IGNORED if zone.kind == "ignore" else next(colours)
        places.append((contours, (x, y, width, height), colour, zone))
    return places


def _fill(
    picture: Image, pixels: NDArray[np.bool_], colour: Colour, scale: float, ignored: bool
) -> None:
    """A tint; where nothing is looked at, darkness and stripes."""
    _blend(picture, pixels, DARK if ignored else colour, SHADE if ignored else FILL)
    if ignored:
        rows, columns = (np.arange(n) for n in pixels.shape)
        stripe = (rows[:, None] + columns[None, :]) % (9 * scale) < 1.8 * scale
        _blend(picture, pixels & stripe, colour, HATCH)


def _blend(picture: Image, pixels: NDArray[np.bool_], colour: Colour, share: float) -> None:
    picture[pixels] = np.rint((1 - share) * picture[pixels] + share * np.asarray(colour))


def _draw_view(picture: Image, view: ViewGeometry, colour: Colour, scale: float, tags: Tags) -> None:
    region, boxes = view_region(view, picture.shape), view_boxes(view, picture.shape)
    text = view.name
    if view.tiles != WHOLE:
        text += f" {view.tiles[0]} x {view.tiles[1]}"
        lines = np.zeros(picture.shape[:2], np.uint8)
        for box in boxes:
            _rectangle(lines, box, 255, max(1, round(0.7 * scale)))
        _blend(picture, lines > 0, colour, TILE)
    width = max(1, round(1.6 * scale))
    _rectangle(picture, region, DARK, width + 2 * max(1, round(0.6 * scale)))
    _rectangle(picture, region, colour, width)
    tags.add(text, colour, region, ("top left", "top right", "bottom left"))


def _rectangle(picture: Image, box: Roi, colour: Colour | int, width: int) -> None:
    """A frame of such a width whose middle line is on the box's outermost pixels."""
    x, y, wide, high = box
    cv2.rectangle(picture, (x, y), (x + wide - 1, y + high - 1), colour, width)


def _outline(
    picture: Image, contours: Sequence[NDArray[np.int32]], colour: Colour, scale: float
) -> None:
    width = max(1, round(1.6 * scale))
    cv2.drawContours(picture, contours, -1, DARK, width + 2 * max(1, round(0.5 * scale)), cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, colour, width, cv2.LINE_AA)


def _dashed(picture: Image, box: Roi, scale: float) -> None:
    """A dashed frame, bright on dark."""
    x, y, wide, high = box
    right, bottom, width = x + wide - 1, y + high - 1, max(1, round(1.2 * scale))
    dash = 9 * scale
    for (x0, y0), (x1, y1) in (
        ((x, y), (right, y)),
        ((right, y), (right, bottom)),
        ((right, bottom), (x, bottom)),
        ((x, bottom), (x, y)),
    ):
        count = max(2, round(max(abs(x1 - x0), abs(y1 - y0)) / dash))
        along = np.rint(np.linspace((x0, y0), (x1, y1), count + 1)).astype(int).tolist()
        for k, (start, end) in enumerate(pairwise(along)):
            cv2.line(picture, start, end, DARK if k % 2 else LOCATED, width)


def _cycle(colours: Sequence[Colour], count: int) -> list[Colour]:
    return [colours[i % len(colours)] for i in range(count)]
