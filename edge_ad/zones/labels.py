"""The zones of each camera as one label image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.images import printable
from edge_ad.config import Zone
from edge_ad.errors import ConfigError
from edge_ad.zones.annotations import read_outlines
from edge_ad.zones.files import find
from edge_ad.zones.label_image import read_label
from edge_ad.zones.polygon import corners, fill

Labels = NDArray[np.uint8]


def label_images(
    zones: Sequence[Zone], base: Path, shapes: Mapping[str, tuple[int, ...]], where: str = ""
) -> dict[str, Labels]:
    """For each camera of `shapes` that has zones its label image, uint8 [H, W]: 0 in no zone, k in the
    k-th of that camera's zones, from 1, in the order of the station file. (At most 250 zones: it fits.)

    `zones` are all of the station's; `base` is what relative file names are relative to; `shapes` are
    the frames' (rows, columns, ...), where the camera locates the reference part's; `where`, the station
    file, is named at the front of errors. "ignore" wins over "inspect"; of two "ignore" the first one in
    the station file.

    Raises ConfigError, naming the zone, its file and the remedy: for a source that cannot be read, does
    not fit the frame or is no area, for zones to inspect that overlap (a zone to ignore over them does
    not help), and for a zone without a pixel.
    """
    front = f"{where}: " if where else ""
    images = {}
    for camera, shape in shapes.items():
        own = [(f"zone[{i}]", zone) for i, zone in enumerate(zones) if zone.camera == camera]
        if own:
            try:
                images[camera] = _label_image(own, base, (shape[0], shape[1]))
            except ConfigError as error:
                raise ConfigError(f"{front}{error}") from error
    return images


def _label_image(own: Sequence[tuple[str, Zone]], base: Path, shape: tuple[int, int]) -> Labels:
    """`own`: one camera's zones, and where each stands in the station file."""
    labels = np.zeros(shape, np.uint8)
    ignored = np.zeros(shape, np.uint8)
    for k, (place, zone) in enumerate(own, 1):
        pixels = zone_pixels(zone, base, shape, place)
        if zone.kind == "ignore":
            ignored[pixels & (ignored == 0)] = k
            continue
        shared = pixels & (labels > 0)
        if shared.any():
            number = int(labels[shared][0])
            other, first = own[number - 1]
            shared &= labels == number
            raise ConfigError(
                f"{_source(zone, place)}: zone {zone.name!r} and {other}, {first.name!r}, "
                f"{_overlap(shared)}; a pixel is inspected by the rules of one zone, so draw them apart"
            )
        labels[pixels] = k
    labels = np.where(ignored > 0, ignored, labels)
    left = np.bincount(labels.reshape(-1), minlength=len(own) + 1)[1:]
    for (place, zone), count in zip(own, left.tolist(), strict=True):
        if not count:
            raise ConfigError(
                f"{_source(zone, place)}: zone {zone.name!r} has no pixel left, zones to ignore cover "
                "it; remove it or draw it larger"
            )
    return labels


def zone_pixels(zone: Zone, base: Path, shape: tuple[int, int], place: str) -> NDArray[np.bool_]:
    """A zone's pixels as its source has them, bool [H, W], at least one. Raises ConfigError that begins
    with `place`, such as "zone[2]"."""
    here = _source(zone, place)
    try:
        path = find(zone.file, base)
        if isinstance(zone.label, int):
            return read_label(path, zone.label, shape)
        if zone.label is None:
            outlines = [("", list(zone.polygon or ()))]
        else:
            outlines = read_outlines(path, zone.label, shape)
    except ConfigError as error:
        raise ConfigError(f"{here}: {error}") from error
    pixels = np.zeros(shape, np.bool_)
    for part, outline in outlines:
        try:
            fill(corners(outline, shape), pixels)
        except ConfigError as error:
            raise ConfigError(f"{here}: {part}{': ' if part else ''}{error}") from error
    if not pixels.any():
        raise ConfigError(f"{here}: zone {zone.name!r} has no pixel's middle in it; draw it larger")
    return pixels


def _source(zone: Zone, place: str) -> str:
    """The key that a zone is drawn by, and its file."""
    return f"{place}.file: {printable(Path(zone.file))}" if zone.file else f"{place}.polygon"


def _overlap(shared: NDArray[np.bool_]) -> str:
    rows, columns = np.flatnonzero(shared.any(axis=1)), np.flatnonzero(shared.any(axis=0))
    x0, x1, y0, y1 = (int(v) for v in (columns[0], columns[-1], rows[0], rows[-1]))
    return f"overlap in {int(shared.sum())} px at x {x0} to {x1}, y {y0} to {y1}"
