"""Picture files as network inputs, cut and resized as the daemon does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad.capture.images import list_images, read_image
from edge_ad.capture.pixels import PixelRule
from edge_ad.errors import CaptureError
from edge_ad.preprocess.views import PartInput, ViewGeometry, count_tiles


def network_inputs(
    directory: Path,
    views: Sequence[ViewGeometry],
    rules: dict[str, PixelRule],
    size: tuple[int, int],
    batch: int,
    most: int,
    max_pixels: int,
) -> list[NDArray[np.uint8]]:
    """uint8 BGR [batch, H, W, 3] of at most `most` parts, evenly out of all; `size` is the network's.

    `rules` has the pixel rule of every camera. With one camera its pictures lie in `directory`, with
    several in directories of their names there, and the n-th ones by name are one part. Parts are taken
    as they lie. The last input is filled up from the first. Raises CaptureError for a picture that
    cannot be read, ConfigError where a view does not fit.
    """
    cameras = list(rules)
    folders = [directory / camera for camera in cameras] if len(cameras) > 1 else [directory]
    files = [list_images(folder) for folder in folders]
    counts = {len(of_camera) for of_camera in files}
    if len(counts) > 1:
        told = ", ".join(f"{folder.name} {len(f)}" for folder, f in zip(folders, files, strict=True))
        raise CaptureError(
            f"{directory}: the cameras have different numbers of pictures ({told}); give one of each "
            "per part"
        )
    count = counts.pop()
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
    part = PartInput(views, cameras, *size)
    rows = np.empty((len(chosen), count_tiles(views), *size, 3), np.uint8)
    for row, number in zip(rows, chosen.tolist(), strict=True):
        images = [
            read_image(of_camera[number], rules[camera], max_pixels)
            for camera, of_camera in zip(cameras, files, strict=True)
        ]
        part.fill(images, row)
    part.close()
    flat = rows.reshape(-1, *size, 3)
    filled = np.resize(flat, (-(-len(flat) // batch) * batch, *size, 3))
    return [np.ascontiguousarray(one) for one in filled.reshape(-1, batch, *size, 3)]
