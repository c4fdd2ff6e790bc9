"""Zones of a frame as an engine's rows see them: which position lies in which, and what is painted over.

A zone that is ignored is painted grey in the network's input, at calibration and inspection alike, so
that nothing of it reaches the features of what lies beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.preprocess.resize import Roi

PAINT = 128  # grey of what is ignored
NOT, REST = -1, 0

LabelImage = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def tile_labels(
    image: LabelImage,
    boxes: Sequence[Roi],
    grid: tuple[int, int],
    meaning: Mapping[int, int],
    least: float = 0.0,
) -> NDArray[np.int16]:
    """[tiles, P]: what most of each position's pixels in a label image [H, W] mean; `meaning`: of the
    image's values, those it lacks mean 0, as what no more than a share `least` is."""
    return np.stack([_most(image[y : y + h, x : x + w], grid, meaning, least) for x, y, w, h in boxes])


def _most(
    image: LabelImage, grid: tuple[int, int], meaning: Mapping[int, int], least: float
) -> NDArray[np.int16]:
    rows, columns = grid
    best, labels = np.zeros(grid, np.float32), np.zeros(grid, np.int16)
    of_pixels = np.zeros(256, np.int16)
    for value, means in meaning.items():
        of_pixels[value] = means
    meant = of_pixels[image]
    for label in np.unique(meant).tolist()[::-1]:  # where as much is ignored as not, it is looked at
        share = (meant == label).astype(np.float32)
        share = cv2.resize(share, (columns, rows), interpolation=cv2.INTER_AREA)
        better = share > best
        labels[better], best[better] = label, share[better]
    labels[best <= least] = 0
    return labels.ravel()


def tile_masks(
    image: LabelImage, boxes: Sequence[Roi], size: tuple[int, int], ignored: Sequence[int]
) -> list[Mask | None]:
    """Per tile where its network input [height, width] shows something of what is ignored, None where it
    shows nothing of it; ignored: values of the label image [H, W]."""
    masks: list[Mask | None] = []
    hidden = np.isin(image, np.asarray(ignored, np.uint8))
    for x, y, w, h in boxes:
        part = hidden[y : y + h, x : x + w]
        if not part.any():
            masks.append(None)
            continue
        share = part.astype(np.float32)
        # Bilinear between area-averaged pixels: a touch of it anywhere near counts. Area alone is exact,
        # so each axis that is shrunk is done by itself; with another it would be bilinear.
        for shape in ((w, size[0]), (size[1], size[0])):
            shrunk = shape[0] < share.shape[1] or shape[1] < share.shape[0]
            how = cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR
            share = cv2.resize(share, shape, interpolation=how)
        shown = share > 0
        masks.append(np.asarray(cv2.dilate(shown.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0))
    return masks
