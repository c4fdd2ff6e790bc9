"""From kept frames to features on disk: every part's views and tiles are one batch of the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Backbone
from edge_ad.bundle.zones import painted
from edge_ad.calibrate.augment import replicate
from edge_ad.calibrate.job import Job, Part, Skipped
from edge_ad.calibrate.looks import measure
from edge_ad.calibrate.screen import Tell
from edge_ad.calibrate.stored import StoredFeatures
from edge_ad.calibrate.zoning import Zoning
from edge_ad.calibration_set import read_frame
from edge_ad.engines import open_features
from edge_ad.errors import CaptureError
from edge_ad.frame import Image
from edge_ad.locate import PartLocator, Pose, Straight
from edge_ad.locate.regions import always_inside
from edge_ad.monitor.looks import Looks
from edge_ad.preprocess import PartInput
from edge_ad.preprocess.views import count_tiles


class Extracted(NamedTuple):
    """Parts with features, those that would be FAULT for how they lie, why each of these and of the
    damaged ones has none, and by part with features how it looks as a whole in each camera."""

    used: list[Part]
    not_located: list[Part]
    left_out: list[Skipped]
    looks: dict[str, list[Looks | None]]


def extract(
    job: Job,
    backbone: Backbone,
    parts: Sequence[Part],
    locator: PartLocator,
    prepare: PartInput,
    store: StoredFeatures,
    tell: Tell,
) -> Extracted:
    """Write the features of the parts whose kept frames are whole and that are found in them into
    `store`, each followed by those of its altered copies."""
    local = job.local
    engine = open_features(
        job.engine,
        backbone,
        count_tiles(job.views),
        local=local is not None,
        dim=local.dim if local is not None else 0,
    )
    used: list[Part] = []
    damaged: list[Skipped] = []
    not_located: list[tuple[Part, Straight]] = []
    poses: list[tuple[Pose | None, ...]] = []
    looks: dict[str, list[Looks | None]] = {}
    for i, part in enumerate(parts):
        tell("features", i, len(parts))
        try:
            images = read_part(job, part)
        except CaptureError as error:
            damaged.append(Skipped(f"{part.id} {part.source}", "damaged", str(error)))
            continue
        straight = locator.straighten(images)
        poses.append(straight.poses)
        if straight.failure is not None:
            not_located.append((part, straight))
            continue
        rows = []
        rng = np.random.default_rng(len(used))
        for turn in range(1 + job.augment):
            seen = [replicate(x, rng) for x in straight.images] if turn else straight.images
            prepare.fill(seen, engine.input)
            pooled = engine.infer().copy()
            rows.append((pooled, None if engine.local is None else engine.local.copy()))
        if not all(_finite(pooled) and _finite(near) for pooled, near in rows):
            detail = "the network's features are NaN or Inf; look at the picture"
            damaged.append(Skipped(f"{part.id} {part.source}", "damaged", detail))
            continue
        for row in rows:
            store.append(*row)
        used.append(part)
        looks[part.id] = measure(job, images)
    tell("features", len(parts), len(parts))
    engine.close()
    lying = _lying_otherwise(job, locator, not_located, poses)
    return Extracted(used, [part for part, _ in not_located], [*damaged, *lying], looks)


def _lying_otherwise(
    job: Job,
    locator: PartLocator,
    parts: Sequence[tuple[Part, Straight]],
    poses: Sequence[tuple[Pose | None, ...]],
) -> list[Skipped]:
    """Why parts are not judged for how they lie; where a view reaches out of the frame with the region
    of it that never does."""
    remedies: dict[str, str] = {}
    skipped = []
    for part, straight in parts:
        place, view = straight.camera, straight.view
        if view and view not in remedies:
            finder = locator.finders[place]
            assert finder is not None
            seen = [pose[place] for pose in poses]
            roi = always_inside(
                finder.regions[view],
                [pose for pose in seen if pose is not None],
                finder.locator.middle,
                finder.locator.shape,
            )
            remedies[view] = (
                "; the parts lie too far off for any region"
                if roi is None
                else f"; with roi = {list(roi)} view {view} is inside of it for every part"
            )
        detail = f"camera {job.cameras[place].name}: {straight.failure}: {straight.detail}"
        skipped.append(Skipped(f"{part.id} {part.source}", "position", detail + remedies.get(view, "")))
    return skipped


def part_input(job: Job, height: int, width: int, zoning: Zoning) -> PartInput:
    """What prepares the job's parts for a network of this input size."""
    cameras = [camera.name for camera in job.cameras]
    zones = painted(zoning.rules, zoning.images)
    return PartInput(job.views, cameras, height, width, job.threads, zones)


def read_part(job: Job, part: Part) -> list[Image]:
    """A part's kept frames in the order of the cameras. Raises CaptureError when one is damaged."""
    return [read_frame(Path(job.directory), part.files[camera.name]) for camera in job.cameras]


def _finite(values: NDArray[Any] | None) -> bool:
    return values is None or bool(np.isfinite(values).all())
