"""The network in the package: whole, small, and its local features those of its own levels."""

from __future__ import annotations

import numpy as np
import openvino as ov

from edge_ad.backbone.grid import projection
from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import load_backbone
from edge_ad.config import EMBEDDED_BACKBONE


def test_it_is_whole_and_at_most_six_megabytes() -> None:
    backbone = load_backbone(EMBEDDED_BACKBONE)
    assert [level.stride for level in backbone.levels] == [2, 4, 8, 16, 16, 32]
    assert backbone.onnx_path.stat().st_size < 6e6


def test_local_features_are_averages_over_cells_of_its_own_levels() -> None:
    backbone = load_backbone(EMBEDDED_BACKBONE)
    local = backbone.local
    assert local is not None
    assert local.seed is not None
    pictures = np.random.default_rng(0).integers(
        0, 256, (2, backbone.height, backbone.width, 3), dtype=np.uint8
    )
    core = ov.Core()
    model = core.read_model(backbone.onnx_path)
    model.reshape(list(pictures.shape))
    levels = [level for level in backbone.levels if level.name in local.levels]
    model.add_outputs([level.tensor for level in levels])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    maps = list(compiled([pictures]).values())[2:]
    cells = []
    for level, found in zip(levels, maps, strict=True):
        side = local.stride // level.stride
        blocks = found.reshape(2, level.dim, local.rows, side, local.columns, side)
        cells.append(blocks.mean((3, 5)))
    joined = np.concatenate(cells, 1).reshape(2, -1, local.positions).transpose(0, 2, 1)
    expected = joined @ projection(joined.shape[2], local.dim, local.seed)
    engine = open_features(backbone, batch=2, threads=1, local=True)
    engine.input[:] = pictures
    engine.infer()
    assert engine.local is not None
    np.testing.assert_allclose(engine.local, expected, atol=1e-4 * np.abs(expected).max())
