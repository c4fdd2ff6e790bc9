"""Defects are put onto what is looked at, wherever the part lies."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_station import write_station

from edge_ad.bundle import ViewRule
from edge_ad.calibrate import Request as CalibrateRequest
from edge_ad.calibrate import calibrate
from edge_ad.capture.parts import part_placement, plate
from edge_ad.errors import ConfigError
from edge_ad.locate import Pose
from edge_ad.resolution import Request, measure
from edge_ad.resolution.ground import Ground

SHAPE = (80, 100)


def test_nothing_is_put_where_it_is_ignored() -> None:
    hidden = np.zeros(SHAPE, np.bool_)
    hidden[:, 20:90] = True
    view = ViewRule(name="v", camera="c", roi=(10, 10, 85, 60))
    ground, rng = Ground({"c": hidden}), np.random.default_rng(0)
    places = np.array([ground.choose(view, SHAPE, (3, 3), rng) for _ in range(300)])
    middles = places + 1
    assert not hidden[middles[:, 1], middles[:, 0]].any()
    assert middles[:, 0].min() < 14
    assert middles[:, 0].max() > 89
    hidden[:] = True
    with pytest.raises(ConfigError, match="view 'v' is ignored nearly as a whole"):
        ground.choose(view, SHAPE, (3, 3), rng)


def test_a_defect_lies_where_the_part_does() -> None:
    ground = Ground(middles={"c": np.array([49.5, 39.5])})
    assert ground.on_part("c", None, SHAPE, (5, 5), (20, 30)) == (20, 30)
    assert ground.on_part("d", Pose(5.0, 0.0, 0.0), SHAPE, (5, 5), (20, 30)) == (20, 30)
    assert ground.on_part("c", Pose(7.0, -4.0, 0.0), SHAPE, (5, 5), (20, 30)) == (27, 26)
    # Turned counter-clockwise by 90 degrees, what was to the left of the middle is below it.
    assert ground.on_part("c", Pose(0.0, 0.0, 90.0), SHAPE, (5, 5), (29, 37)) == (47, 56)
    assert ground.on_part("c", Pose(90.0, 0.0, 0.0), SHAPE, (5, 5), (20, 30)) == (95, 30)


def test_defects_on_parts_that_lie_about(tmp_path: Path) -> None:
    """A small view of the plate's middle: put where the view is in the frame, many would miss it."""
    for index in range(60):
        placement = part_placement(1, index, 320, 240, 0.08, 4)
        for name in ("good",) if index < 40 else ("others",):
            (tmp_path / name).mkdir(exist_ok=True)
            image = plate(1, 320, 240).render(index, "", placement)
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), image)
    locate = '[camera.locate]\n[[view]]\nname = "v"\ncamera = "top"\nroi = [136, 96, 48, 48]\n'
    station = write_station(tmp_path, extra=f'frame_size = "fixed"\n{locate}')
    calibrate(station, CalibrateRequest(directory=tmp_path / "good"))
    request = Request(good=tmp_path / "others", sizes=(12.0,), contrast=1.0, trials=20, kinds=("stain",))
    (stain,) = measure(station, request).kinds
    assert stain.sizes[0].detected >= 18
