"""Parts that a person declared good are fitted, but no scale, quantile or promise rests on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_station import part_image, write_parts, write_station

from edge_ad.backbone.spec import load_backbone
from edge_ad.calibrate.fit import fit
from edge_ad.calibrate.job import Candidate, Outcome
from edge_ad.calibrate.plan import choose_levels, plan_job
from edge_ad.calibrate.screen import check_enough, screen
from edge_ad.calibration_set import CalibrationSet
from edge_ad.errors import CheckFailed
from edge_ad.frame import Image
from edge_ad.gaussian.threshold import conformal

PARTS, RATE = 40, 0.05
FIXED = 'frame_size = "fixed"\n'
TILES = '[[view]]\nname = "all"\ncamera = "top"\ntiles = [1, 2]\n'
VIEWS = (
    '[[view]]\nname = "left"\ncamera = "top"\nroi = [0, 0, 32, 48]\n'
    '[[view]]\nname = "right"\ncamera = "top"\nroi = [32, 0, 32, 48]\n'
)
SEAL = (
    '[[zone]]\nname = "seal"\ncamera = "top"\nshare = 0.3\n'
    "polygon = [[0, 0], [32, 0], [32, 24], [0, 24]]\n"
)
PATHS = {
    "default": ("", ""),
    "paper": ("", 'profile = "paper"'),
    "paper, views": (VIEWS, 'profile = "paper"'),
    "npca": ("", "npca = 0.1\nfolds = 4"),
    "chi2": ("", 'profile = "paper"\nthreshold = "chi2"\nlevels = ["level4"]'),
    "tiles": (TILES, ""),
    "zones": (FIXED + SEAL, ""),
    "tiles and zones": (FIXED + TILES + SEAL, ""),
    "augment": ("", "augment = 1\nfolds = 3"),
    "paper, augment": ("", 'profile = "paper"\naugment = 1\nfolds = 5'),
}


def odd_image(number: int) -> Image:
    """A part with a stain that the others lack."""
    image = part_image(500 + number)
    image[4:20, 4:24] = 250
    return image


def outcome(
    directory: Path,
    odd: Sequence[Image],
    declared: bool,
    extra: str = "",
    calibration: str = "",
    good: int = PARTS,
    more: Sequence[Image] = (),
) -> Outcome:
    """Fit `good` ordinary parts, `more` of them, and some odd ones, in this process."""
    settings = f"min_parts = {PARTS}\nfalse_reject_rate = {RATE}\n{calibration}"
    station = write_station(directory, extra=extra, calibration=settings)
    parts = [
        Candidate(path.name, {"top": os.fsencode(path)}, stored=True)
        for path in write_parts(directory / "good", good)
    ]
    for name, images, picked in (("more", more, False), ("odd", odd, declared)):
        for i, image in enumerate(images):
            path = directory / f"{name}{i}.png"
            assert cv2.imwrite(str(path), image)
            parts.append(Candidate(path.name, {"top": os.fsencode(path)}, stored=True, declared=picked))
    backbone = load_backbone(station.backbone_path)
    work = directory / "work"
    work.mkdir(exist_ok=True)
    job = plan_job(
        station, backbone, choose_levels(station, backbone), CalibrationSet(), parts, {},
        directory / "kept", work,
    )  # fmt: skip

    def quiet(step: str, done: int, total: int) -> None:
        pass

    used, skipped, rules = screen(job, quiet)
    check_enough(used, skipped, job)
    return fit(job, backbone, used, skipped, rules, quiet)[0]


@pytest.mark.parametrize("name", PATHS)
def test_the_threshold_is_the_quantile_of_the_others(tmp_path: Path, name: str) -> None:
    extra, calibration = PATHS[name]
    odd = [odd_image(0), odd_image(1)]
    found = outcome(tmp_path, odd, True, extra, calibration)
    section, promise = found.section, found.section.promise
    ordinary = np.array([one.score for one in found.scores if not one.part.declared])
    assert len(found.scores) == PARTS + 2
    assert (promise.parts, promise.declared, len(ordinary)) == (PARTS, 2, PARTS)
    assert {len(values) for values in section.good_distances.values()} == {PARTS}
    if name != "chi2":
        threshold, alone = conformal(ordinary, RATE, promise.method)
        assert section.threshold == threshold
        assert (promise.index, promise.expected) == (alone.index, alone.expected)
        assert int((ordinary > threshold).sum()) == PARTS - promise.index
    else:
        assert promise.index == PARTS - int((ordinary > section.threshold).sum())
    assert sorted(section.declared) == [f"{PARTS + 1:06d}", f"{PARTS + 2:06d}"]
    for one in found.scores:
        if one.part.declared:
            now = section.declared[one.part.id]
            assert now.left_out == pytest.approx(one.score)
            assert now.score < now.left_out  # the fit knows it now
    assert not set(section.declared) & set(section.reference_scores)
    # As ordinary parts the same two are in the sample and pull the threshold up to themselves.
    ordinary_fit = outcome(tmp_path / "plain", odd, False, extra, calibration)
    plain = ordinary_fit.section
    assert (plain.promise.parts, plain.promise.declared, plain.declared) == (PARTS + 2, 0, {})
    odd_there = [one.score for one in ordinary_fit.scores if one.part.source.startswith("odd")]
    odd_here = [one.left_out for one in section.declared.values()]
    if name.startswith("paper"):
        assert min(odd_here) > section.threshold
        assert plain.threshold >= min(odd_there)
    elif name not in ("chi2", "augment"):
        # In deviations of the sample, which the odd parts widen there: they hide themselves.
        assert min(odd_here) > section.threshold
        assert sum(odd_here) / section.threshold > 1.1 * sum(odd_there) / plain.threshold


def test_scales_are_those_of_the_others(tmp_path: Path) -> None:
    """Sums of several tiles are divided by their median: of 40 parts, whatever 20 declared ones are."""
    odd = [odd_image(i) for i in range(20)]
    found = outcome(tmp_path, odd, True, VIEWS, 'profile = "paper"')
    ordinary = np.array([one.score for one in found.scores if not one.part.declared])
    assert 0.9 < np.median(ordinary) < 1.3
    mixed = outcome(tmp_path / "plain", odd, False, VIEWS, 'profile = "paper"')
    assert mixed.section.scales[0] > found.section.scales[0]  # left, where the stain is


@pytest.mark.parametrize("screen", ["report", "drop"])
def test_screening_neither_accuses_nor_drops_them(tmp_path: Path, screen: str) -> None:
    """Two parts with one defect are separated; declared good by a person they are not."""
    odd, more = [odd_image(0), odd_image(1)], f'screen = "{screen}"'
    accused = outcome(tmp_path / "plain", odd, False, calibration=more)
    assert [one.part.source for one in accused.suspects] in (
        ["odd0.png", "odd1.png"],
        ["odd1.png", "odd0.png"],
    )
    found = outcome(tmp_path, odd, True, calibration=more)
    assert found.suspects == []
    assert found.section.screening is not None
    assert found.section.screening.suspects == {}
    assert len(found.section.declared) == 2


def test_screening_still_finds_a_suspect_beside_them(tmp_path: Path) -> None:
    bad = part_image(900)
    bad[24:44, 36:60] = 0
    found = outcome(tmp_path, [odd_image(0)], True, calibration='screen = "drop"', more=[bad])
    assert [one.part.source for one in found.suspects] == ["more0.png"]
    assert len(found.section.declared) == 1
    assert found.section.promise.parts == PARTS


def test_they_do_not_make_up_for_missing_parts(tmp_path: Path) -> None:
    odd = [odd_image(i) for i in range(3)]
    message = rf"{PARTS - 1} usable good parts besides 3 declared good by a person.*give 1 more"
    with pytest.raises(CheckFailed, match=message):
        outcome(tmp_path, odd, True, good=PARTS - 1)
