from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_station import edge_ad, part_image, write_parts, write_station

from edge_ad.bundle import open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.calibrate.run import Result
from edge_ad.calibration_set import SCREENING, CalibrationSet, load_set, set_directory
from edge_ad.config import Screen, Station, with_screen
from edge_ad.errors import CheckFailed
from edge_ad.gaussian.threshold import beta_quantile, percent

KEY = "openvino-f32"
GOOD, BAD = 60, 4
PROFILES = ["default", "paper"]


def dirty_parts(directory: Path, good: int = GOOD, bad: int = BAD) -> list[str]:
    """Good parts, and among them some with one and the same defect; the names of these."""
    write_parts(directory, good)
    names = []
    for number in range(bad):
        image = part_image(500 + number)
        image[4:20, 4:24] = 250
        names.append(f"part{10 * number:04d}_bad.png")
        assert cv2.imwrite(str(directory / names[-1]), image)
    return names


def station_of(directory: Path, profile: str = "default") -> Station:
    return write_station(directory, calibration=f'min_parts = 20\nprofile = "{profile}"')


def run(station: Station, directory: Path, screen: Screen) -> Result:
    request = Request(directory=directory, person="anna", reason="first")
    return calibrate(with_screen(station, screen), request)


def kept_set(station: Station, result: Result) -> CalibrationSet:
    sha256 = result.manifest.calibration_set.sha256
    return load_set(set_directory(station.state_path, station.product), sha256)


@pytest.mark.parametrize("profile", PROFILES)
def test_report_lists_the_defects_and_drops_nothing(tmp_path: Path, profile: str) -> None:
    station = station_of(tmp_path, profile)
    bad = dirty_parts(tmp_path / "good")
    result = calibrate(station, Request(directory=tmp_path / "good"))
    found = result.manifest.engines[KEY].screening
    assert found is not None
    sources = {record.id: record.source for record in kept_set(station, result).kept}
    assert sorted(sources[part] for part in found.suspects) == bad
    assert (found.mode, found.dropped, found.as_good) == ("report", 0, None)
    assert min(one.gap for one in found.suspects.values()) == pytest.approx(found.gap)
    assert result.manifest.counts["parts"] == GOOD + BAD
    page = result.report.read_text()
    first = page[page.index("Look at these first") : page.index("Scores of the good parts")]
    assert first.count("<img ") == BAD
    assert all(name in first for name in bad)
    text = "\n".join(result.summary(10))
    assert "suspects   4 parts listed, not dropped: at least" in text
    assert all(part in text for part in found.suspects)


@pytest.mark.parametrize("profile", PROFILES)
def test_drop_leaves_them_out_and_gives_the_promise_twice(tmp_path: Path, profile: str) -> None:
    station = station_of(tmp_path, profile)
    bad = dirty_parts(tmp_path / "good")
    result = run(station, tmp_path / "good", "drop")
    section, counts = result.manifest.engines[KEY], result.manifest.counts
    found = section.screening
    assert found is not None
    assert found.as_good is not None
    assert (counts["parts"], counts["dropped"], counts["screened"]) == (GOOD, 0, BAD)
    assert (section.promise.parts, found.as_good.parts, found.dropped) == (GOOD, GOOD + BAD, BAD)
    above = GOOD + 1 - section.promise.index + BAD
    assert found.as_good.expected == pytest.approx(above / (GOOD + BAD + 1))
    assert found.as_good.confident == beta_quantile(0.95, above, section.promise.index)
    both = [section.promise, found.as_good]
    page, text = result.report.read_text().replace("&nbsp;", " "), "\n".join(result.summary(10))
    shown = edge_ad("bundle", "show", "-c", station.path).stdout
    for promise in both:
        for words in (page, text, shown):
            assert f"{percent(promise.expected)} false rejects expected" in words
            assert f"at most {percent(promise.confident)} with 95 % confidence" in words
    assert "if the 4 parts dropped by screening were good" in page
    records = kept_set(station, result).records
    source = {record.id: record.source for record in records if record.decision == "keep"}
    dropped = [record for record in records if record.decision == "drop"]
    assert sorted(source[record.id] for record in dropped) == bad
    assert {record.person for record in dropped} == {SCREENING}
    assert all("gap" in record.reason for record in dropped)
    assert list(source) == sorted(source)


def test_a_fit_after_the_drop_is_the_fit_of_the_good_parts(tmp_path: Path) -> None:
    station = station_of(tmp_path)
    dirty_parts(tmp_path / "good")
    dropped = run(station, tmp_path / "good", "drop")
    for path in (tmp_path / "good").glob("*_bad.png"):
        path.unlink()
    clean = run(station, tmp_path / "good", "report")
    assert dropped.manifest.engines[KEY].threshold == clean.manifest.engines[KEY].threshold


def test_a_refit_remembers_what_screening_dropped(tmp_path: Path) -> None:
    station = station_of(tmp_path)
    dirty_parts(tmp_path / "good")
    before = run(station, tmp_path / "good", "drop").manifest.engines[KEY]
    result = calibrate(station, Request(refit=True))
    found = result.manifest.engines[KEY].screening
    assert found is not None
    assert before.screening is not None
    assert result.manifest.counts["parts"] == GOOD
    assert (found.suspects, found.dropped, found.as_good) == ({}, BAD, before.screening.as_good)
    assert "if the 4 parts dropped by screening were good" in result.report.read_text()


def test_suspects_can_be_dropped_later_by_screening(tmp_path: Path) -> None:
    station = station_of(tmp_path)
    dirty_parts(tmp_path / "good")
    first = run(station, tmp_path / "good", "report")
    done = edge_ad("calibrate", "-c", station.path, "--refit", "--screen", "drop")
    assert done.returncode == 0, done.stderr
    assert "suspects   4 parts dropped" in done.stdout
    assert "if the 4 parts dropped by screening were good" in done.stdout
    suspects = first.manifest.engines[KEY].screening
    assert suspects is not None
    left = {record.id for record in kept_set(station, first).kept} - set(suspects.suspects)
    current = open_bundle(next((station.state_path / "bundles" / "disc").glob("current")).resolve())
    records = load_set(
        set_directory(station.state_path, station.product), current.manifest.calibration_set.sha256
    )
    assert {record.id for record in records.kept} == left


def test_a_clean_set_has_no_suspects_and_one_promise(tmp_path: Path) -> None:
    station = station_of(tmp_path)
    write_parts(tmp_path / "good", 60)
    result = run(station, tmp_path / "good", "drop")
    found = result.manifest.engines[KEY].screening
    assert found is not None
    assert (found.suspects, found.dropped, found.as_good, found.gap) == ({}, 0, None, 0.0)
    assert result.manifest.counts["parts"] == 60
    assert "Look at these first" not in result.report.read_text()
    assert not any("suspects" in line for line in result.summary(10))


def test_the_station_file_says_what_is_done(tmp_path: Path) -> None:
    station = write_station(tmp_path, calibration='min_parts = 20\nscreen = "drop"')
    dirty_parts(tmp_path / "good")
    done = edge_ad("calibrate", "-c", station.path, "--from", tmp_path / "good")
    assert "suspects   4 parts dropped" in done.stdout
    again = edge_ad("calibrate", "-c", station.path, "--from", tmp_path / "good", "--screen", "report")
    assert "suspects   4 parts listed, not dropped" in again.stdout
    wrong = edge_ad("calibrate", "-c", station.path, "--refit", "--screen", "maybe")
    assert wrong.returncode == 2
    assert "maybe" in wrong.stderr


def test_too_few_parts_after_the_drop_are_refused(tmp_path: Path) -> None:
    station = write_station(tmp_path, calibration=f"min_parts = {GOOD + 1}")
    dirty_parts(tmp_path / "good")
    with pytest.raises(
        CheckFailed, match=rf"{GOOD} usable good parts.*asks for {GOOD + 1}: give 1 more"
    ):
        run(station, tmp_path / "good", "drop")


def test_with_altered_copies_those_of_dropped_parts_go_too(tmp_path: Path) -> None:
    station = write_station(tmp_path, calibration="min_parts = 20\naugment = 1\nfolds = 2")
    dirty_parts(tmp_path / "good")
    section = run(station, tmp_path / "good", "drop").manifest.engines[KEY]
    assert (section.promise.parts, section.promise.method) == (GOOD, "crossfit-2, with replicates")


def test_several_views_are_judged_by_the_worst(tmp_path: Path) -> None:
    views = """
[[view]]
name = "left"
camera = "top"
roi = [0, 0, 32, 48]
[[view]]
name = "right"
camera = "top"
roi = [32, 0, 32, 48]
"""
    station = write_station(tmp_path, extra=views)
    bad = dirty_parts(tmp_path / "good")
    found = run(station, tmp_path / "good", "report")
    page = found.report.read_text()
    first = page[page.index("Look at these first") : page.index("Scores of the good parts")]
    assert all(f"{name} · left" in first for name in bad)
    screening = found.manifest.engines[KEY].screening
    assert screening is not None
    assert len(screening.suspects) == BAD
    assert np.isfinite([one.score for one in screening.suspects.values()]).all()
