"""Where a part lies, and what is said when it lies nowhere."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ad.capture.parts import Placement, Plate, part_placement, plate
from edge_ad.errors import CheckFailed
from edge_ad.locate import Locator, Pose, Settings
from edge_ad.locate.pose import matrix

WIDTH, HEIGHT = 640, 480
ROOMY = Settings(max_shift=0.115, max_angle=17)  # the placement asked for, and what a belt adds


class Lopsided(Plate):
    """A plate without one of its four holes: no way round looks like another."""

    def __init__(self, seed: int, width: int, height: int) -> None:
        super().__init__(seed, width, height)
        self.drawings = [self.drawings[1]] * 5


@pytest.fixture(scope="module")
def lopsided() -> Lopsided:
    return Lopsided(1, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def locator(lopsided: Lopsided) -> Locator:
    return Locator(lopsided.render(0, ""), Settings())


def true_pose(part: Plate, index: int, placement: Placement, middle: Any) -> tuple[Any, float]:
    """dx, dy and angle of part `index` against part 0 as it lies by itself."""
    to_frame = np.vstack([part.placed(index, placement), [0, 0, 1]])
    from_reference = np.linalg.inv(np.vstack([part.placed(0), [0, 0, 1]]))
    whole = to_frame @ from_reference
    moved = whole[:2, :2] @ middle + whole[:2, 2] - middle
    return moved, float(np.degrees(np.arctan2(whole[0, 1], whole[0, 0])))


@pytest.mark.parametrize("size", [(640, 480), (1920, 1200), (333, 417)])
def test_parts_are_found_to_a_fraction_of_a_pixel(size: tuple[int, int]) -> None:
    """With 10 % shift and 15 degrees, under changing light, every kind of defect among them."""
    part = plate(1, *size)
    locator = Locator(part.render(0, ""), ROOMY)
    pixels, degrees = [], []
    for index in range(1, 31):
        defect = ["", "scratch", "dent", "stain", "missing_feature"][index % 5]
        placement = part_placement(1, index, *size, 0.1, 15)
        pose = locator.find(part.render(index, defect, placement)).pose
        assert pose is not None
        moved, angle = true_pose(part, index, placement, locator.middle)
        pixels.append(np.hypot(*(moved - (pose.dx, pose.dy))))
        degrees.append(abs(angle - pose.angle))
        assert 0.9 < pose.quality <= 1.0
    assert np.median(pixels) < 0.1
    assert np.max(pixels) < 0.3
    assert np.median(degrees) < 0.03
    assert np.max(degrees) < 0.1


@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_pose_says(lopsided: Lopsided, channels: int) -> None:
    """dx to the right, dy down, angles counter-clockwise as one looks at the picture, about the middle
    of the box; `straighten` undoes it."""
    reference = lopsided.render(0, "")
    if channels == 3:
        reference = cv2.cvtColor(reference, cv2.COLOR_GRAY2BGR)
    locator = Locator(reference, Settings(max_scale=0.1, box=(150, 90, 300, 300)))
    assert locator.middle.tolist() == [299.5, 239.5]
    turn = cv2.getRotationMatrix2D((299.5, 239.5), 7.0, 1.06)
    turn[:, 2] += (21.5, -13.25)
    frame = cv2.warpAffine(reference, turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    pose = locator.find(frame).pose
    assert pose is not None
    assert (pose.dx, pose.dy) == pytest.approx((21.5, -13.25), abs=0.05)
    assert (pose.angle, pose.scale) == (pytest.approx(7.0, abs=0.02), pytest.approx(1.06, abs=5e-4))
    np.testing.assert_allclose(matrix(pose, locator.middle), turn, atol=0.2)
    straight = np.empty_like(reference)
    locator.straighten(frame, pose, straight)
    inner = (slice(100, 380), slice(160, 440))
    assert np.abs(straight[inner].astype(int) - reference[inner]).mean() < 2.5
    same = locator.find(reference).pose
    assert same is not None
    assert same.quality > 0.999
    assert abs(same.dx) + abs(same.dy) + abs(same.angle) < 0.01


def test_what_lies_outside_of_the_frame_is_counted(lopsided: Lopsided) -> None:
    reference = lopsided.render(0, "")
    locator = Locator(reference, Settings(max_shift=0.3, box=(80, 70, 480, 340)))
    moved = cv2.warpAffine(reference, np.array([[1.0, 0, 160], [0, 1, 0]]), (WIDTH, HEIGHT))
    pose = locator.find(moved).pose
    assert pose is not None
    # 80 of the box's 480 columns; points are spread evenly over it.
    assert pose.outside == pytest.approx(80 / 480, abs=0.03)


@pytest.mark.parametrize(
    ("placement", "failure", "detail"),
    [
        (Placement(110, 0, 0), "out_of_range", r"off by \+1\d\d\.\d, .* max_shift = 0.1 allows 64, 48"),
        (Placement(0, 0, 22), "out_of_range", r"turned by \+2\d\.\d degrees, max_angle = 15"),
        (Placement(0, 0, 90), "orientation", r"the part is there, turned by \+(89|90|91) degrees"),
        (Placement(4, 2, 180), "orientation", "turned by about 180 degrees"),
    ],
)
def test_a_part_that_lies_otherwise(
    lopsided: Lopsided, locator: Locator, placement: Placement, failure: str, detail: str
) -> None:
    found = locator.find(lopsided.render(3, "", placement))
    assert (found.pose, found.failure) == (None, failure), found
    assert re.search(detail, found.detail), found.detail


@pytest.mark.parametrize("axis", [0, 1])
def test_mirror_images_are_told_apart(lopsided: Lopsided, locator: Locator, axis: int) -> None:
    for index in range(1, 9):
        image = lopsided.render(index, "", part_placement(1, index, WIDTH, HEIGHT, 0.05, 8))
        assert locator.find(image).pose is not None
        found = locator.find(np.ascontiguousarray(np.flip(image, axis)))
        assert found.failure == "mirrored", found


def test_a_slot_is_enough_to_tell_top_from_bottom_and_symmetry_is_no_fault() -> None:
    """The plate is its own mirror image left to right, and turned it differs by one slot."""
    part = plate(1, WIDTH, HEIGHT)
    locator = Locator(part.render(0, ""), Settings())
    for index in range(1, 13):
        placement = part_placement(1, index, WIDTH, HEIGHT, 0.06, 10)
        image = part.render(index, "", placement)
        assert locator.find(image).pose is not None
        assert locator.find(np.ascontiguousarray(image[:, ::-1])).pose is not None
        turned = part.render(index, "", placement._replace(angle=180 + placement.angle))
        assert locator.find(turned).failure == "orientation"


def test_an_empty_nest(locator: Locator) -> None:
    rng = np.random.default_rng(0)
    belt = np.clip(rng.normal(40, 2.2, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8)
    lit = np.clip(belt + np.linspace(0, 120, WIDTH), 0, 255).astype(np.uint8)
    for frame in (belt, lit, np.zeros_like(belt), np.full_like(belt, 255)):
        assert locator.find(frame).failure == "empty"


def test_something_else(locator: Locator) -> None:
    rng = np.random.default_rng(1)
    blots = cv2.GaussianBlur(rng.normal(128, 900, (HEIGHT, WIDTH)), (0, 0), 12)
    found = locator.find(np.clip(blots, 0, 255).astype(np.uint8))
    assert found.failure == "not_found"
    assert "nothing is like the part: quality 0." in found.detail
    assert "min_quality = 0.6" in found.detail


def small_part(image: Any, x: float, y: float, angle: float = 0.0) -> None:
    """An L with a dot, some 80 px large."""
    corners = np.array([(-40, -40), (-10, -40), (-10, 10), (40, 10), (40, 40), (-40, 40)], float)
    turn = matrix(Pose(x, y, angle), np.zeros(2))
    points = corners @ turn[:, :2].T + turn[:, 2]
    cv2.fillPoly(image, [np.round(points * 16).astype(np.int32)], 200, cv2.LINE_AA, 4)
    dot = turn[:, :2] @ (25, 25) + turn[:, 2]
    cv2.circle(image, tuple(np.round(dot * 16).astype(int).tolist()), 96, 60, -1, cv2.LINE_AA, 4)


def test_two_parts_in_one_picture() -> None:
    reference = np.full((HEIGHT, WIDTH), 90, np.uint8)
    small_part(reference, 200, 240)
    locator = Locator(reference, Settings(max_shift=0.2, box=(150, 190, 100, 100)))
    one, two = (np.full((HEIGHT, WIDTH), 90, np.uint8) for _ in range(2))
    small_part(one, 230, 250, 6)
    small_part(two, 230, 250, 6)
    small_part(two, 480, 200, -9)
    pose = locator.find(one).pose
    assert pose is not None
    assert (pose.dx, pose.dy, pose.angle) == pytest.approx((30, 10, 6), abs=0.2)
    found = locator.find(two)
    assert found.failure == "two_parts"
    assert "+280, -40 px" in found.detail
    assert "+30, +10 px" in found.detail


def stripe() -> Any:
    image = np.full((HEIGHT, WIDTH), 80, np.uint8)
    image[200:280] = 180
    return image


def disc() -> Any:
    image = np.full((HEIGHT, WIDTH), 80, np.uint8)
    cv2.circle(image, (320, 240), 120, 180, -1, cv2.LINE_AA)
    return image


@pytest.mark.parametrize(
    ("reference", "settings", "expected"),
    [
        (
            np.full((HEIGHT, WIDTH), 128, np.uint8),
            Settings(),
            "no texture to find it by .* light and focus",
        ),
        (stripe(), Settings(), r"looks the same moved by 32, 0 px.*locate.max_shift = 0"),
        (disc(), Settings(), r"looks the same turned by 7.5 degrees.*locate.max_angle = 0"),
        (disc(), Settings(box=(600, 0, 80, 80)), r"locate.box \[600, 0, 80, 80\].*640 x 480 px"),
        (disc(), Settings(box=(0, 0, 8, 80)), "at least 16 x 16 px"),
    ],
)
def test_a_reference_that_has_no_place_is_refused(
    reference: Any, settings: Settings, expected: str
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.6, reference.shape)
    noisy = np.clip(reference + noise, 0, 255).astype(np.uint8)
    with pytest.raises(CheckFailed, match=expected):
        Locator(noisy, settings)


def test_a_disc_has_a_place_where_no_angle_is_asked_for() -> None:
    locator = Locator(disc(), Settings(max_angle=0))
    image = cv2.warpAffine(
        disc(), np.array([[1.0, 0, -20], [0, 1, 12]]), (WIDTH, HEIGHT), borderValue=80
    )
    pose = locator.find(image).pose
    assert pose is not None
    assert (pose.dx, pose.dy, pose.angle) == (
        pytest.approx(-20, abs=0.1),
        pytest.approx(12, abs=0.1),
        0.0,
    )


def test_a_frame_of_another_size_is_refused(locator: Locator) -> None:
    with pytest.raises(ValueError, match="a frame of shape"):
        locator.find(np.zeros((HEIGHT, WIDTH + 2), np.uint8))


def test_a_frame_does_not_depend_on_the_one_before(lopsided: Lopsided, locator: Locator) -> None:
    images = [lopsided.render(i, "", part_placement(1, i, WIDTH, HEIGHT, 0.08, 12)) for i in (1, 2, 3)]
    first = [locator.find(image) for image in images]
    locator.find(np.zeros((HEIGHT, WIDTH), np.uint8))
    assert [locator.find(image) for image in reversed(images)] == first[::-1]
