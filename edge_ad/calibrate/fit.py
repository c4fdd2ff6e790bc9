"""From kept frames to what goes into the bundle: every engine is fitted on the same parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_ad.backbone.spec import Backbone
from edge_ad.bundle import CameraRule, all_tiles
from edge_ad.bundle.tensors import Tensors
from edge_ad.calibrate.engine_fit import Ready, fit_engine, follow_engine
from edge_ad.calibrate.features import part_input
from edge_ad.calibrate.gate import check_alike
from edge_ad.calibrate.job import Job, Outcome, Part, Score, Skipped
from edge_ad.calibrate.locating import find_references
from edge_ad.calibrate.screen import Tell
from edge_ad.calibrate.stored import StoredFeatures
from edge_ad.calibrate.zoning import find_zones


def fit(
    job: Job,
    backbone: Backbone,
    parts: Sequence[Part],
    skipped: Sequence[Skipped],
    rules: dict[str, CameraRule],
    tell: Tell,
) -> tuple[Outcome, Tensors]:
    """Fit every tile on `parts`, for each of the job's engines. Raises CheckFailed (too few parts,
    nothing to fit, engines that judge otherwise) and DeviceError."""
    sample = [part for part in parts if not part.declared]
    located = find_references(job, sample, rules, tell)
    zoning = find_zones(job, rules)
    prepare = part_input(job, backbone.height, backbone.width, zoning)
    ready = Ready(located.locator, prepare, zoning)
    with StoredFeatures(Path(job.work)) as store:
        first = fit_engine(job, backbone, parts, skipped, ready, store, tell)
    fits = [first]
    for engine in job.engines[1:]:
        with StoredFeatures(Path(job.work)) as store:
            other = follow_engine(job.of(engine), backbone, first, ready, store, tell)
        check_alike(first.judged, other.judged)
        fits.append(other)
    prepare.close()
    chosen, where = first.chosen, all_tiles(job.views)
    results = [
        Score(part, float(score), where[tile].view.name, where[tile].place)
        for part, score, tile in zip(chosen.used, first.scored.scores, first.scored.tile, strict=True)
    ]
    outcome = Outcome(
        results,
        chosen.suspects.parts,
        chosen.left_out,
        rules,
        {one.section.identity.key: one.section for one in fits},
        {one.section.identity.key: one.reference for one in fits},
        chosen.not_located,
        job.views,
        located.jitter,
        zoning.rules,
        chosen.looks,
    )
    return outcome, {name: tensor for one in fits for name, tensor in one.tensors.items()}
