from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ad.config import Locate, View
from edge_ad.locate.pose import Pose, matrix
from edge_ad.locate.regions import always_inside, share_outside, within_reach

SHAPE = (120, 160)
MIDDLE = np.array([79.5, 59.5])


def counted(box: tuple[int, int, int, int], pose: Pose) -> float:
    """The naive way: every pixel of the region is looked up in the frame."""
    x, y, width, height = box
    seen = cv2.warpAffine(
        np.ones(SHAPE, np.uint8),
        matrix(pose, MIDDLE),
        SHAPE[::-1],
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return 1.0 - float(seen[y : y + height, x : x + width].mean())


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-200, 200), st.floats(-200, 200), st.floats(-180, 180), st.floats(0.8, 1.2),
    st.integers(0, 60), st.integers(0, 60), st.integers(40, 100), st.integers(40, 60),
)  # fmt: skip
def test_the_share_outside_is_that_of_its_pixels(
    dx: float, dy: float, angle: float, scale: float, x: int, y: int, width: int, height: int
) -> None:
    pose, box = Pose(dx, dy, angle, scale), (x, y, width, height)
    # Two rows of pixels along each side: what is a pixel outside counts as inside.
    slack = 4 * (width + height) / (width * height)
    assert share_outside(box, pose, MIDDLE, SHAPE) == pytest.approx(counted(box, pose), abs=slack)


def test_a_region_in_the_frame_is_not_outside_at_all() -> None:
    whole = (0, 0, 160, 120)
    assert share_outside(whole, Pose(0.0, 0.0, 0.0), MIDDLE, SHAPE) == 0.0
    assert share_outside(whole, Pose(0.9, -0.9, 0.0), MIDDLE, SHAPE) == 0.0
    assert share_outside(whole, Pose(2.0, 0.0, 0.0), MIDDLE, SHAPE) == pytest.approx(1 / 160, rel=1e-3)
    assert share_outside((16, 12, 128, 96), Pose(16.0, 12.0, 0.0), MIDDLE, SHAPE) == 0.0
    assert share_outside(whole, Pose(1000.0, 0.0, 0.0), MIDDLE, SHAPE) == 1.0


def test_the_region_that_all_parts_show() -> None:
    poses = [Pose(20.0, 0.0, 0.0), Pose(-10.0, 5.0, 3.0)]
    box = always_inside((0, 0, 160, 120), poses, MIDDLE, SHAPE)
    assert box is not None
    assert all(share_outside(box, pose, MIDDLE, SHAPE) == 0.0 for pose in poses)
    assert box[2] > 110  # 20 px on either side, and a few for the turn
    assert box[0] + box[2] / 2 == pytest.approx(80, abs=1)
    assert always_inside((0, 0, 160, 120), [Pose(200.0, 0.0, 0.0)], MIDDLE, SHAPE) is None


def test_views_without_a_region_get_what_parts_show_wherever_they_lie() -> None:
    views = [
        View(name="a", camera="top"),
        View(name="b", camera="top", roi=(0, 0, 160, 120)),
        View(name="c", camera="side"),
    ]
    locates = {"top": Locate(max_shift=0.1), "side": None}
    found = within_reach(views, locates, {"top": SHAPE, "side": SHAPE})
    assert [view.roi for view in found] == [(16, 12, 128, 96), (0, 0, 160, 120), None]
    assert within_reach(views, locates, {}) == views
