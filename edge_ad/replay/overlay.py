"""What a verdict saw: the anomaly maps over the archived frames, as they were kept or made again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from edge_ad.calibration_set import decode_frame
from edge_ad.config import Station
from edge_ad.errors import CaptureError, CheckFailed, ConfigError
from edge_ad.evidence.entry import Entry
from edge_ad.frame import Image
from edge_ad.replay.parts import judged_by, open_for, read_part
from edge_ad.report.heat import part_drawer

GAP = 6  # white pixels between two cameras' pictures


def kept_overlay(entry: Entry) -> Image | None:
    """What was drawn when the part was judged, its cameras side by side, BGR; None where the entry has
    no such pictures, or one that cannot be read."""
    pictures = []
    for file in entry.record.overlays.values():
        try:
            pictures.append(decode_frame((entry.path / file).read_bytes(), file))
        except (OSError, CaptureError):
            return None
    return _side_by_side(pictures) if pictures else None


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
        drawer = part_drawer(manifest)
        if drawer is None:
            raise ConfigError(
                f'{path}: has no map of what is unusual (calibration.profile = "paper"); only the '
                "default profile has"
            )
        images = read_part(entry, inspector)
        verdict = inspector.inspect_part(images)
        maps = verdict.maps
        if maps is None:
            raise CheckFailed(
                f"{entry.path}: is {verdict.decision} {verdict.reason} by bundle {manifest.id}, "
                f"and so has no map ({verdict.detail})"
            )
        named = dict(zip(inspector.cameras, images, strict=True))
        pictures = drawer.draw(named, verdict.poses, maps, verdict.threshold)
    return _side_by_side(list(pictures.values()))


def _side_by_side(pictures: Sequence[Image]) -> Image:
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + GAP * (len(pictures) - 1)
    sheet = np.full((height, width, 3), 255, np.uint8)
    x = 0
    for picture in pictures:
        sheet[: picture.shape[0], x : x + picture.shape[1]] = picture
        x += picture.shape[1] + GAP
    return sheet
