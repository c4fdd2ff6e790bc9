"""Misses under their anomaly maps."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_station import part_image, write_parts

from edge_ad.calibrate.job import Candidate
from edge_ad.calibrate.progress import Silent
from edge_ad.config import parse_station
from edge_ad.frame import Image
from edge_ad.qualify.judge import Reader
from edge_ad.qualify.measure import measure_bad
from edge_ad.qualify.pictures import GAP, miss_picture
from edge_ad.report.pictures import SIDE, heat_overlay
from edge_ad.verdict import Decision, Reason, Verdict


class Mapped:
    """Passes every part, with a map for each of two views."""

    cameras = ("top",)
    threshold = 2.0

    def inspect_part(self, images: list[Image]) -> Verdict:
        maps = (np.zeros((2, 2), np.float32), np.full((2, 2), 1.5, np.float32))
        return Verdict(Decision.PASS, Reason.NONE, 1.5, 2.0, "right", map_source=lambda: maps)


def test_a_miss_keeps_the_map_of_the_view_that_decided(tmp_path: Path) -> None:
    station = parse_station(
        {"schema": 1, "station": "s", "camera": [{"name": "top", "uri": f"folder://{tmp_path}"}]}
    )
    (path,) = write_parts(tmp_path, 1)
    groups = {"dent": [Candidate("a.png", {"top": os.fsencode(path)})]}
    result = measure_bad(
        Mapped(),
        Reader(station, ["top"]),
        groups,
        {},
        ["left", "right"],
        Silent(),  # type: ignore[arg-type]
    )
    (miss,) = result.misses
    assert miss.anomaly is not None
    assert float(miss.anomaly.max()) == 1.5
    assert miss.part.margin == 0.75


def test_picture_and_map_side_by_side() -> None:
    image = part_image(1)
    hot = np.zeros((4, 4), np.float32)
    hot[0, 0] = 2.0
    picture = miss_picture(image, (8, 8, 40, 32), hot, 2.0)
    assert picture.shape == (32, 2 * 40 + GAP, 3)
    left, right = picture[:, :40], picture[:, 40 + GAP :]
    np.testing.assert_array_equal(left[..., 0], image[8:40, 8:48])
    np.testing.assert_array_equal(right[16:, 20:], left[16:, 20:])  # nothing unusual there: clear
    assert np.abs(right[:4, :4].astype(int) - left[:4, :4]).min() > 10
    assert miss_picture(image, None, None, 2.0).shape == image.shape


@pytest.mark.parametrize("colour", [False, True])
def test_the_overlay_says_how_near_the_limit(colour: bool) -> None:
    image = np.full((60, 80, 3) if colour else (60, 80), 90, np.uint8)
    steps = [
        heat_overlay(image, np.full((3, 4), value, np.float32), 5.0).astype(int)
        for value in (0, 2.5, 5, 50)
    ]
    assert (steps[0] == 90).all()
    np.testing.assert_array_equal(steps[2], steps[3])
    assert np.abs(steps[2] - 90).sum() > np.abs(steps[1] - 90).sum() > 0
    odd = heat_overlay(image, np.array([[np.nan, np.inf]], np.float32), 5.0)
    np.testing.assert_array_equal(odd, steps[2])


def test_large_pictures_become_small() -> None:
    large = cv2.resize(part_image(1), (2000, 1000))
    assert miss_picture(large, None, np.zeros((2, 2), np.float32), 1.0).shape == (
        SIDE // 2,
        2 * SIDE + GAP,
        3,
    )
