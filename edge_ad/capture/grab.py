"""One picture from a camera, for people and for checks."""

from __future__ import annotations

from pathlib import Path

from edge_ad.capture.leaving import let_go
from edge_ad.capture.shots import ShotDealer, read_part
from edge_ad.capture.source import open_source
from edge_ad.config import Camera
from edge_ad.errors import CaptureError
from edge_ad.frame import Image

# A live camera's first frames are often dark, until its exposure has settled. That of a camera that is
# told all of it does not change, and it may wait for a part to trigger each.
WARM_UP_FRAMES = 5


def grab(camera: Camera, base: Path, shot: str = "", join_ms: float = 0.0) -> tuple[Image, str]:
    """A picture (uint8, H x W grey or H x W x 3 BGR) and its pixel rule. Of a camera with shots the one
    named, "" for the first; see `Station.join_ms`. Raises CaptureError."""
    source = open_source(camera, base)
    source.open()
    try:
        dealer = ShotDealer(len(camera.shots), source.live, keyed=False) if camera.shots else None
        for _ in range(1 + WARM_UP_FRAMES * (source.live and camera.genicam is None)):
            frames = read_part(source, dealer, len(camera.shots), int(join_ms * 1e6))
        if frames is None:
            raise CaptureError(f"camera {camera.name!r}: {camera.uri} delivered no frame; check the uri")
        frame = frames[camera.shots.index(shot) if shot else 0]
        if frame.image is None:
            raise CaptureError(f"camera {camera.name!r}: {frame.detail or frame.fault}")
        return frame.image, source.pixel_rule_name
    finally:
        let_go(source)
