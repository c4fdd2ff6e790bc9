"""Numbers of the publications, to print beside measured ones (Rippel et al., ICPR 2020 and TIM 2021).

AUROC in per cent on MVTec AD's 15 classes; per-level values have no augmentation and no reduction, those
per class are EfficientNet-B4's sum over all levels, with augmentation.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CLASSES = (
    "carpet", "grid", "leather", "tile", "wood", "bottle", "cable", "capsule", "hazelnut", "metal_nut",
    "pill", "screw", "toothbrush", "transistor", "zipper",
)  # fmt: skip


class PerClass(NamedTuple):
    """B4, sum over levels, with augmentation: all components, and those of the last 1 % of variance."""

    plain: float
    npca: float


PER_CLASS = {
    "carpet": PerClass(100, 100),
    "grid": PerClass(81.7, 89.7),
    "leather": PerClass(99.7, 100),
    "tile": PerClass(99.8, 99.8),
    "wood": PerClass(98.6, 99.6),
    "bottle": PerClass(99.8, 100),
    "cable": PerClass(95.5, 95.0),
    "capsule": PerClass(93.8, 95.1),
    "hazelnut": PerClass(99.6, 99.1),
    "metal_nut": PerClass(94.7, 94.7),
    "pill": PerClass(88.4, 88.7),
    "screw": PerClass(85.4, 85.2),
    "toothbrush": PerClass(96.4, 96.9),
    "transistor": PerClass(96.3, 95.5),
    "zipper": PerClass(97.8, 97.9),
}
MEAN = PerClass(95.2, 95.8)
NPCA_SEM = 1.2

# Levels 1 to 9, then their sum, for EfficientNet-B0 to -B7.
PER_LEVEL = {
    0: (56.8, 62.3, 68.4, 73.8, 79.1, 86.1, 92.5, 92.2, 91.3, 90.6),
    1: (56.7, 58.2, 67.8, 73.6, 81.0, 87.1, 95.3, 94.7, 93.4, 93.3),
    2: (59.9, 59.5, 68.4, 75.2, 82.7, 89.1, 95.5, 94.7, 93.1, 93.6),
    3: (60.1, 62.0, 70.1, 73.5, 82.1, 91.2, 96.4, 94.8, 92.8, 94.0),
    4: (60.3, 62.0, 71.1, 75.6, 82.1, 89.1, 96.7, 95.5, 93.1, 94.8),
    5: (61.5, 63.7, 69.5, 76.5, 83.9, 89.0, 96.9, 96.2, 93.0, 95.2),
    6: (61.3, 63.2, 70.6, 75.1, 81.7, 88.1, 96.7, 95.7, 93.4, 95.3),
    7: (60.4, 61.6, 71.2, 76.8, 82.4, 87.5, 96.3, 95.7, 92.2, 94.2),
}
B4_SEM = (6.1, 6.4, 5.4, 5.5, 4.6, 3.1, 1.0, 1.1, 1.7, 1.6)


class LevelColumn(NamedTuple):
    """One network's column of the table: levels 1 to 9 and the sum; `sem` where it was found."""

    network: str
    auroc: tuple[float, ...]
    sem: tuple[float, ...] | None


def level_column(name: str) -> LevelColumn:
    """The column of the network of this name; EfficientNet-B4's for any other network."""
    found = re.search(r"efficientnet_b([0-7])", name)
    size = int(found.group(1)) if found else 4
    return LevelColumn(f"EfficientNet-B{size}", PER_LEVEL[size], B4_SEM if size == 4 else None)
