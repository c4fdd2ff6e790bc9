"""The GPU engines beside OpenVINO and NumPy: the real pycuda and cuda.bindings on a stand-in driver.

The network is OpenVINO's as a node of the stream, so what may differ is what the engine does itself.
"""

from __future__ import annotations

import fake_driver
import numpy as np
import pytest
from fake_driver import FakeDriver
from gpu_backbones import HostBackbone
from gpu_calibrated import DIM, GRID, IMAGE, Store, calibrated
from made_up_gaussians import local_head, local_reference, whitening
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.openvino import open_features, open_scorer
from edge_ad.backbone.spec import Backbone
from edge_ad.cuda.device import Device
from edge_ad.engines.gpu_engine import GpuFeatures, GpuScorer
from edge_ad.errors import ArtifactError
from edge_ad.gaussian.cuda.launch import FrameScorer

pytestmark = pytest.mark.fake_driver


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return write_tiny_backbone(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "stream"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("store", ["f32", "f16"])
def test_distances_and_cells_are_openvinos(
    device: Device, fake: FakeDriver, backbone: Backbone, batch: int, graph: bool, store: Store
) -> None:
    fake.order("random:1")
    made = calibrated(backbone, batch)
    distances, cells, local = made.expected()
    with made.scorer(device, graph, store) as engine:
        found = engine.infer()
        np.testing.assert_allclose(found, distances, rtol=1e-5)
        assert engine.cells is not None
        np.testing.assert_allclose(engine.cells, cells, rtol=1e-5)
        np.testing.assert_array_equal(engine.local, local)
        assert engine.local is not None
        exact = local_reference(made.local, GRID, engine.local[None])[0]
        np.testing.assert_allclose(engine.cells, exact, rtol=1e-5)
        engine.input[:] = made.pictures[::-1] // 2  # another frame into the same buffers
        again = calibrated(backbone, batch)
        again.pictures = made.pictures[::-1] // 2
        np.testing.assert_allclose(engine.infer(), again.expected()[0], rtol=1e-5)


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "stream"])
def test_positions_by_themselves(
    device: Device, fake: FakeDriver, backbone: Backbone, graph: bool
) -> None:
    """No tile has regressors, so their kernels are not launched."""
    made = calibrated(backbone, 2)
    made.local = [local_head(np.random.default_rng(t), GRID, DIM, DIM, 0) for t in range(2)]
    with made.scorer(device, graph) as engine:
        launches = fake.calls("cuLaunchKernel")
        engine.infer()
        assert fake.calls("cuLaunchKernel") - launches == (0 if graph else 2)
        np.testing.assert_allclose(engine.cells, made.expected()[1], rtol=1e-5)


def test_wide_levels_in_halves(device: Device, tmp_path_factory: pytest.TempPathFactory) -> None:
    wide = write_tiny_backbone(tmp_path_factory.mktemp("wide"), size=32, widths=(8, 400, 16, 24))
    made = calibrated(wide, 2)
    for row in made.heads:  # so that halves do
        row[1].whitening[:] = whitening(np.random.default_rng(0), *row[1].whitening.shape, 1.0)
    kernels = FrameScorer(device, IMAGE, made.heads, wide.dim, store="f16")
    assert {shape.store for tile in kernels._levels.plan.shapes for shape in tile} == {"f16", "f32"}
    engine = GpuScorer(device, made.network(device, local=False), kernels)
    engine.input[:] = made.pictures
    expected = open_scorer(wide, made.heads, 1)
    expected.input[:] = made.pictures
    np.testing.assert_allclose(engine.infer(), expected.infer(), rtol=1e-4)
    assert (engine.cells, engine.local) == (None, None)
    engine.close()


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "stream"])
@pytest.mark.parametrize("local", [True, False])
def test_features_are_openvinos(device: Device, backbone: Backbone, graph: bool, local: bool) -> None:
    made = calibrated(backbone, 2)
    engine = GpuFeatures(device, made.network(device, local), graph)
    expected = open_features(backbone, 2, 1, local=local, dim=DIM)
    for pictures in (made.pictures, made.pictures[::-1]):
        engine.input[:] = expected.input[:] = pictures
        np.testing.assert_array_equal(engine.infer(), expected.infer())
        assert (engine.local is None) == (expected.local is None)
        if engine.local is not None:
            np.testing.assert_array_equal(engine.local, expected.local)
    assert engine.identity == expected.identity
    engine.close()


def test_the_whole_frame_is_in_the_graph(fake: FakeDriver, backbone: Backbone) -> None:
    kernels = ["level_distances", "coarse_views", "regressors", "cell_distances"]
    made = calibrated(backbone, 1)
    expected = made.expected()[0]
    for integrated, before, after in ((0, ["upload"], 3 * ["download"]), (1, [], ["download"])):
        fake.attribute(fake_driver.INTEGRATED, integrated)
        with Device() as device, made.scorer(device) as engine:
            np.testing.assert_allclose(engine.infer(), expected, rtol=1e-5)
            assert fake.last_graph() == [*before, "host function", *kernels, *after]


def test_a_thousand_frames_are_equal_bit_by_bit_and_allocate_nothing(
    device: Device, fake: FakeDriver, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small = write_tiny_backbone(tmp_path_factory.mktemp("small"), size=32, widths=(4, 4, 4, 4), dim=3)
    made = calibrated(small, 1)
    making = (
        "cuMemAlloc_v2", "cuMemHostRegister_v2", "cuMemFree_v2", "cuMemHostUnregister", "cuStreamCreate",
        "cuModuleLoadDataEx", "cuEventCreate", "cuGraphInstantiateWithFlags", "cuLaunchKernel",
        "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyHtoD_v2", "cuMemsetD8_v2",
    )  # fmt: skip
    made.local = [local_head(np.random.default_rng(1), (2, 2), 3, 3, 2)]
    kernels = FrameScorer(device, IMAGE, made.heads, small.dim, made.local)
    engine = GpuScorer(device, HostBackbone(device, small, 1, 3), kernels)
    engine.input[:] = made.pictures
    first = engine.infer().tobytes()
    assert engine.cells is not None
    cells = engine.cells.tobytes()
    made_before, graphs = fake.calls(*making), fake.calls("cuGraphLaunch")
    for i in range(1000):
        fake.order(f"random:{i}")
        assert engine.infer().tobytes() == first
        assert engine.cells.tobytes() == cells
    assert (fake.calls(*making), fake.calls("cuGraphLaunch")) == (made_before, graphs + 1000)
    engine.close()


def test_frames_in_stream_launches_allocate_nothing_either(
    device: Device, fake: FakeDriver, backbone: Backbone
) -> None:
    making = ("cuMemAlloc_v2", "cuMemHostRegister_v2", "cuStreamCreate", "cuModuleGetFunction")
    with calibrated(backbone, 2).scorer(device, graph=False) as engine:
        before, launches = fake.calls(*making), fake.calls("cuLaunchKernel")
        results = {engine.infer().tobytes() for _ in range(20)}
        assert (fake.calls(*making), fake.calls("cuLaunchKernel")) == (before, launches + 20 * 4)
        assert len(results) == 1


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "stream"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_hidden(
    device: Device, backbone: Backbone, value: float, graph: bool
) -> None:
    made = calibrated(backbone, 2)
    network = made.network(device)
    kernels = FrameScorer(device, IMAGE, made.heads, backbone.dim, made.local)
    engine = GpuScorer(device, network, kernels, graph)
    engine.input[:] = made.pictures
    good = engine.infer().copy()
    assert engine.cells is not None
    good_cells = engine.cells.copy()
    level = backbone.levels[2]
    network.spoil = lambda arrays: arrays["pooled"].__setitem__((1, level.offset), value)
    found = engine.infer()
    assert not np.isfinite(found[1, 2])
    np.testing.assert_array_equal(np.delete(found.ravel(), 6), np.delete(good.ravel(), 6))
    network.spoil = lambda arrays: arrays["local"].__setitem__((1, 3, 0), value)
    np.testing.assert_array_equal(engine.infer(), good)
    # Tile 1 has no regressors: its other positions do not know.
    assert not np.isfinite(engine.cells[1, 3])
    np.testing.assert_array_equal(np.delete(engine.cells.ravel(), 19), np.delete(good_cells.ravel(), 19))
    network.spoil = lambda arrays: None
    np.testing.assert_array_equal(engine.infer(), good)
    np.testing.assert_array_equal(engine.cells, good_cells)
    engine.close()


def test_gaussians_of_another_backbone_are_refused(device: Device, backbone: Backbone) -> None:
    made = calibrated(backbone, 1)
    network = made.network(device)
    kernels = FrameScorer(device, IMAGE, made.heads, backbone.dim + 1)
    with pytest.raises(
        ArtifactError, match=r"'pooled' of \[1, 61\], the backbone \(openvino-f32\) .*60"
    ):
        GpuScorer(device, network, kernels)
    kernels = FrameScorer(device, IMAGE, made.heads, backbone.dim, made.local)
    with pytest.raises(ArtifactError, match=r"'local' of \[1, 16, 6\], .* gives \[\]"):
        GpuScorer(device, made.network(device, local=False), kernels)
    made.heads[0][0].whitening[2, 0] = 1.0
    with pytest.raises(
        ArtifactError, match=r"level 0: W has numbers below its diagonal.*calibrate again"
    ):
        FrameScorer(device, IMAGE, made.heads, backbone.dim)


def test_stages_are_measured_by_events(device: Device, fake: FakeDriver, backbone: Backbone) -> None:
    with calibrated(backbone, 1).scorer(device) as engine:
        before = engine.infer().copy()
        times = engine.time_stages(3)
        assert list(times) == ["upload", "backbone", "distances", "download"]
        assert all(len(each) == 3 and (each > 0.0).all() for each in times.values())
        assert (times["backbone"] + times["distances"] < 1e3).all()
        kernels = ("level_distances", "coarse_views", "regressors", "cell_distances")
        in_frame = sum(name in kernels for name in fake.last_graph())
        launched, replayed = fake.calls("cuLaunchKernel"), fake.calls("cuGraphLaunch")
        alone = engine.time_alone("distances", repeats=4, launches=3)
        assert alone.shape == (3,)
        assert (alone > 0.0).all()
        assert fake.calls("cuLaunchKernel") == launched + 4 * in_frame  # captured, not launched
        assert fake.calls("cuGraphLaunch") == replayed + 3
        np.testing.assert_array_equal(engine.infer(), before)
        assert fake.live("events") == 0
