"""The check of an engine's features: it passes other runtimes, and finds coarse and broken engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone import openvino
from edge_ad.backbone import torch as torch_engine
from edge_ad.backbone.spec import load_backbone
from edge_ad.config import EMBEDDED_BACKBONE
from edge_ad.engines.alike import BOUNDS, check_features, feature_errors, reference_pictures
from edge_ad.errors import ArtifactError


def test_another_runtime_passes_and_a_coarse_one_does_not() -> None:
    backbone = load_backbone(EMBEDDED_BACKBONE)
    pictures = reference_pictures(backbone.height, backbone.width)
    reference = openvino.open_features(backbone, local=True)
    other = torch_engine.open_features(backbone, 5, local=True)  # 24 pictures are no multiple of 5
    errors = feature_errors(other, reference, backbone, pictures)
    assert list(errors) == [*(level.name for level in backbone.levels), "local"]
    assert check_features(errors, "f32", "engine") < 0.2 * BOUNDS["f32"]
    coarse = openvino.open_features(backbone, local=True)
    coarse.__class__ = Coarse
    errors = feature_errors(coarse, reference, backbone, pictures)
    with pytest.raises(ArtifactError, match=r"engine: features of 1 are 0\.\d+ standard deviations off"):
        check_features(errors, "f32", "engine")


class Coarse(openvino.OpenVinoFeatures):
    """Features as bfloat16 has them."""

    def infer(self) -> np.ndarray:  # type: ignore[type-arg]
        features = super().infer()
        features.view(np.uint32)[...] &= 0xFFFF0000
        return features


def test_one_broken_feature_is_found(tmp_path: Path) -> None:
    backbone = write_tiny_backbone(tmp_path)
    pictures = reference_pictures(backbone.height, backbone.width)
    reference = openvino.open_features(backbone)

    class Broken(openvino.OpenVinoFeatures):
        value = 0.0

        def infer(self) -> np.ndarray:  # type: ignore[type-arg]
            features = super().infer()
            features[:, 30] = self.value
            return features

    engine = openvino.open_features(backbone)
    engine.__class__ = Broken
    errors = feature_errors(engine, reference, backbone, pictures)
    assert errors["level3"] > 1
    assert {name for name, error in errors.items() if error > 0} == {"level3"}
    for precision in ("f32", "f16"):
        with pytest.raises(ArtifactError, match="features of level3"):
            check_features(errors, precision, "engine")
    engine.value = np.nan
    errors = feature_errors(engine, reference, backbone, pictures)
    with pytest.raises(ArtifactError, match="level3 are nan"):
        check_features(errors, "int8", "engine")


def test_pictures_are_the_same_everywhere_and_all_different() -> None:
    pictures = reference_pictures(40, 60)
    assert pictures.shape == (24, 40, 60, 3)
    np.testing.assert_array_equal(pictures, reference_pictures(40, 60))
    assert len({picture.tobytes() for picture in pictures}) == 24
    deviations = pictures.reshape(24, -1).std(axis=1)
    assert deviations.min() > 3
    assert deviations.max() > 40
