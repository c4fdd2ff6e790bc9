"""From kept frames to features on disk: every part's views and tiles are one batch of the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone
from edge_ad.bundle.zones import painted
from edge_ad.calibrate.augment import replicate
from edge_ad.calibrate.job import Job, Part, Skipped
from edge_ad.calibrate.screen import Tell
from edge_ad.calibrate.stored import StoredFeatures
from edge_ad.calibrate.zoning import Zoning
from edge_ad.calibration_set import read_frame
from edge_ad.errors import CaptureError
from edge_ad.frame import Image
from edge_ad.locate import PartLocator
from edge_ad.preprocess import PartInput
from edge_ad.preprocess.views import count_tiles


def extract(
    job: Job,
    backbone: Backbone,
    parts: Sequence[Part],
    locator: PartLocator,
    prepare: PartInput,
    store: StoredFeatures,
    tell: Tell,
) -> tuple[list[Part], list[Skipped]]:
    """Write the features of the parts whose kept frames are whole and that are found in them into
    `store`, each followed by those of its altered copies; returns these parts, and the others."""
    local = job.local
    engine = open_features(
        backbone,
        count_tiles(job.views),
        job.threads,
        job.precision,
        local=local is not None,
        dim=local.dim if local is not None else 0,
    )
    used: list[Part] = []
    left_out: list[Skipped] = []
    for i, part in enumerate(parts):
        tell("features", i, len(parts))
        try:
            images = read_part(job, part)
        except CaptureError as error:
            left_out.append(Skipped(f"{part.id} {part.source}", "damaged", str(error)))
            continue
        straight = locator.straighten(images)
        if straight.failure is not None:
            camera = job.cameras[straight.camera].name
            detail = f"camera {camera}: {straight.failure}: {straight.detail}"
            left_out.append(Skipped(part.source, "position", detail))
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
            left_out.append(Skipped(f"{part.id} {part.source}", "damaged", detail))
            continue
        for row in rows:
            store.append(*row)
        used.append(part)
    tell("features", len(parts), len(parts))
    engine.close()
    return used, left_out


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
