"""From kept frames to Gaussians, threshold and promise, and the proof that the engine agrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.engine import ScoreEngine
from edge_ad.backbone.openvino import open_scorer
from edge_ad.backbone.spec import Backbone
from edge_ad.bundle import (
    CameraRule,
    Chi2,
    DeclaredPart,
    LevelFit,
    LocalFit,
    Section,
    all_tiles,
    level_fits,
    level_head,
    level_tensors,
    local_fit,
    local_head,
    local_tensors,
    tile_scale,
)
from edge_ad.bundle.tensors import Tensors
from edge_ad.calibrate.agree import Answers, check_engine, joined_tiles, numpy_answers
from edge_ad.calibrate.features import extract, part_input, read_part
from edge_ad.calibrate.job import Job, Outcome, Part, Score, Skipped, evenly
from edge_ad.calibrate.locating import find_references
from edge_ad.calibrate.screen import Tell, check_enough
from edge_ad.calibrate.stored import StoredFeatures, TileFeatures, part_rows, replicate_rows
from edge_ad.calibrate.suspects import find_suspects, scaled_scores, screening, tile_scales
from edge_ad.calibrate.zoning import Zoning, find_zones
from edge_ad.errors import CheckFailed
from edge_ad.gaussian.replicates import fit_with_replicates
from edge_ad.gaussian.score import level_sum
from edge_ad.gaussian.threshold import (
    CHI2,
    CONFIDENCE,
    Promise,
    beta_quantile,
    chi2_threshold,
    conformal,
)
from edge_ad.gaussian.view import FitSettings, fit_view
from edge_ad.gaussian.zones import REST, Labels, ZoneScale, by_zone, part_scores, zone_scales
from edge_ad.locate import PartLocator
from edge_ad.preprocess import PartInput

REFERENCE_FRAMES = 8
LEAST_THRESHOLD = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class TileFit:
    """What is kept of one tile's fit: the fits of all tiles in float64 would not fit into memory.

    outside: scores [n] of the fitted parts, each by a fit without it; rows: the same of the rest and of
    each zone; method: how; expected: what NumPy says of the reference parts.
    """

    outside: NDArray[np.float64]
    rows: list[NDArray[np.float64]]
    method: str
    levels: list[LevelFit]
    local: LocalFit | None
    expected: Answers
    tensors: Tensors


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
        tiles = _fit_tiles(job, features, settings, sampled, tell)
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
                tiles = _fit_tiles(job, features, settings, sampled, tell)
        if replicates is not None:
            tiles = _fit_tiles(job, features, settings, sampled, tell, replicates)
    scales = tile_scales([tile.outside[sampled] for tile in tiles], job.local is not None)
    scaled = scaled_scores([tile.outside for tile in tiles], scales)
    zones, rows, zone_of = _zone_scales(job, tiles, zoning, sampled)
    scores = part_scores(rows, zone_of, zones) if zones else scaled.max(axis=1)
    # What a person picked is no random sample: it is fitted, and says nothing of a rate.
    faults = sum(not part.declared for part in not_located)
    threshold, promise, chi2 = _threshold(job, scores[sampled], tiles, faults)
    promise = msgspec.structs.replace(promise, declared=int((~sampled).sum()))
    _check_threshold(job, threshold, scores[sampled], [part for part in used if not part.declared])
    tensors: Tensors = {}
    for tile in tiles:
        tensors |= tile.tensors
    engine = _open_scorer(job, backbone, tensors)
    picked = _reference_places(sampled)
    names = [used[i].id for i in picked]
    picked = np.concatenate([picked, np.flatnonzero(~sampled)])
    answers = _reference(job, engine, located.locator, prepare, [used[i] for i in picked], tell)
    prepare.close()
    check_engine(job, names, answers.first(len(names)), joined_tiles([tile.expected for tile in tiles]))
    section = Section(
        identity=engine.identity,
        scales=scales,
        threshold=threshold,
        promise=promise,
        levels=[tile.levels for tile in tiles],
        reference_scores={},
        chi2=chi2,
        local=[tile.local for tile in tiles if tile.local is not None],
        zones=zones,
        screening=screening(job, suspects, promise),
    )
    engine.close()
    where = all_tiles(job.views)
    results = [
        Score(part, float(score), where[tile].view.name, where[tile].place)
        for part, score, tile in zip(used, scores, scaled.argmax(axis=1), strict=True)
    ]
    engine_scores = _engine_scores(job, answers, section, tensors, zoning.labels).tolist()
    found = dict(zip(names, engine_scores, strict=False))
    declared = {
        used[i].id: DeclaredPart(score, float(scores[i]))
        for i, score in zip(picked[len(names) :], engine_scores[len(names) :], strict=True)
    }
    section = msgspec.structs.replace(section, declared=declared)
    outcome = Outcome(
        results, suspects.parts, left_out, rules, section, found, not_located, job.views, located.jitter,
        zoning.rules,
    )  # fmt: skip
    return outcome, tensors


def fit_settings(job: Job) -> FitSettings:
    """What is fitted in every tile."""
    grid = None if job.local is None else (job.local.rows, job.local.columns)
    return FitSettings(job.levels, job.reduction, job.folds, grid, job.regressors)


def _reference_places(sampled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of the parts that the engine and NumPy must agree on: ordinary ones, evenly over all."""
    return np.flatnonzero(sampled)[evenly(int(sampled.sum()), REFERENCE_FRAMES)]


def _fit_tiles(
    job: Job,
    features: Sequence[TileFeatures],
    settings: Sequence[FitSettings],
    sampled: NDArray[np.bool_],
    tell: Tell,
    replicates: Sequence[TileFeatures] | None = None,
) -> list[TileFit]:
    """Each tile's fit, with replicates where they are given; sampled: see `fit_view`."""
    tiles = []
    for i, tile in enumerate(all_tiles(job.views)):
        tell("fitting", i, len(features))
        of_tile = features[i].read()
        if replicates is None:
            fitted = fit_view(of_tile, settings[i], sampled)
        else:
            copies = replicates[i].read()
            fitted = fit_with_replicates(of_tile, copies, settings[i], sampled=sampled)
        tensors = level_tensors(job.key, tile.name, job.levels, fitted.gaussians)
        local = None
        if fitted.local is not None and fitted.combination is not None:
            tensors |= local_tensors(job.key, tile.name, fitted.local)
            local = local_fit(fitted.local, fitted.combination, fitted.patches)
        levels = level_fits(job.levels, fitted.gaussians)
        expected = numpy_answers(of_tile.take(_reference_places(sampled)), fitted)
        rows = fitted.rows or [fitted.outside]
        tiles.append(TileFit(fitted.outside, rows, fitted.method, levels, local, expected, tensors))
    tell("fitting", len(features), len(features))
    return tiles


def _zone_scales(
    job: Job, tiles: Sequence[TileFit], zoning: Zoning, sampled: NDArray[np.bool_]
) -> tuple[list[ZoneScale], NDArray[np.float64], list[int]]:
    """What puts the zones on one scale, empty where none has a share; the scores [n, R] of all tiles'
    rows, and which zone each row is of."""
    rows = np.stack([row for tile in tiles for row in tile.rows], axis=1)
    zones = []
    for tile in tiles:
        patches = tile.local.patches if tile.local is not None else []
        zones += [REST, *(patch.zone for patch in patches)]
    if not zoning.shares:
        return [], rows, zones
    by = by_zone(rows[sampled], zones, len(zoning.shares) + 1)
    return zone_scales(by, zoning.shares, job.rate), rows, zones


def _threshold(
    job: Job, scores: NDArray[np.float64], tiles: Sequence[TileFit], faults: int
) -> tuple[float, Promise, Chi2 | None]:
    """Conformal, or the paper's chi-squared whose rate is then counted on the out-of-sample scores.
    `faults`: good parts without a score, which are rejected whatever the threshold."""
    threshold, promise = conformal(scores, job.rate, tiles[0].method, faults)
    if len(tiles) > 1 or len(job.levels) > 1 or job.local is not None:
        return threshold, promise, None
    k = tiles[0].levels[0].k
    limit = chi2_threshold(k, job.rate)
    above = int((scores > limit).sum()) + faults
    n = len(scores) + faults
    chi2 = Chi2(threshold=limit, k=k, rate=job.rate, observed=above / n)
    if job.threshold == "conformal":
        return threshold, promise, chi2
    # For a threshold that does not come from the scores this is Laplace's rule, and Clopper and
    # Pearson's upper bound: the same Beta law as the conformal one with n - above as the index.
    confident = beta_quantile(CONFIDENCE, above + 1, n - above) if above < n else 1.0
    promise = Promise(
        method=f"{CHI2}, checked {tiles[0].method}",
        parts=n,
        target=job.rate,
        index=n - above,
        expected=(above + 1) / (n + 1),
        confident=confident,
        achievable=(above + 1) / (n + 1) <= job.rate,
        faults=faults,
    )
    return limit, promise, chi2


def _check_threshold(
    job: Job, threshold: float, scores: NDArray[np.float64], used: Sequence[Part]
) -> None:
    """Standardised scores are about 0 for an ordinary good part. A threshold there would be no unit for
    margins and tolerances, which are shares of it; a part very far out can stretch the scale so."""
    if threshold >= LEAST_THRESHOLD:
        return
    furthest = int(scores.argmax())
    raise CheckFailed(
        f"{len(used)} good parts: the threshold for a false-reject rate of {job.rate:g} is "
        f"{threshold:.4g}, where ordinary good parts are (it takes {LEAST_THRESHOLD:g}); look at "
        f"{used[furthest].source}, which lies furthest out (score {scores[furthest]:.4g}): leave it out "
        f"(--drop {used[furthest].id} for a kept part) if it is defective, else ask for a lower rate"
    )


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
