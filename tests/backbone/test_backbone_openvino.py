"""The CPU engine beside NumPy in float64, and what it must never hide."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone import openvino
from edge_ad.backbone.engine import Head
from edge_ad.backbone.openvino import open_features, open_scorer, usable_cores
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
            found = _score(_spoil(wide, tmp_path, channel, bad), heads, pictures)[0]
            assert not np.isfinite(found[i])
    assert np.isfinite(_score(wide, heads, pictures)).all()


def _spoil(backbone: Backbone, directory: Path, channel: int, value: float) -> Backbone:
    """The same backbone with `value` added to one column of its output."""
    model = onnx.load(backbone.onnx_path)
    model.graph.node[-1].output[0] = "finite"
    row = np.zeros((1, backbone.dim), np.float32)
    row[0, channel] = value
    model.graph.initializer.append(numpy_helper.from_array(row, "spoil"))
    model.graph.node.append(onnx.helper.make_node("Add", ["finite", "spoil"], ["pooled"]))
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
    with pytest.raises(ArtifactError, match=r"shape \[1,61\], backbone.json says \[1,60\]"):
        open_features(load_backbone(tmp_path))


def test_cores_are_counted_once_and_the_quota_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert usable_cores(tmp_path) == 4
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        topology = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings + "\n")
    assert usable_cores(tmp_path) == 2
    cgroup = tmp_path / "fs/cgroup"
    cgroup.mkdir(parents=True)
    for quota, cores in (
        ("max 100000", 2),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("800000 100000", 2),
    ):
        (cgroup / "cpu.max").write_text(quota + "\n")
        assert usable_cores(tmp_path) == cores
