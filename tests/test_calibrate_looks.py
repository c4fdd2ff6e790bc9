"""A calibration keeps what its good parts look like, how they score and how far they lie at each level
of the network, for the monitor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_station import active_bundle, edge_ad, part_image, write_parts, write_station

from edge_ad.bundle import open_bundle
from edge_ad.config import Monitor
from edge_ad.engines import EngineChoice
from edge_ad.errors import ConfigError
from edge_ad.inspector import open_inspector
from edge_ad.monitor.levels import distance_of, level_means
from edge_ad.monitor.looks import STATISTICS, look
from edge_ad.monitor.reference import thinned
from edge_ad.monitor.watch import Watch

PARTS, PATCH = 30, (4, 4, 16, 12)
FIXED = f'frame_size = "fixed"\npatch = {list(PATCH)}'


def test_looks_and_scores_are_those_of_the_parts(tmp_path: Path) -> None:
    station = write_station(tmp_path, extra=FIXED)
    write_parts(tmp_path / "line", PARTS)
    done = edge_ad("calibrate", "-c", station.path, "--from", tmp_path / "line")
    assert done.returncode == 0, done.stderr
    bundle = open_bundle(active_bundle(station))
    good = bundle.manifest.preprocess.cameras["top"].looks
    assert good is not None
    assert good.patch == PATCH
    seen = [look(part_image(number), PATCH) for number in range(PARTS)]
    for place, name in enumerate(STATISTICS):
        assert getattr(good, name) == thinned([looks[place] for looks in seen])
    (section,) = bundle.manifest.engines.values()
    assert len(section.good_scores) == PARTS
    assert section.good_scores[section.promise.index - 1] == pytest.approx(section.threshold, rel=1e-5)
    levels = [level.name for level in bundle.manifest.levels]
    assert list(section.good_distances) == levels
    inspector = open_inspector(bundle, EngineChoice(threads=1))
    known = [inspector.inspect(part_image(number)).distances for number in range(PARTS)]
    inspector.close()
    for level, now in zip(levels, level_means(np.stack(known)).T, strict=True):
        assert len(section.good_distances[level]) == PARTS
        assert np.median(now) < np.median(section.good_distances[level])  # the fit knows them now
    told: list[str] = []
    watch = Watch(station.monitor, ["top"], lambda level, text: told.append(text))
    key = section.identity.key
    watch.follow(station.monitor, {"top": PATCH}, bundle, key)
    assert set(watch.drift) == {
        ("", "score"),
        *(("", distance_of(level)) for level in levels),
        *(("top", name) for name in STATISTICS),
    }
    assert told == []
    watch.follow(Monitor(drift_parts=5), {"top": (4, 4, 16, 13)}, bundle, key)
    assert ("top", "grey") not in watch.drift
    assert "camera 'top' has another patch than it was calibrated with" in told[-1]
    file = Path(station.path)
    file.write_text(file.read_text().replace("[4, 4, 16, 12]", "[4, 4, 16, 13]"))
    file.write_text(file.read_text().replace("[4, 4, 16, 13]", "[50, 4, 16, 12]"))
    outside = edge_ad("calibrate", "-c", station.path, "--refit")
    assert outside.returncode == 2
    assert "patch [50, 4, 16, 12] reaches out of its frames of 64 x 48 px" in outside.stderr


def test_frames_of_any_size_are_not_compared(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    write_parts(tmp_path / "line", PARTS)
    assert edge_ad("calibrate", "-c", station.path, "--from", tmp_path / "line").returncode == 0
    bundle = open_bundle(active_bundle(station))
    assert bundle.manifest.preprocess.cameras["top"].looks is None
    with pytest.raises(ConfigError, match=r"camera\[0\]\.patch: needs frames of one size"):
        write_station(tmp_path, extra="patch = [4, 4, 16, 12]")
    with pytest.raises(ConfigError, match=r"camera\[0\]\.dark: 99 is above bright = 98"):
        write_station(tmp_path, extra="dark = 99\nbright = 98")
