"""The CPU engine beside NumPy in float64, and what it must never hide."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone import openvino
from edge_ad.backbone.engine import Head, LocalHead
from edge_ad.backbone.grid import NARROW_SEED, projection
from edge_ad.backbone.openvino import open_features, open_scorer
from edge_ad.backbone.spec import (
    JSON_NAME,
    ONNX_NAME,
    Backbone,
    Level,
    encode_spec,
    file_sha256,
    load_backbone,
)
from edge_ad.errors import ArtifactError, ConfigError, DeviceError

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return write_tiny_backbone(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Levels on both sides of the widths at which whitening changes its form."""
    return write_tiny_backbone(tmp_path_factory.mktemp("wide"), size=32, widths=(40, 100, 24, 700, 210))


def _pictures(batch: int, backbone: Backbone, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (batch, backbone.height, backbone.width, 3), dtype=np.uint8)


def _features(backbone: Backbone, pictures: NDArray[np.uint8]) -> Floats:
    engine = open_features(backbone, batch=len(pictures))
    engine.input[:] = pictures
    return engine.infer().copy()


def _head(level: Level, near: Floats, rng: np.random.Generator, k: int | None = None) -> Head:
    """A Gaussian whose mean is near the features, so that cancellation would show."""
    mean = near[level.offset : level.offset + level.dim] + rng.normal(0, 1e-3, level.dim)
    whitening = np.triu(rng.normal(0, 30, (k or level.dim, level.dim)))
    return Head(level.offset, mean.astype(np.float32), whitening.astype(np.float32))


def _reference(features: Floats, heads: list[list[Head]]) -> NDArray[np.float64]:
    """d2, each row and level by itself, in float64."""
    return np.array(
        [
            [
                np.sum(
                    (h.whitening.astype(float) @ (x[h.offset :][: len(h.mean)] - h.mean.astype(float)))
                    ** 2
                )
                for h in row
            ]
            for x, row in zip(features, heads, strict=True)
        ]
    )


def _score(backbone: Backbone, heads: list[list[Head]], pictures: NDArray[np.uint8]) -> Floats:
    engine = open_scorer(backbone, heads)
    engine.input[:] = pictures
    return engine.infer().copy()


def test_nobody_is_told_that_it_is_used(tmp_path: Path) -> None:
    code = (
        "import edge_ad.backbone.openvino, sys, threading\n"
        "assert not sys.modules['openvino_telemetry']\n"
        "assert threading.active_count() == 1"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []  # no number of this machine's own either


@pytest.mark.parametrize("reduced", [False, True], ids=["whole", "trapezoidal"])
@pytest.mark.parametrize("chosen", [(0, 1, 2, 3, 4), (3,), (0, 2, 4), (4, 0)], ids=str)
def test_distances_equal_numpy(wide: Backbone, chosen: tuple[int, ...], reduced: bool) -> None:
    pictures = _pictures(2, wide)
    features = _features(wide, pictures)
    rng = np.random.default_rng(1)
    levels = [wide.levels[i] for i in chosen]
    heads = [
        [_head(lv, near, rng, 1 + lv.dim // 3 if reduced else None) for lv in levels]
        for near in features
    ]
    found = _score(wide, heads, pictures)
    assert found.shape == (2, len(chosen))
    np.testing.assert_allclose(found.astype(float) ** 2, _reference(features, heads), rtol=1e-4)


def test_a_whitening_factor_that_is_not_triangular_is_used_whole(wide: Backbone) -> None:
    pictures = _pictures(1, wide)
    features = _features(wide, pictures)
    rng = np.random.default_rng(2)
    head = _head(wide.levels[3], features[0], rng)
    full = Head(head.offset, head.mean, rng.normal(0, 30, (700, 700)).astype(np.float32))
    found = _score(wide, [[full]], pictures)
    np.testing.assert_allclose(found.astype(float) ** 2, _reference(features, [[full]]), rtol=1e-4)


def test_every_view_has_its_own_gaussians_and_picture(backbone: Backbone) -> None:
    pictures = _pictures(3, backbone)
    rng = np.random.default_rng(3)
    heads = [[_head(lv, near, rng) for lv in backbone.levels] for near in _features(backbone, pictures)]
    together = _score(backbone, heads, pictures)
    alone = [_score(backbone, [heads[i]], pictures[i : i + 1])[0] for i in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_not_hidden(wide: Backbone, tmp_path: Path, bad: float) -> None:
    """One bad channel, in turn at the start and at the end of every level."""
    rng = np.random.default_rng(4)
    pictures = _pictures(1, wide)
    heads = [[_head(lv, _features(wide, pictures)[0], rng) for lv in wide.levels]]
    for i, lv in enumerate(wide.levels):
        for channel in (lv.offset, lv.offset + lv.dim - 1):
            spoilt = _spoil(wide, tmp_path, "pooled", (channel,), bad)
            found = _score(spoilt, heads, pictures)[0]
            assert not np.isfinite(found[i])
    assert np.isfinite(_score(wide, heads, pictures)).all()


def _spoil(
    backbone: Backbone, directory: Path, output: str, place: tuple[int, ...], value: float
) -> Backbone:
    """The same backbone with `value` added to one number of an output's only row."""
    model = onnx.load(backbone.onnx_path)
    (node,) = [n for n in model.graph.node if output in n.output]
    node.output[0] = "finite"
    shape = next(o.type.tensor_type.shape for o in model.graph.output if o.name == output)
    row = np.zeros([d.dim_value for d in shape.dim], np.float32)
    row[(0, *place)] = value
    model.graph.initializer.append(numpy_helper.from_array(row, "spoil"))
    model.graph.node.append(onnx.helper.make_node("Add", ["finite", "spoil"], [output]))
    onnx.save(model, directory / ONNX_NAME)
    spec = msgspec.structs.replace(backbone.spec, onnx_sha256=file_sha256(directory / ONNX_NAME))
    (directory / JSON_NAME).write_bytes(encode_spec(spec))
    return load_backbone(directory)


def test_overflow_is_infinite_not_large(backbone: Backbone) -> None:
    level = backbone.levels[0]
    huge = Head(0, np.zeros(level.dim, np.float32), np.full((1, level.dim), 1e30, np.float32))
    assert _score(backbone, [[huge]], _pictures(1, backbone))[0, 0] == np.inf


def test_a_picture_scores_the_same_whatever_was_scored_before(backbone: Backbone) -> None:
    first, second = _pictures(2, backbone)
    engine = open_features(backbone)
    results = []
    for picture in (first, second, first):
        engine.input[0] = picture
        results.append(engine.infer().copy())
    assert np.array_equal(results[0], results[2])
    assert not np.array_equal(results[0], results[1])


def test_the_engine_keeps_its_buffers(backbone: Backbone) -> None:
    engine = open_features(backbone)
    assert engine.infer() is engine.infer()
    assert engine.input.shape == (1, 64, 64, 3)


def test_identity_names_all_that_may_move_a_feature(backbone: Backbone) -> None:
    engine = open_features(backbone)
    assert engine.identity.key == "openvino-f32"
    assert engine.identity.backbone_sha256 == backbone.sha256
    assert engine.identity.runtime == openvino.ov.get_version()
    assert engine.identity.device
    assert open_features(backbone, precision="bf16").identity.key == "openvino-bf16"


def test_an_unknown_precision_is_refused(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match=r"engine\.precision: 'int8' is unknown"):
        open_features(backbone, precision="int8")


def test_a_closed_engine_says_so(backbone: Backbone) -> None:
    engine = open_features(backbone)
    engine.close()
    engine.close()
    with pytest.raises(DeviceError, match="closed"):
        engine.infer()


def test_a_graph_that_is_none_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / ONNX_NAME).write_bytes(b"not a graph")
    spec = msgspec.structs.replace(backbone.spec, onnx_sha256=file_sha256(tmp_path / ONNX_NAME))
    (tmp_path / JSON_NAME).write_bytes(encode_spec(spec))
    with pytest.raises(ArtifactError, match="cannot read it") as caught:
        open_features(load_backbone(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_graph_of_another_width_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    other = write_tiny_backbone(tmp_path, widths=(8, 12, 16, 25))
    spec = msgspec.structs.replace(backbone.spec, onnx_sha256=other.sha256)
    (tmp_path / JSON_NAME).write_bytes(encode_spec(spec))
    with pytest.raises(ArtifactError, match=r"shape \[1,61\] for OpenVINO, .* says \[1,60\]"):
        open_features(load_backbone(tmp_path))


def test_a_graph_without_the_local_features_that_it_should_have_is_refused(
    backbone: Backbone, tmp_path: Path
) -> None:
    bare = write_tiny_backbone(tmp_path, local=False)
    spec = msgspec.structs.replace(backbone.spec, onnx_sha256=bare.sha256)
    (tmp_path / JSON_NAME).write_bytes(encode_spec(spec))
    with pytest.raises(ArtifactError, match=r"local has shape none for .* says \[1,16,10\]"):
        open_features(load_backbone(tmp_path))


def test_features_per_position_come_with_the_pooled_ones(backbone: Backbone) -> None:
    pictures = _pictures(2, backbone)
    engine = open_features(backbone, batch=2, local=True)
    engine.input[:] = pictures
    pooled, local = engine.infer(), engine.local
    assert local is not None
    assert (local.shape, local.dtype) == ((2, 16, 10), np.float32)
    np.testing.assert_array_equal(pooled, _features(backbone, pictures))
    kept = local.copy()
    engine.input[:] = pictures[::-1]
    engine.infer()
    assert engine.local is local  # the engine's own buffer
    np.testing.assert_allclose(local, kept[::-1], rtol=1e-5, atol=1e-6)
    assert open_features(backbone).local is None


def _local_head(
    near: Floats, rng: np.random.Generator, q: int, k: int, triangular: bool = True
) -> LocalHead:
    """Gaussians of positions with features near `near` [P, d], in the context of three coarse cells."""
    positions, d = near.shape
    whitening = rng.normal(0, 30, (positions, k, d))
    pooling = rng.uniform(0, 1 / positions, (3, positions))
    arrays = (
        pooling,
        (pooling @ near).ravel() + rng.normal(0, 1e-2, 3 * d),
        rng.normal(size=(q, 3 * d)),
        near + rng.normal(0, 1e-3, near.shape),
        rng.normal(0, 1e-2, (positions, d, q)),
        np.triu(whitening) if triangular else whitening,
    )
    return LocalHead(*(array.astype(np.float32) for array in arrays))


def _cells_reference(local: Floats, heads: list[LocalHead]) -> NDArray[np.float64]:
    """d2 of every view and position given the whole, in float64, [B, P]."""
    rows = []
    for positions, h in zip(local.astype(float), heads, strict=True):
        coarse = (h.pooling.astype(float) @ positions).ravel()
        t = h.context.astype(float) @ (coarse - h.context_mean.astype(float))
        predicted = h.mean.astype(float) + h.coefficients.astype(float) @ t
        pairs = zip(h.whitening.astype(float), positions - predicted, strict=True)
        rows.append([float((w @ x) @ (w @ x)) for w, x in pairs])
    return np.array(rows)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Enough dimensions per position for several blocks of the whitening factors."""
    return write_tiny_backbone(tmp_path_factory.mktemp("many"), widths=(8, 12, 40, 60), dim=100)


def _both(backbone: Backbone, pictures: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    engine = open_features(backbone, batch=len(pictures), local=True)
    engine.input[:] = pictures
    pooled, local = engine.infer(), engine.local
    assert local is not None
    return pooled.copy(), local.copy()


def _score_cells(
    backbone: Backbone, heads: list[LocalHead], pictures: NDArray[np.uint8]
) -> tuple[Floats, Floats]:
    whole = [Head(0, np.zeros(8, np.float32), np.eye(8, dtype=np.float32))]
    engine = open_scorer(backbone, [whole] * len(heads), local=heads)
    engine.input[:] = pictures
    distances, cells = engine.infer(), engine.cells
    assert cells is not None
    return distances.copy(), cells.copy()


@pytest.mark.parametrize("triangular", [True, False], ids=["triangular", "full"])
@pytest.mark.parametrize("k", [100, 41], ids=["square", "trapezoidal"])
@pytest.mark.parametrize("q", [0, 1, 13])
def test_distances_of_positions_equal_numpy(many: Backbone, q: int, k: int, triangular: bool) -> None:
    pictures = _pictures(3, many)
    pooled, local = _both(many, pictures)
    rng = np.random.default_rng(5)
    heads = [_local_head(near, rng, q, k, triangular) for near in local]
    distances, found = _score_cells(many, heads, pictures)
    assert (found.shape, found.dtype) == ((3, 16), np.float32)
    expected = _cells_reference(local, heads)
    np.testing.assert_allclose(found.astype(float) ** 2, expected, rtol=1e-4)
    np.testing.assert_allclose(distances[:, 0], np.linalg.norm(pooled[:, :8], axis=1), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_not_finite_is_not_hidden(many: Backbone, tmp_path: Path, bad: float) -> None:
    """One bad dimension, in turn the first, the last and one inside, of one position."""
    rng = np.random.default_rng(6)
    pictures = _pictures(1, many)
    _, local = _both(many, pictures)
    alone, in_context = (_local_head(local[0], rng, q, 100) for q in (0, 13))
    for dimension in (0, 50, 99):
        spoilt = _spoil(many, tmp_path, "local", (7, dimension), bad)
        _, cells = _score_cells(spoilt, [alone], pictures)
        assert np.flatnonzero(~np.isfinite(cells[0])).tolist() == [7]
        _, cells = _score_cells(spoilt, [in_context], pictures)
        assert not np.isfinite(cells[0]).any()  # it is part of what all of them are seen in


def test_fewer_features_per_position_are_projections_of_all(many: Backbone) -> None:
    pictures = _pictures(2, many)
    _, local = _both(many, pictures)
    engine = open_features(many, batch=2, local=True, dim=24)
    engine.input[:] = pictures
    engine.infer()
    few = engine.local
    assert few is not None
    matrix = projection(100, 24, NARROW_SEED)
    np.testing.assert_allclose(few, local @ matrix, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(24), atol=1e-6)
    rng = np.random.default_rng(8)
    heads = [_local_head(near, rng, 5, 24) for near in few.astype(float)]
    _, found = _score_cells(many, heads, pictures)
    np.testing.assert_allclose(found.astype(float) ** 2, _cells_reference(few, heads), rtol=1e-3)


def test_positions_need_a_backbone_that_has_them(tmp_path: Path) -> None:
    bare = write_tiny_backbone(tmp_path, local=False)
    with pytest.raises(ConfigError, match="tiny has no features per position; export it again"):
        open_features(bare, local=True)
    head = Head(0, np.zeros(8, np.float32), np.eye(8, dtype=np.float32))
    with pytest.raises(ConfigError, match="without --local none"):
        open_scorer(bare, [[head]], local=[])
