from __future__ import annotations

import numpy as np
import pytest
from tiny_station import part_image

from edge_ad.calibrate.augment import GAIN, replicate


@pytest.mark.parametrize("colours", [False, True], ids=["grey", "colour"])
def test_a_replicate_is_nearly_the_part(colours: bool) -> None:
    image = part_image(1)
    if colours:
        image = np.dstack([image, image, image])
    found = [replicate(image, np.random.default_rng(seed)) for seed in range(20)]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in found)
    assert not any(np.array_equal(one, image) for one in found)
    means = np.array([one.mean() for one in found]) / image.mean()
    assert means.min() > 1 - GAIN - 0.03
    assert means.max() < 1 + GAIN + 0.03
    assert means.std() > 0.02
    again = replicate(image, np.random.default_rng(3))
    assert np.array_equal(again, found[3])


def test_white_stays_white() -> None:
    white = np.full((40, 40), 255, np.uint8)
    assert all(replicate(white, np.random.default_rng(s)).min() > 200 for s in range(10))
