"""The check of an engine's features: it passes other runtimes, and finds coarse and broken engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone import openvino
from edge_ad.backbone import torch as torch_engine
from edge_ad.backbone.openvino import OpenVinoFeatures
from edge_ad.backbone.spec import Backbone, load_backbone
from edge_ad.config import EMBEDDED_BACKBONE
from edge_ad.engines.alike import (
    BOUNDS,
    RELATIVE_BOUND,
    check_features,
    feature_errors,
    largest_error,
    reference_pictures,
)
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
    assert errors["level3"].largest > 1
    assert {name for name, error in errors.items() if error.largest > 0} == {"level3"}
    for precision in ("f32", "f16"):
        with pytest.raises(ArtifactError, match="features of level3"):
            check_features(errors, precision, "engine")
    engine.value = np.nan
    errors = feature_errors(engine, reference, backbone, pictures)
    assert np.isnan(largest_error(errors))
    with pytest.raises(ArtifactError, match="features of level3 are nan;"):
        check_features(errors, "int8", "engine")


Spoil = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
VACUOUS: dict[str, Spoil] = {
    "the mean": lambda features, i: features.mean(axis=0),
    "the first picture's": lambda features, i: features[0],
    "the next picture's": lambda features, i: features[(i + 1) % len(features)],
    "half as large again": lambda features, i: 1.5 * features[i],
    "half as large": lambda features, i: 0.5 * features[i],
}


class Played:
    """Says features that were computed before, changed."""

    identity = None
    local: NDArray[np.float32] | None = None

    def __init__(self, backbone: Backbone, features: list[NDArray[np.float32]], spoil: Spoil) -> None:
        self.input = np.zeros((1, backbone.height, backbone.width, 3), np.uint8)
        self._features, self._spoil, self._turn = features, spoil, 0

    def infer(self) -> NDArray[np.float32]:
        pooled, self.local = (self._spoil(some, self._turn)[None] for some in self._features)
        self._turn += 1
        return pooled


@pytest.fixture(scope="module")
def shipped() -> tuple[Backbone, OpenVinoFeatures, list[NDArray[np.float32]]]:
    """The embedded network, its reference, and what that says of the pictures."""
    backbone = load_backbone(EMBEDDED_BACKBONE)
    reference = openvino.open_features(backbone, local=True)
    pooled, local = [], []
    for picture in reference_pictures(backbone.height, backbone.width):
        reference.input[0] = picture
        pooled.append(reference.infer()[0].copy())
        assert reference.local is not None
        local.append(reference.local[0].copy())
    return backbone, reference, [np.stack(pooled), np.stack(local)]


@pytest.mark.parametrize("says", VACUOUS)
def test_an_engine_that_computes_something_else_is_found_at_any_precision(
    shipped: tuple[Backbone, OpenVinoFeatures, list[NDArray[np.float32]]], says: str
) -> None:
    backbone, reference, features = shipped
    pictures = reference_pictures(backbone.height, backbone.width)
    engine = Played(backbone, features, VACUOUS[says])
    errors = feature_errors(engine, reference, backbone, pictures)
    # Not in one level alone.
    assert min(error.relative for error in errors.values()) > 1.2 * RELATIVE_BOUND
    if says in ("the mean", "the first picture's"):
        assert largest_error(errors) < 0.5 * BOUNDS["int8"]
        match = r"features of 1 are off by \d[.\d]* of what they vary from picture to picture \(at most"
    else:
        match = "features of 1 are"
    with pytest.raises(ArtifactError, match=match):
        check_features(errors, "int8", "engine")


def test_noise_as_of_integers_passes(
    shipped: tuple[Backbone, OpenVinoFeatures, list[NDArray[np.float32]]],
) -> None:
    backbone, reference, features = shipped
    rng = np.random.default_rng(0)

    def noisy(some: NDArray[np.float32], i: int) -> NDArray[np.float32]:
        error = 0.4 * some.std(axis=0) * rng.normal(size=some.shape[1:])
        return (some[i] + error).astype(np.float32)

    pictures = reference_pictures(backbone.height, backbone.width)
    errors = feature_errors(Played(backbone, features, noisy), reference, backbone, pictures)
    assert check_features(errors, "int8", "engine") < BOUNDS["int8"]
    for error in errors.values():
        assert error.relative == pytest.approx(0.4, rel=0.15)


def test_pictures_are_the_same_everywhere_and_all_different() -> None:
    pictures = reference_pictures(40, 60)
    assert pictures.shape == (24, 40, 60, 3)
    np.testing.assert_array_equal(pictures, reference_pictures(40, 60))
    assert len({picture.tobytes() for picture in pictures}) == 24
    deviations = pictures.reshape(24, -1).std(axis=1)
    assert deviations.min() > 3
    assert deviations.max() > 40
