"""The networks that engines are built of, pictures for them, and what hands them to tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.tensorrt.make import Converted

NETWORKS = ("embedded", "mobilenetv2_100", "tf_efficientnet_b4")

GetBackbone = Callable[[str], Backbone]
GetConverted = Callable[..., Converted]


def pictures(backbone: Backbone, batch: int, count: int = 8) -> list[NDArray[np.uint8]]:
    """Network inputs of soft waves with noise, each otherwise."""
    rows, columns = np.mgrid[: backbone.height, : backbone.width]
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        waves = [127 + 90 * np.sin(columns / w) * np.cos(rows / w) for w in rng.uniform(4, 30, 3)]
        shape = (batch, backbone.height, backbone.width, 3)
        found.append(np.clip(np.stack(waves, -1) + rng.normal(0, 12, shape), 0, 255).astype(np.uint8))
    return found
