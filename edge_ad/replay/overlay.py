"""What a verdict saw: the anomaly maps over the archived frames."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from edge_ad.config import Station
from edge_ad.errors import CheckFailed, ConfigError
from edge_ad.evidence.entry import Entry
from edge_ad.frame import Image
from edge_ad.preprocess.views import view_region
from edge_ad.reference import part_locator
from edge_ad.replay.parts import judged_by, open_for, read_part
from edge_ad.report.pictures import heat_overlay

GAP = 6  # white pixels between two cameras' pictures


def draw_entry(station: Station, entry: Entry, bundle: Path | None = None) -> Image:
    """The entry's frames, laid straight where the bundle locates, side by side under the anomaly maps of
    their views: BGR, clear at 0, hottest at the threshold. bundle: other than that which judged.

    Raises ConfigError for a bundle that has no maps, CheckFailed for a part that gets none, CaptureError
    for one that cannot be judged, ArtifactError and DeviceError.
    """
    path = bundle or judged_by(station, entry)
    engine = entry.record.body.engine if bundle is None else ""
    with closing(open_for(station, path, engine)) as inspector:
        manifest = inspector.bundle.manifest
        if manifest.local is None:
            raise ConfigError(
                f'{path}: has no map of what is unusual (calibration.profile = "paper"); only the '
                "default profile has"
            )
        images = read_part(entry, inspector)
        verdict = inspector.inspect_part(images)
        if verdict.maps is None:
            raise CheckFailed(
                f"{entry.path}: is {verdict.decision} {verdict.reason} by bundle {manifest.id}, "
                f"and so has no map ({verdict.detail})"
            )
        straight = part_locator(inspector.bundle).straighten(images).images
        pictures = [cv2.cvtColor(i, cv2.COLOR_GRAY2BGR) if i.ndim == 2 else i.copy() for i in straight]
        for view, anomaly in zip(manifest.views, verdict.maps, strict=True):
            picture = pictures[inspector.cameras.index(view.camera)]
            x, y, width, height = view_region(view, picture.shape)
            region = picture[y : y + height, x : x + width]
            region[:] = heat_overlay(np.ascontiguousarray(region), anomaly, verdict.threshold)
    return _side_by_side(pictures)


def _side_by_side(pictures: Sequence[Image]) -> Image:
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + GAP * (len(pictures) - 1)
    sheet = np.full((height, width, 3), 255, np.uint8)
    x = 0
    for picture in pictures:
        sheet[: picture.shape[0], x : x + picture.shape[1]] = picture
        x += picture.shape[1] + GAP
    return sheet
