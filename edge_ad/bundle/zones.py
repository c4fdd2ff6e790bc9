"""The zones of a bundle: their rules, their label images, and what both mean for an engine's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.bundle.manifest import ViewRule, ZoneRule, label_image_file
from edge_ad.bundle.read import Bundle
from edge_ad.errors import ArtifactError
from edge_ad.gaussian.zones import IGNORED, REST, Labels
from edge_ad.preprocess.views import view_boxes
from edge_ad.preprocess.zones import LabelImage, tile_labels

Images = Mapping[str, LabelImage]  # by camera


def own_zones(zones: Sequence[ZoneRule]) -> list[ZoneRule]:
    """Those with a share of the false rejects; positions are labelled by their place here, from 1."""
    return [zone for zone in zones if zone.share > 0.0]


def ignored(zones: Sequence[ZoneRule], camera: str) -> list[int]:
    """Values of a camera's label image that are ignored."""
    return [zone.value for zone in zones if zone.camera == camera and zone.kind == "ignore"]


def painted(zones: Sequence[ZoneRule], images: Images) -> dict[str, tuple[LabelImage, list[int]]]:
    """By camera what `PartInput` takes."""
    return {camera: (image, ignored(zones, camera)) for camera, image in images.items()}


def position_labels(
    zones: Sequence[ZoneRule], images: Images, views: Sequence[ViewRule], grid: tuple[int, int]
) -> Labels | None:
    """[T, P]: the zone of every position of every tile; None where there are no zones."""
    if not zones:
        return None
    own = {zone.name: i for i, zone in enumerate(own_zones(zones), 1)}
    rows = []
    for view in views:
        if view.camera not in images:
            rows.append(np.zeros((view.tiles[0] * view.tiles[1], grid[0] * grid[1]), np.int16))
            continue
        image = images[view.camera]
        meaning = {
            zone.value: IGNORED if zone.kind == "ignore" else own.get(zone.name, REST)
            for zone in zones
            if zone.camera == view.camera
        }
        rows.append(tile_labels(image, view_boxes(view, image.shape), grid, meaning))
    return np.concatenate(rows)


def read_label_images(bundle: Bundle) -> dict[str, NDArray[np.uint8]]:
    """By camera that has zones its label image; ArtifactError where one is none of its frames' shape."""
    images = {}
    for camera in {zone.camera for zone in bundle.manifest.zones}:
        rule = bundle.manifest.preprocess.cameras[camera]
        images[camera] = _read(bundle.path / label_image_file(camera), (rule.height, rule.width))
    return images


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8 or image.shape != shape:
        found = "no image" if image is None else f"{image.dtype} {list(image.shape)}"
        raise ArtifactError(f"{path}: is {found} instead of uint8 {list(shape)}; calibrate again")
    return np.asarray(image, np.uint8)
