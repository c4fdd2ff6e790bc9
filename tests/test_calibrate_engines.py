"""A station on another engine than OpenVINO: both are fitted on the same parts, and must agree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.stats import spearmanr
from tiny_station import active_bundle, edge_ad, part_image, write_parts, write_station

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.bundle import open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.calibrate.gate import (
    MOST_DIFFERENT,
    Judged,
    check_alike,
    different_verdicts,
    rank_correlation,
    without_the_part,
)
from edge_ad.check import Finding, check_station
from edge_ad.config import Station, load_station
from edge_ad.engines import EngineChoice, chosen_engine, reference_engine
from edge_ad.errors import CheckFailed, ConfigError
from edge_ad.gaussian.threshold import conformal
from edge_ad.inspector import load, open_inspector
from edge_ad.verdict import Decision

ENGINE = '[engine]\nkind = "torch"\n'
PARTS = 40


def torch_station(directory: Path, engine: str = ENGINE) -> Station:
    write_station(directory)
    path = directory / "line.toml"
    path.write_text(path.read_text().replace("[engine]\n", engine))
    return load_station(path)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Station:
    directory = tmp_path_factory.mktemp("torch")
    station = torch_station(directory)
    write_parts(directory / "good", PARTS)
    calibrate(station, Request(directory=directory / "good", person="anna", reason="first"))
    return station


def test_both_engines_are_in_the_bundle(calibrated: Station) -> None:
    manifest = open_bundle(active_bundle(calibrated)).manifest
    assert list(manifest.engines) == ["torch-f32", "openvino-f32"]
    ours, reference = manifest.engines.values()
    assert ours.promise == reference.promise
    assert ours.threshold == pytest.approx(reference.threshold, rel=1e-3)
    assert set(ours.reference_scores) == set(reference.reference_scores)
    assert list(ours.good_distances) == list(reference.good_distances)
    for level, values in ours.good_distances.items():
        assert values == pytest.approx(reference.good_distances[level], rel=1e-3)
    for file, score in ours.reference_scores.items():
        assert score == pytest.approx(reference.reference_scores[file], abs=1e-3)


def test_each_section_judges_with_its_engine(calibrated: Station) -> None:
    bundle = open_bundle(active_bundle(calibrated))
    ours, theirs = (open_inspector(bundle, EngineChoice(kind)) for kind in ("torch", "openvino"))
    assert (ours.identity.kind, theirs.identity.kind) == ("torch", "openvino")
    for number in range(500, 510):
        found, expected = (one.inspect(part_image(number)) for one in (ours, theirs))
        assert found.score == pytest.approx(expected.score, rel=1e-3, abs=1e-3)
    spoilt = part_image(2000)
    spoilt[10:30, 20:44] = 255
    verdict = ours.inspect(spoilt)
    assert verdict.decision is Decision.REJECT
    assert verdict.maps is not None
    np.testing.assert_allclose(verdict.maps[0], theirs.inspect(spoilt).maps[0], rtol=1e-2, atol=1e-2)
    ours.close()
    theirs.close()


def test_a_bundle_is_loaded_without_pytorch(calibrated: Station) -> None:
    assert load(active_bundle(calibrated)).identity.kind == "openvino"


def test_the_station_file_decides(calibrated: Station, tmp_path: Path) -> None:
    chosen = chosen_engine(calibrated)
    assert (chosen.kind, chosen.precision, chosen.threads, chosen.device) == ("torch", "f32", 1, "")
    assert not chosen.on_gpu
    assert reference_engine(calibrated) == EngineChoice("openvino", threads=1)
    assert reference_engine(write_station(tmp_path)) is None
    with pytest.raises(ConfigError, match=r"engine.kind: .*'tensorflow'"):
        torch_station(tmp_path, '[engine]\nkind = "tensorflow"\n')


def test_refit_and_verdicts_on_the_command_line(calibrated: Station, tmp_path: Path) -> None:
    done = edge_ad("calibrate", "-c", calibrated.path, "--refit")
    assert done.returncode == 0, done.stderr
    done = edge_ad("bundle", "show", "-c", calibrated.path)
    assert done.returncode == 0, done.stderr
    assert "torch-f32" in done.stdout
    assert "openvino-f32" in done.stdout
    done = edge_ad("check", "-c", calibrated.path, "--json", "-")
    (engine,) = (one for one in json.loads(done.stdout)["checks"] if one["name"] == "engine")
    assert engine["state"] in ("ok", "warn")
    assert engine["text"].startswith("torch 2.")


def test_the_check_tells_whether_the_fallback_is_in_time(calibrated: Station) -> None:
    def found(station: Station) -> list[Finding]:
        return [one for one in check_station(station) if one.name == "fallback"]

    (finding,) = found(calibrated)
    assert finding.state == "ok"
    assert re.fullmatch(r"openvino-f32 would judge 99 % of parts within [\d.]+ ms", finding.text)
    (finding,) = found(msgspec.structs.replace(calibrated, deadline_ms=0.01))
    assert finding.state == "warn"
    assert "later than deadline_ms = 0.01: it cannot take the place" in finding.text
    own = msgspec.structs.replace(calibrated.engine, fallback=False)
    assert found(msgspec.structs.replace(calibrated, engine=own)) == []


@pytest.mark.parametrize(
    ("noise", "shift", "match"),
    [(0.5, 0.0, r"Spearman correlation of 100 .* 0\.[89]\d+ "), (0.0, 1.5, r"verdicts differ on \d")],
)
def test_an_engine_that_judges_otherwise_is_refused(noise: float, shift: float, match: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=100)
    reference = _judge("openvino", scores, 2.0)
    check_alike(_judge("torch", scores * 1.1 + 3, 2.0 * 1.1 + 3), reference)
    other = _judge("torch", scores + noise * rng.normal(size=100), 2.0 - shift)
    with pytest.raises(CheckFailed, match=match):
        check_alike(other, reference)


@pytest.mark.parametrize("parts", [20, 60, 150, 198])
def test_engines_whose_highest_part_is_another_are_refused(parts: int) -> None:
    scores = np.linspace(-1.0, 2.0, parts)
    scores[-2:] = 2.5, 2.7
    reference = _judge("openvino", scores, 2.7)
    other = scores.copy()
    other[-2:] = 2.7, 2.5
    assert rank_correlation(scores, other) > 0.99
    with pytest.raises(CheckFailed, match="verdicts differ on "):
        check_alike(_judge("torch", other, 2.7), reference)
    scores[-2:], other[-2:] = (2.69, 2.7), (2.7, 2.69)  # a near thing
    check_alike(_judge("torch", other, 2.7), _judge("openvino", scores, 2.7))
    other[-2:] = 2.7, 2.5  # near in one engine only
    with pytest.raises(CheckFailed, match="verdicts differ on "):
        check_alike(_judge("torch", other, 2.7), _judge("openvino", scores, 2.7))


@pytest.mark.parametrize("parts", [20, 60, 300])
def test_verdicts_tell_engines_that_have_nothing_in_common(parts: int) -> None:
    rng = np.random.default_rng(0)
    draws = [[_conformal(rng.normal(size=parts)) for _ in range(2)] for _ in range(200)]
    missed = np.mean([different_verdicts(*both) <= MOST_DIFFERENT for both in draws])
    assert missed < 0.1


@pytest.mark.parametrize("parts", [20, 60, 300])
def test_what_half_precision_moves_is_not_refused(parts: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        reference = _conformal(rng.normal(size=parts))
        moved = 0.0025 * reference.threshold * rng.normal(size=parts)
        check_alike(_conformal(reference.scores * 1.02 + moved), reference)


def test_a_threshold_that_is_no_score_stays_without_the_part() -> None:
    scores = np.array([0.5, 1.0, 1.5, 3.0])
    excess = without_the_part(_judge("torch", scores, 2.0))
    np.testing.assert_allclose(excess, (scores - 2.0) / 2.0)
    excess = without_the_part(_judge("torch", scores, 1.5))
    np.testing.assert_allclose(excess * 1.5, [-1.0, -0.5, 0.5, 2.0])
    # As the others set it, with as many above.
    for i in range(4):
        rest = np.delete(scores, i)
        assert (excess[i] > 0) == (scores[i] > np.sort(rest)[-2])


def _conformal(scores: np.ndarray) -> Judged:  # type: ignore[type-arg]
    return _judge("torch", scores, conformal(scores, 0.01, "")[0])


def _judge(kind: str, scores: np.ndarray, threshold: float) -> Judged:  # type: ignore[type-arg]
    return Judged(EngineIdentity(kind, "1.2", "a device", "f32", "0" * 64), scores, threshold)


def test_ranks_by_their_mean_where_they_are_equal() -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(0, 5, 60).astype(float)
    b = a + rng.integers(0, 3, 60)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert rank_correlation(a, a) == pytest.approx(1.0)
    assert np.isnan(rank_correlation(a, np.ones(60)))
