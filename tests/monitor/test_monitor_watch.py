"""The monitor beside an inspection: what it takes of judged parts, and what it raises."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_bundle import make_bundle

from edge_ad.bundle import Bundle, open_bundle
from edge_ad.config import Monitor
from edge_ad.delivery.outcome import Outcome
from edge_ad.monitor.cusum import limit
from edge_ad.monitor.levels import level_means
from edge_ad.monitor.looks import STATISTICS
from edge_ad.monitor.watch import SCORE, Watch
from edge_ad.verdict import Decision, Reason, Verdict, fault

KEY = "openvino-f32"
LEVEL = ("", "distance_level2")
Distances = NDArray[np.float32]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("watched")))


def watching(bundle: Bundle) -> tuple[Watch, list[str]]:
    told: list[str] = []
    watch = Watch(Monitor(), ["top"], lambda level, text: told.append(f"{level}: {text}"))
    watch.follow(Monitor(), {"top": None}, bundle, KEY)
    return watch, told


def usual(bundle: Bundle, tiles: int = 1) -> tuple[float, Distances]:
    """Score and distances of a part that lies as the good ones in the middle do."""
    section = bundle.section(KEY)
    middle = [float(np.median(values)) for values in section.good_distances.values()]
    return float(np.median(section.good_scores)), np.array([middle] * tiles, np.float32)


def judged(bundle: Bundle, score: float, distances: Distances, engine: str = KEY) -> Outcome:
    verdict = Verdict(Decision.PASS, Reason.NONE, score, 99.0, "top", distances)
    return of_part(bundle, verdict, engine)


def of_part(bundle: Bundle, verdict: Verdict, engine: str = KEY) -> Outcome:
    return Outcome(
        1, "P1", 0, 0, 0, verdict, "disc", bundle.sha256, 0, (0, 0, 0, 0, 0), engine=engine, asked=True
    )


def test_features_that_drift_at_one_level_are_told_of_that_level(bundle: Bundle) -> None:
    """The score stays: where positions decide it, it hardly knows of the part as a whole."""
    watch, told = watching(bundle)
    score, distances = usual(bundle)
    for _ in range(200):
        watch.part(judged(bundle, score, distances))
    assert max(watch.drift.values()) < 0.2
    further = distances.copy()
    further[0, 1] = bundle.section(KEY).good_distances["level2"][-3]  # no further than a good part was
    for _ in range(60):
        watch.part(judged(bundle, score, further))
    assert [of for of, ratio in watch.drift.items() if ratio == 1.0] == [LEVEL]
    assert {of: n for of, n in watch.alarms.items() if n} == {LEVEL: 1}
    (warning,) = told
    assert warning.startswith("warning: drift: distance_level2 is higher than the calibration's good")
    assert warning.endswith("light, focus: compare with the bundle's reference pictures")
    for _ in range(60):
        watch.part(judged(bundle, score, distances))
    assert watch.drift[LEVEL] < 1.0
    assert told[1:] == [
        f"info: drift: distance_level2 is back where the good parts have it (now {distances[0, 1]:.4g})"
    ]


def test_a_part_of_several_tiles_is_their_mean(bundle: Bundle) -> None:
    rng = np.random.default_rng(3)
    distances = rng.uniform(1, 9, (5, 4, 3)).astype(np.float32)
    expected = [[sum(map(float, part[:, i])) / 4 for i in range(3)] for part in distances]
    np.testing.assert_allclose(level_means(distances), expected, rtol=1e-12)
    watch, _ = watching(bundle)
    score, whole = usual(bundle, 2)
    whole[0, 1] *= 0.5  # one tile nearer, the other as much further
    whole[1, 1] *= 1.5
    for _ in range(200):
        watch.part(judged(bundle, score, whole))
    assert max(watch.drift.values()) < 0.2


def test_what_was_not_judged_by_these_gaussians_does_not_count(bundle: Bundle) -> None:
    watch, told = watching(bundle)
    score, distances = usual(bundle)
    for _ in range(100):
        watch.part(judged(bundle, score, 9 * distances, engine="torch-f32"))
        watch.part(of_part(bundle, fault(Reason.LATE)))
        late = Verdict(Decision.FAULT, Reason.LATE, 9 * score, 99.0, "top", 9 * distances)
        watch.part(of_part(bundle, late))
    assert max(watch.drift.values()) == 0.0
    assert not any("drift" in text for text in told)


def without_levels(bundle: Bundle) -> Bundle:
    """As an earlier version wrote it."""
    section = msgspec.structs.replace(bundle.section(KEY), good_distances={})
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, engines={KEY: section}))


def test_a_bundle_without_the_levels_is_watched_as_before(bundle: Bundle) -> None:
    watch, told = watching(without_levels(bundle))
    assert set(watch.drift) == {SCORE, *(("top", name) for name in STATISTICS)}
    assert told == []
    score, distances = usual(bundle)
    for _ in range(60):
        watch.part(judged(bundle, 9 * score, 9 * distances))
    assert watch.drift[SCORE] == 1.0


def test_the_stated_rate_is_that_of_all_statistics_together(bundle: Bundle) -> None:
    score, distances = usual(bundle)
    ratios = []
    for one in (without_levels(bundle), bundle):
        watch, _ = watching(one)
        watch.part(judged(bundle, 9 * score, distances))
        ratios.append(watch.drift[SCORE])
    more = len(STATISTICS) + 1 + len(bundle.manifest.levels)
    rate = Monitor().drift_parts
    expected = limit(rate, more) / limit(rate, len(STATISTICS) + 1)
    assert expected > 1.02
    assert ratios[0] / ratios[1] == pytest.approx(expected)
