"""From kept frames to Gaussians, threshold and promise, and the proof that the engine agrees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import ScoreEngine
from edge_ad.backbone.openvino import open_scorer
from edge_ad.backbone.spec import Backbone
from edge_ad.bundle import (
    CameraRule,
    DeclaredPart,
    Section,
    all_tiles,
    level_head,
    local_head,
    tile_scale,
)
from edge_ad.bundle.tensors import Tensors
from edge_ad.calibrate.agree import Answers, check_engine, joined_tiles
from edge_ad.calibrate.features import extract, part_input, read_part
from edge_ad.calibrate.job import Job, Outcome, Part, Score, Skipped
from edge_ad.calibrate.locating import find_references
from edge_ad.calibrate.scoring import check_threshold, score_parts, set_threshold
from edge_ad.calibrate.screen import Tell, check_enough
from edge_ad.calibrate.stored import StoredFeatures, part_rows, replicate_rows
from edge_ad.calibrate.suspects import find_suspects, screening
from edge_ad.calibrate.tile_fit import fit_settings, fit_tiles, reference_places
from edge_ad.calibrate.zoning import find_zones
from edge_ad.gaussian.score import level_sum
from edge_ad.gaussian.zones import Labels, part_scores
from edge_ad.locate import PartLocator
from edge_ad.preprocess import PartInput


def fit(
    job: Job,
    backbone: Backbone,
    parts: Sequence[Part],
    skipped: Sequence[Skipped],
    rules: dict[str, CameraRule],
    tell: Tell,
) -> tuple[Outcome, Tensors]:
    """Fit every tile on `parts`. Raises CheckFailed (too few parts, nothing to fit) and DeviceError."""
    with StoredFeatures(Path(job.work)) as store:
        sample = [part for part in parts if not part.declared]
        located = find_references(job, sample, rules, tell)
        zoning = find_zones(job, rules)
        prepare = part_input(job, backbone.height, backbone.width, zoning)
        used, not_located, not_used = extract(
            job, backbone, parts, located.locator, prepare, store, tell
        )
        left_out = [*skipped, *not_used]
        check_enough(used, left_out, job)
        sampled = np.array([not part.declared for part in used])
        features = store.tiles(part_rows(range(len(used)), job.augment))
        replicates = store.tiles(replicate_rows(len(used), job.augment)) if job.augment else None
        settings = zoning.settings(fit_settings(job), len(features))
        tiles = fit_tiles(job, features, settings, sampled, tell)
        outside = [tile.outside for tile in tiles]
        suspects = find_suspects(job, used, features, outside, settings, sampled, tell)
        if suspects.out.any() and job.screen == "drop":
            kept = ~suspects.out
            used, sampled = [used[i] for i in np.flatnonzero(kept)], sampled[kept]
            check_enough(used, left_out, job)
            features = [tile.take(kept) for tile in features]
            if replicates is not None:
                replicates = [tile.take(np.tile(kept, job.augment)) for tile in replicates]
            else:
                tiles = fit_tiles(job, features, settings, sampled, tell)
        if replicates is not None:
            tiles = fit_tiles(job, features, settings, sampled, tell, replicates)
    scored = score_parts(job, tiles, zoning, sampled)
    # What a person picked is no random sample: it is fitted, and says nothing of a rate.
    faults = sum(not part.declared for part in not_located)
    threshold, promise, chi2 = set_threshold(job, scored.scores[sampled], tiles, faults)
    promise = msgspec.structs.replace(promise, declared=int((~sampled).sum()))
    ordinary = [part for part in used if not part.declared]
    check_threshold(job, threshold, scored.scores[sampled], ordinary)
    tensors: Tensors = {}
    for tile in tiles:
        tensors |= tile.tensors
    engine = _open_scorer(job, backbone, tensors)
    picked = reference_places(sampled)
    names = [used[i].id for i in picked]
    picked = np.concatenate([picked, np.flatnonzero(~sampled)])
    answers = _reference(job, engine, located.locator, prepare, [used[i] for i in picked], tell)
    prepare.close()
    check_engine(job, names, answers.first(len(names)), joined_tiles([tile.expected for tile in tiles]))
    section = Section(
        identity=engine.identity,
        scales=scored.scales,
        threshold=threshold,
        promise=promise,
        levels=[tile.levels for tile in tiles],
        reference_scores={},
        chi2=chi2,
        local=[tile.local for tile in tiles if tile.local is not None],
        zones=scored.zones,
        screening=screening(job, suspects, promise),
    )
    engine.close()
    where = all_tiles(job.views)
    results = [
        Score(part, float(score), where[tile].view.name, where[tile].place)
        for part, score, tile in zip(used, scored.scores, scored.tile, strict=True)
    ]
    engine_scores = _engine_scores(job, answers, section, tensors, zoning.labels).tolist()
    found = dict(zip(names, engine_scores, strict=False))
    declared = {
        used[i].id: DeclaredPart(score, float(scored.scores[i]))
        for i, score in zip(picked[len(names) :], engine_scores[len(names) :], strict=True)
    }
    section = msgspec.structs.replace(section, declared=declared)
    outcome = Outcome(
        results, suspects.parts, left_out, rules, section, found, not_located, job.views, located.jitter,
        zoning.rules,
    )  # fmt: skip
    return outcome, tensors


def _open_scorer(job: Job, backbone: Backbone, tensors: Tensors) -> ScoreEngine:
    """The engine that will inspect, from the tensors that it will inspect with."""
    tiles = [tile.name for tile in all_tiles(job.views)]
    heads = [[level_head(tensors, job.key, name, level) for level in job.levels] for name in tiles]
    local = None if job.local is None else [local_head(tensors, job.key, name) for name in tiles]
    return open_scorer(backbone, heads, job.threads, job.precision, local)


def _reference(
    job: Job,
    engine: ScoreEngine,
    locator: PartLocator,
    prepare: PartInput,
    parts: Sequence[Part],
    tell: Tell,
) -> Answers:
    """What the engine that will inspect says of some parts."""
    distances, cells = [], []
    for i, part in enumerate(parts):
        tell("reference", i, len(parts))
        prepare.fill(locator.straighten(read_part(job, part)).images, engine.input)
        distances.append(engine.infer().copy())
        if engine.cells is not None:
            cells.append(engine.cells.copy())
    tell("reference", len(parts), len(parts))
    return Answers(np.stack(distances), np.stack(cells) if cells else None)


def _engine_scores(
    job: Job, answers: Answers, section: Section, tensors: Tensors, labels: Labels | None
) -> NDArray[np.float64]:
    """Scores [m] of parts as the inspector makes them."""
    whole = level_sum(answers.distances)
    if answers.cells is None:
        return np.asarray((whole / section.scales).max(axis=1))
    scale = tile_scale(tensors, job.key, all_tiles(job.views), section.local, labels)
    return part_scores(scale.scores(whole, answers.cells)[0], scale.zone.tolist(), section.zones)
