"""An archived part as an inspector takes it, and the inspector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec

from edge_ad.bundle import list_bundles, open_bundle
from edge_ad.bundle.manifest import MANIFEST_SHA
from edge_ad.calibrate.plan import spare_threads
from edge_ad.calibration_set import decode_frame
from edge_ad.config import Station
from edge_ad.engines import REFERENCE, chosen_engine
from edge_ad.errors import ArtifactError, CaptureError
from edge_ad.evidence.entry import Entry
from edge_ad.frame import Image
from edge_ad.inspector import Inspector, open_inspector


def open_for(station: Station, path: Path, engine: str = "") -> Inspector:
    """The bundle at `path` on the station's engine, and on the reference where `engine`, which judged,
    was not the station's; on the cores that a running daemon leaves. Raises ArtifactError and
    DeviceError."""
    threads = spare_threads(station)
    cv2.setNumThreads(threads)
    choice = chosen_engine(station, threads)
    if engine and engine != choice.key:
        choice = msgspec.structs.replace(REFERENCE, threads=threads)
    return open_inspector(open_bundle(path), choice)


def judged_by(station: Station, entry: Entry) -> Path:
    """The directory of the bundle that judged the entry. Raises ArtifactError where it has gone."""
    product, wanted = entry.record.header.product, entry.record.header.bundle
    for bundle in list_bundles(station.state_path, product):
        file = bundle.path / MANIFEST_SHA
        if wanted and file.is_file() and file.read_text().startswith(wanted):
            return bundle.path
    raise ArtifactError(
        f"{entry.path}: was judged by bundle {wanted[:12] or '(none)'}, which is not among those of "
        f"{product!r}; name one that is: 'edge-ad bundle list' shows them"
    )


def read_part(entry: Entry, inspector: Inspector) -> list[Image]:
    """The frames in the order of the inspector's cameras. Raises CaptureError for a part that the bundle
    cannot judge: without a picture, of another pixel rule, or damaged."""
    pictures, images = entry.record.pictures, []
    for name, rule in inspector.bundle.manifest.preprocess.cameras.items():
        if name not in pictures:
            raise CaptureError(f"has no picture of camera {name!r} ({_names(list(pictures))})")
        picture = pictures[name]
        if picture.pixel_rule != rule.pixel_rule:
            raise CaptureError(
                f"camera {name!r} had pixel rule {picture.pixel_rule!r}, the bundle has "
                f"{rule.pixel_rule!r}"
            )
        path = entry.path / picture.file
        try:
            image = decode_frame(path.read_bytes(), picture.file)
        except OSError as error:
            raise CaptureError(f"{picture.file} cannot be read ({error.strerror})") from error
        if (*image.shape[:2], 1 if image.ndim == 2 else image.shape[2]) != tuple(picture.shape):
            raise CaptureError(f"{picture.file} is {image.shape}, the verdict says {picture.shape}")
        images.append(image)
    return images


def _names(cameras: Sequence[str]) -> str:
    return f"only of {', '.join(cameras)}" if cameras else "there is none"
