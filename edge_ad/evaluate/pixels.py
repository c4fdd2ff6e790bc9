"""Pixel AUROC and AUPRO (mean per-region overlap) of anomaly maps, in memory that the images' number and
sizes do not move.

Pixels are counted in bins of their score, at full resolution: the bins are the floats above the lowest
score cut to 11 bits of mantissa, so each is 0.05 % wide or narrower, whatever the scale and however long
the tail. What falls into one bin counts as tied; by that the result may differ from an exact one.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FPR_LIMIT = 0.3
_SHIFT = 12  # of float32's 23 bits of mantissa
_BINS = (0x7F800000 >> _SHIFT) + 1


def enlarge(cells: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A map [rows, columns] at the image's size [H, W], bilinear between the cells' centres."""
    height, width = shape
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


class PixelScores:
    """Counts of normal and defective pixels per score. Owns three histograms, 13 MB in all."""

    def __init__(self, lowest: float) -> None:
        """`lowest`: no score will be below it; the smallest value of all maps."""
        self._lowest = np.float32(lowest)
        self._normal = np.zeros(_BINS, np.int64)
        self._defect = np.zeros(_BINS, np.int64)
        self._overlap = np.zeros(_BINS, np.float64)  # of every region, the share of its area
        self.regions = 0

    def add(self, values: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> None:
        """Count one image: its map at full size, float32 [H, W], and the defect's pixels, bool [H, W];
        no mask for a good part. Regions are the mask's 8-connected components."""
        if not np.isfinite(values).all():
            raise ValueError("a map holds NaN or Inf")
        bins = self._bins(values)
        if mask is None:
            self._normal += np.bincount(bins.ravel(), minlength=_BINS)
            return
        self._normal += np.bincount(bins[~mask], minlength=_BINS)
        inside = bins[mask]
        self._defect += np.bincount(inside, minlength=_BINS)
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        label = np.asarray(labels)[mask]
        share = 1.0 / np.maximum(np.bincount(label, minlength=count), 1)
        self._overlap += np.bincount(inside, weights=share[label], minlength=_BINS)
        self.regions += count - 1

    def auroc(self) -> float | None:
        """Probability that a defective pixel's score exceeds a normal one's; None without either."""
        normal, defect = int(self._normal.sum()), int(self._defect.sum())
        if not normal or not defect:
            return None
        below = np.cumsum(self._normal) - self._normal
        wins = (self._defect * (below + 0.5 * self._normal)).sum()
        return float(wins / normal / defect)

    def aupro(self, limit: float = FPR_LIMIT) -> float | None:
        """Area under the mean overlap of a region over the share of normal pixels above the threshold,
        up to the share `limit` and divided by it; None without a region or a normal pixel."""
        normal = int(self._normal.sum())
        if not self.regions or not normal:
            return None
        used = np.flatnonzero(self._normal + self._defect)[::-1]
        fpr = np.concatenate([[0.0], np.cumsum(self._normal[used]) / normal])
        overlap = np.concatenate([[0.0], np.cumsum(self._overlap[used]) / self.regions])
        return area_to(fpr, overlap, limit) / limit

    def _bins(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        above = np.maximum(values - self._lowest, np.float32(0))
        # The bits of a float that is not negative are ordered as its value.
        return np.asarray(np.ascontiguousarray(above).view(np.uint32) >> _SHIFT, np.int64)


def area_to(x: NDArray[Any], y: NDArray[Any], limit: float) -> float:
    """Area under straight lines through (x, y), x rising, from x = 0 to `limit`."""
    end = int(np.searchsorted(x, limit, "right"))
    last = float(np.interp(limit, x, y))
    x = np.append(x[:end], limit)
    y = np.append(y[:end], last)
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)
