"""From a request to a result, by a bundle of the station."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from edge_ad.bundle import ViewRule
from edge_ad.bundle.manifest import Preprocess
from edge_ad.calibrate.collect import find_parts
from edge_ad.calibrate.progress import Progress, Silent
from edge_ad.capture.insertion import ROOM
from edge_ad.config import Station
from edge_ad.errors import ConfigError
from edge_ad.preprocess import pixels_per_input, tile_boxes
from edge_ad.qualify.judge import Reader, bundle_path, open_judge
from edge_ad.resolution.ground import ground_of
from edge_ad.resolution.parts import check_some, passing
from edge_ad.resolution.pictures import Examples
from edge_ad.resolution.request import SIZES, Request
from edge_ad.resolution.result import Resolution, Unused, View, kind_of
from edge_ad.resolution.trials import run_trials


def measure(station: Station, request: Request, progress: Progress | None = None) -> Resolution:
    """Judge rendered defects in good parts as the daemon would.

    Raises ConfigError, ArtifactError, CaptureError (nothing that can be read), CheckFailed (no part
    passes unaltered) and DeviceError.
    """
    progress = progress or Silent()
    path = bundle_path(station, request.bundle)
    candidates, incomplete = find_parts(request.good, [camera.name for camera in station.pictures])
    with closing(open_judge(station, path)) as inspector:
        manifest = inspector.bundle.manifest
        reader = Reader(station, inspector.cameras)
        rng = np.random.default_rng(request.seed)
        good = passing(inspector, reader, candidates, manifest.views, request.trials, rng, progress)
        check_some(good, request.good)
        views = _views(manifest.views, good.regions, manifest.preprocess)
        sizes = fitting_sizes(request.sizes, views)
        example = None if request.pictures is None else Examples(request.pictures)
        found = run_trials(
            inspector, reader, good.parts, manifest.views, sizes, request, progress, example,
            ground_of(inspector), good.poses,
        )  # fmt: skip
    absent = "not there for every camera"
    return Resolution(
        bundle=manifest.id,
        engine=inspector.identity,
        threshold=inspector.threshold,
        contrast=request.contrast,
        trials=request.trials,
        seed=request.seed,
        good=len(good.parts),
        unused=[
            *good.unused,
            *(Unused(source=name, why="incomplete", detail=absent) for name in incomplete),
        ],
        views=views,
        kinds=[kind_of(kind, sizes, views) for kind, sizes in found.items()],
    )


def fitting_sizes(wanted: Sequence[float], views: Sequence[View]) -> list[float]:
    """The sizes to try: `wanted`, or those of SIZES that fit where none were. ConfigError for one that
    has too little room in a view."""
    smallest = min(views, key=lambda view: min(view.width, view.height))
    limit = min(smallest.width, smallest.height) / ROOM
    if wanted and wanted[-1] > limit:
        raise ConfigError(
            f"--sizes: a defect of {wanted[-1]:g} px is too large for view {smallest.name!r} of "
            f"{smallest.width} x {smallest.height} px; give sizes up to {int(limit)}"
        )
    return list(wanted or [size for size in SIZES if size <= limit])


def _views(
    rules: Sequence[ViewRule], regions: Sequence[tuple[int, int]], network: Preprocess
) -> list[View]:
    return [
        View(
            name=rule.name,
            width=width,
            height=height,
            camera_px_per_network_px=pixels_per_input(
                tile_boxes((0, 0, width, height), rule.tiles, rule.overlap)[0],
                network.height,
                network.width,
            ),
        )
        for rule, (width, height) in zip(rules, regions, strict=True)
    ]
