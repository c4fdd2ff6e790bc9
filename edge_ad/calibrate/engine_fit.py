"""One engine's features of the kept frames to its Gaussians, threshold and promise, and the proof that
the engine agrees with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import ScoreEngine
from edge_ad.backbone.spec import Backbone
from edge_ad.bundle import (
    DeclaredPart,
    GoodLooks,
    Section,
    all_tiles,
    level_head,
    local_head,
    tile_scale,
)
from edge_ad.bundle.tensors import Tensors
from edge_ad.calibrate.agree import Answers, check_engine, joined_tiles
from edge_ad.calibrate.features import extract, read_part
from edge_ad.calibrate.gate import Judged
from edge_ad.calibrate.job import Job, Part, Skipped
from edge_ad.calibrate.looks import good_looks
from edge_ad.calibrate.scoring import Scored, check_threshold, score_parts, set_threshold
from edge_ad.calibrate.screen import Tell, check_enough
from edge_ad.calibrate.stored import StoredFeatures, part_rows, replicate_rows
from edge_ad.calibrate.suspects import Suspects, find_suspects, screening
from edge_ad.calibrate.tile_fit import TileFit, fit_settings, fit_tiles, reference_places
from edge_ad.calibrate.zoning import Zoning
from edge_ad.engines import open_scorer
from edge_ad.errors import CheckFailed
from edge_ad.gaussian.score import level_sum
from edge_ad.gaussian.zones import Labels, part_scores
from edge_ad.locate import PartLocator
from edge_ad.monitor.levels import level_means
from edge_ad.monitor.reference import thinned
from edge_ad.preprocess import PartInput


@dataclass(frozen=True, slots=True)
class Ready:
    """What all engines share: how a part is laid straight and prepared, and its zones."""

    locator: PartLocator
    prepare: PartInput
    zoning: Zoning


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The parts that are fitted, which of them are a sample of the line [n], those that stand out, what
    was left out, parts that would be FAULT for how they lie, and how those of the sample look."""

    used: list[Part]
    sampled: NDArray[np.bool_]
    suspects: Suspects
    left_out: list[Skipped]
    not_located: list[Part]
    looks: dict[str, GoodLooks]


@dataclass(frozen=True, slots=True, eq=False)
class EngineFit:
    """An engine's fit: the parts' scores, its section and tensors, and its own scores of some parts."""

    chosen: Chosen
    scored: Scored
    section: Section
    tensors: Tensors
    reference: dict[str, float]

    @property
    def judged(self) -> Judged:
        """What the engine says of the parts of the sample."""
        scores = self.scored.scores[self.chosen.sampled]
        return Judged(self.section.identity, scores, self.section.threshold)


def fit_engine(
    job: Job,
    backbone: Backbone,
    parts: Sequence[Part],
    skipped: Sequence[Skipped],
    ready: Ready,
    store: StoredFeatures,
    tell: Tell,
) -> EngineFit:
    """Fit every tile on `parts`, the unusual ones among them left out where the job says so. Raises
    CheckFailed (too few parts, nothing to fit) and DeviceError."""
    used, not_located, damaged, seen = extract(
        job, backbone, parts, ready.locator, ready.prepare, store, tell
    )
    left_out = [*skipped, *damaged]
    check_enough(used, left_out, job)
    sampled = np.array([not part.declared for part in used])
    features = store.tiles(part_rows(range(len(used)), job.augment))
    replicates = store.tiles(replicate_rows(len(used), job.augment)) if job.augment else None
    settings = ready.zoning.settings(fit_settings(job), len(features))
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
    looks = good_looks(job, [seen[used[i].id] for i in np.flatnonzero(sampled)])
    chosen = Chosen(used, sampled, suspects, left_out, not_located, looks)
    return _settled(job, backbone, ready, tiles, chosen, tell)


def follow_engine(
    job: Job, backbone: Backbone, first: EngineFit, ready: Ready, store: StoredFeatures, tell: Tell
) -> EngineFit:
    """Fit another engine on exactly the parts that `first` was fitted on. Raises CheckFailed where it
    has no features of one of them, else as `fit_engine` does."""
    parts, sampled = first.chosen.used, first.chosen.sampled
    used, _, damaged, _ = extract(job, backbone, parts, ready.locator, ready.prepare, store, tell)
    if len(used) < len(parts):
        raise CheckFailed(
            f"engine {job.key}: {damaged[0].source}: {damaged[0].detail}; engine "
            f"{first.section.identity.key} has features of it: leave the part out (--drop)"
        )
    features = store.tiles(part_rows(range(len(used)), job.augment))
    replicates = store.tiles(replicate_rows(len(used), job.augment)) if job.augment else None
    settings = ready.zoning.settings(fit_settings(job), len(features))
    tiles = fit_tiles(job, features, settings, sampled, tell, replicates)
    return _settled(job, backbone, ready, tiles, first.chosen, tell)


def _settled(
    job: Job,
    backbone: Backbone,
    ready: Ready,
    tiles: Sequence[TileFit],
    chosen: Chosen,
    tell: Tell,
) -> EngineFit:
    """Threshold and promise of a fit, and what the engine itself says of some parts.

    What a person picked is no random sample: it is fitted, and says nothing of a rate.
    """
    used, sampled = chosen.used, chosen.sampled
    faults = sum(not part.declared for part in chosen.not_located)
    scored = score_parts(job, tiles, ready.zoning, sampled)
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
    answers = _reference(job, engine, ready, [used[i] for i in picked], tell)
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
        screening=screening(job, chosen.suspects, promise),
        good_scores=thinned(scored.scores[sampled].tolist()),
        good_distances=_good_distances(job, tiles, sampled),
    )
    engine.close()
    own = _engine_scores(job, answers, section, tensors, ready.zoning.labels).tolist()
    declared = {
        used[i].id: DeclaredPart(score, float(scored.scores[i]))
        for i, score in zip(picked[len(names) :], own[len(names) :], strict=True)
    }
    section = msgspec.structs.replace(section, declared=declared)
    reference = dict(zip(names, own, strict=False))
    return EngineFit(chosen, scored, section, tensors, reference)


def _good_distances(
    job: Job, tiles: Sequence[TileFit], sampled: NDArray[np.bool_]
) -> dict[str, list[float]]:
    """How far the parts of the sample lie at each level, over all tiles."""
    means = level_means(np.stack([tile.distances[sampled] for tile in tiles], axis=1))
    return {
        level.name: thinned(values) for level, values in zip(job.levels, means.T.tolist(), strict=True)
    }


def _open_scorer(job: Job, backbone: Backbone, tensors: Tensors) -> ScoreEngine:
    """The engine that will inspect, from the tensors that it will inspect with."""
    tiles = [tile.name for tile in all_tiles(job.views)]
    heads = [[level_head(tensors, job.key, name, level) for level in job.levels] for name in tiles]
    local = None if job.local is None else [local_head(tensors, job.key, name) for name in tiles]
    return open_scorer(job.engine, backbone, heads, local)


def _reference(
    job: Job, engine: ScoreEngine, ready: Ready, parts: Sequence[Part], tell: Tell
) -> Answers:
    """What the engine that will inspect says of some parts."""
    distances, cells = [], []
    for i, part in enumerate(parts):
        tell("reference", i, len(parts))
        ready.prepare.fill(ready.locator.straighten(read_part(job, part)).images, engine.input)
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
