"""Parts before a background that is the same in every picture, to the last bit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_backbone import write_tiny_backbone
from tiny_station import part_image, write_station

from edge_ad.bundle import current_path, open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.engines import EngineChoice
from edge_ad.errors import CheckFailed
from edge_ad.gaussian.local import fit_local
from edge_ad.inspector import open_inspector
from edge_ad.verdict import Decision


def on_black(number: int) -> np.ndarray:
    image = np.zeros((128, 128), np.uint8)
    image[:48, :64] = part_image(number)
    return image


def test_a_mark_on_a_background_that_never_changed_is_rejected(tmp_path: Path) -> None:
    write_tiny_backbone(tmp_path / "net", size=128)
    (tmp_path / "good").mkdir()
    for number in range(40):
        assert cv2.imwrite(str(tmp_path / "good" / f"{number:03d}.png"), on_black(number))
    station = write_station(tmp_path)
    calibrate(station, Request(directory=tmp_path / "good"))
    path = current_path(station.state_path, station.product)
    assert path is not None
    inspector = open_inspector(open_bundle(path), EngineChoice(threads=1))
    passed = [inspector.inspect(on_black(number)).passed for number in range(100, 120)]
    assert sum(passed) >= 16
    marked = on_black(200)
    marked[104:110, 104:110] = 40
    verdict = inspector.inspect(marked)
    assert verdict.decision is Decision.REJECT
    assert verdict.maps is not None
    row, column = np.unravel_index(verdict.maps[0].argmax(), (8, 8))
    assert abs(row - 6) <= 1
    assert abs(column - 6) <= 1
    inspector.close()


@pytest.mark.parametrize("step", [0.0, 1e-6])
def test_a_position_that_hardly_changes_is_not_infinitely_sensitive(step: float) -> None:
    rng = np.random.default_rng(0)
    local = rng.normal(size=(60, 64, 8)).astype(np.float32)
    corner = local.reshape(60, 8, 8, 8)[:, 2:, 2:]  # more than half of them
    corner[:] = 0.3 + step * corner
    fit, outside = fit_local(local, (8, 8))
    assert np.isfinite(outside).all()
    changed = local[:1].copy()
    changed[0, -1] += 1e-4  # of what other positions vary by
    z = fit.z(np.sqrt(fit.d2(changed)))
    assert abs(z[0, :, -1]).max() < 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_that_are_not_finite_are_refused(value: float) -> None:
    local = np.random.default_rng(0).normal(size=(60, 4, 5)).astype(np.float32)
    local[3, 2, 1] = value
    with pytest.raises(CheckFailed, match="not finite; drop the parts"):
        fit_local(local, (2, 2))
