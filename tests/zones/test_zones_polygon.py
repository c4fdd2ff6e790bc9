from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_ad.errors import ConfigError
from edge_ad.zones.polygon import corners, fill

SHAPE = (12, 16)
Outline = list[tuple[float, float]]


def pixels(outline: Outline, shape: tuple[int, int] = SHAPE) -> NDArray[np.bool_]:
    found = np.zeros(shape, bool)
    fill(corners(outline, shape), found)
    return found


def naive(outline: Outline, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Even-odd rule at each pixel's middle, one by one."""
    inside = np.zeros(shape, bool)
    for row in range(shape[0]):
        for column in range(shape[1]):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(outline, outline[1:] + outline[:1], strict=True):
                if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                    inside[row, column] ^= True
    return inside


def test_a_rectangle_has_the_pixels_of_the_roi() -> None:
    """Borders on pixel edges: x 3 to 8 are columns 3 to 7."""
    expected = np.zeros(SHAPE, bool)
    expected[2:6, 3:8] = True
    np.testing.assert_array_equal(pixels([(3, 2), (8, 2), (8, 6), (3, 6)]), expected)
    np.testing.assert_array_equal(pixels([(3, 6), (8, 6), (8, 2), (3, 2)]), expected)  # the other way
    assert pixels([(0, 0), (16, 0), (16, 12), (0, 12)]).all()


def test_a_border_through_middles_belongs_on_the_left_and_above_only() -> None:
    expected = np.zeros(SHAPE, bool)
    expected[2:6, 3:8] = True
    np.testing.assert_array_equal(pixels([(3.5, 2.5), (8.5, 2.5), (8.5, 6.5), (3.5, 6.5)]), expected)


def test_an_l_and_a_triangle_by_hand() -> None:
    ell = pixels([(0, 0), (2, 0), (2, 2), (4, 2), (4, 4), (0, 4)], (4, 4))
    assert ell.astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    triangle = pixels([(0, 0), (4, 0), (0, 4)], (4, 4))  # the slope runs through the diagonal's middles
    assert triangle.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


sixteenths = st.integers(0, 16 * 12).map(lambda n: n / 16)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sixteenths, sixteenths), min_size=3, max_size=6))
def test_pixels_are_those_of_the_naive_rule(outline: Outline) -> None:
    try:
        found = pixels(outline, (12, 12))
    except ConfigError:
        return
    np.testing.assert_array_equal(found, naive(outline, (12, 12)))


@settings(max_examples=60, deadline=None)
@given(st.tuples(sixteenths, sixteenths), st.sampled_from([(0.0, 12.0), (12.0, 12.0), (12.0, 4.0)]))
def test_neighbours_share_no_pixel_and_leave_none_out(middle: tuple[float, float], end: object) -> None:
    """A square cut in four at any point."""
    ring = [(0.0, 0.0), (12.0, 0.0), (12.0, 12.0), (0.0, 12.0)]
    count = np.zeros((12, 12), int)
    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
        try:
            count += pixels([a, b, middle], (12, 12))
        except ConfigError as error:
            assert "area" in str(error) or "distinct" in str(error)
    assert (count == 1).all()


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([(1, 1), (5, 5), (5, 1), (1, 5)], "the edge 1, 1 - 5, 5 crosses the edge 5, 1 - 1, 5"),
        ([(1, 1), (9, 1), (9, 9), (5, 0.5)], "the edge 1, 1 - 9, 1 crosses the edge 9, 9 - 5, 0.5"),
        ([(0, 4), (8, 4), (8, 0), (4, 4), (4, 8), (0, 8)], "the edge 0, 4 - 8, 4 crosses the edge 8, 0"),
        ([(0, 4), (8, 4), (8, 6), (6, 6), (4, 4), (2, 0), (0, 0)], "the edge 0, 4 - 8, 4 crosses"),
        ([(1, 1), (5, 1), (1, 1), (5, 1)], "2 distinct corners"),
        ([(1, 1), (1, 1), (1, 1)], "0 distinct corners"),
        ([(1, 1), (5, 5), (3, 3)], "encloses no area"),
        ([(1, 1), (17, 1), (1, 5)], "corner 1 at 17, 1 is outside of the frame of 16 x 12 px"),
        ([(1, 1), (5, 1), (5, -0.1)], "corner 2 at 5, -0.1 is outside"),
        ([(1, 1), (float("nan"), 1), (1, 5)], "corner 1 at nan, 1 is outside"),
        ([(1, 1), (5, 1), (1, float("inf"))], "corner 2 at 1, inf is outside"),
        ([(1, 1), (1e300, 1), (1, 5)], "is outside"),
    ],
)
def test_an_outline_that_is_no_area_is_refused(outline: Outline, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pixels(outline)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("outline", "area"),
    [
        ([(1, 1), (9, 1), (5, 5), (9, 9), (1, 9), (5, 5)], 32),  # two triangles that meet in a corner
        ([(1, 1), (9, 1), (9, 5), (5, 1), (1, 5)], 16),  # a corner that touches an edge
        ([(1, 1), (5, 1), (8, 1), (5, 1), (5, 5), (1, 5)], 16),  # a line out and back
        ([(1, 1), (5, 1), (5, 1), (5, 5), (1, 5), (1, 1)], 16),  # closed by its first corner
    ],
)
def test_an_outline_that_touches_itself_is_allowed(outline: Outline, area: float) -> None:
    assert abs(int(pixels(outline).sum()) - area) <= 4


def test_what_a_tool_rounded_out_of_the_frame_is_moved_to_its_edge() -> None:
    assert pixels([(-0.001, 0), (16.001, 0), (16, 12.001), (0, 12)]).all()


def test_many_corners_take_no_time() -> None:
    turn = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    radius = 900 + 50 * np.cos(40 * turn)
    outline = [
        (1000 + x, 1000 + y) for x, y in zip(radius * np.cos(turn), radius * np.sin(turn), strict=True)
    ]
    found = pixels(outline, (2000, 2000))
    expected = 0.5 * float(np.mean(radius**2)) * 2 * np.pi
    assert abs(int(found.sum()) / expected - 1) < 1e-3
