"""The size that is found, and how it is said."""

from __future__ import annotations

import pytest

from edge_ad.qualify.statistics import lower_bound
from edge_ad.resolution.result import View, kind_of, network_size, smallest_found, span, tried
from edge_ad.resolution.table import found_cell

VIEWS = [
    View(name="a", width=512, height=512, camera_px_per_network_px=2.0),
    View(name="b", width=1024, height=1024, camera_px_per_network_px=4.0),
]


@pytest.mark.parametrize(
    ("detected", "found"),
    [
        ({2: 60, 4: 60, 8: 60}, 2),
        ({2: 10, 4: 57, 8: 60}, 4),  # 57 of 60 are 95 %
        ({2: 10, 4: 56, 8: 60}, 8),
        ({2: 60, 4: 56, 8: 60}, 8),  # every larger size, too
        ({2: 60, 4: 60, 8: 56}, None),
    ],
)
def test_it_and_every_larger_size(detected: dict[int, int], found: float | None) -> None:
    sizes = [tried(size, 60, count, 0) for size, count in detected.items()]
    assert smallest_found(sizes) == smallest_found(sizes[::-1]) == found
    kind = kind_of("pit", sizes[::-1], VIEWS)
    assert kind.found == found
    assert [one.size for one in kind.sizes] == [2, 4, 8]
    assert kind.found_network == (None if found is None else (found / 4, found / 2))
    cell = {2: "<= 2 px", 4: "4 px", 8: "8 px", None: "> 8 px"}
    assert found_cell(kind) == cell[found]  # type: ignore[index]


def test_rates_and_bounds() -> None:
    one = tried(6, 60, 58, 1)
    assert (one.rate, one.confident, one.faults) == (58 / 60, lower_bound(58, 60), 1)
    assert tried(6, 60, 0, 0).confident == 0.0


def test_network_pixels() -> None:
    assert network_size(6, VIEWS) == (1.5, 3.0)
    assert (span((1.5, 3.0)), span((2.04, 2.01))) == ("1.5 to 3.0", "2.0")
