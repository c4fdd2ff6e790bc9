"""What fails on a GPU, in its driver or in a graph ends the engine, is told, and leaves nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import fake_driver
import numpy as np
import pytest
from fake_driver import FakeDriver
from gpu_calibrated import IMAGE, calibrated
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.spec import Backbone
from edge_ad.cuda.device import Device
from edge_ad.cuda.memory import DeviceBuffer
from edge_ad.engines import gpu, tensorrt
from edge_ad.engines.gpu_engine import GpuScorer
from edge_ad.errors import DeviceError
from edge_ad.gaussian.cuda.launch import FrameScorer

pytestmark = pytest.mark.fake_driver


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return write_tiny_backbone(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "stream"])
@pytest.mark.parametrize("code", [fake_driver.ILLEGAL_ADDRESS, fake_driver.LAUNCH_FAILED])
def test_a_kernel_that_fails_ends_the_engine_and_a_new_one_works(
    device: Device, fake: FakeDriver, backbone: Backbone, graph: bool, code: int,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    made = calibrated(backbone, 1)
    with made.scorer(device, graph) as engine:
        before = engine.infer().copy()
        fake.break_next_kernel(code)
        with pytest.raises(DeviceError, match=r"running a frame .*(ILLEGAL_ADDRESS|LAUNCH_FAILED)"):
            engine.infer()
        with pytest.raises(DeviceError, match=r"an earlier frame failed .* open another one"):
            engine.infer()
    with pytest.raises(DeviceError, match=r"an earlier frame failed"):
        engine.infer()
    np.testing.assert_array_equal(engine.input, made.pictures)  # still readable
    again = device.reopen()
    with made.scorer(again, graph) as engine:
        np.testing.assert_array_equal(engine.infer(), before)
    again.close()
    assert capfd.readouterr().err == ""


IN_A_FRAME = {
    True: ("cuGraphLaunch", "cuStreamSynchronize"),
    False: ("cuMemcpyHtoDAsync_v2", "cuLaunchHostFunc", "cuLaunchKernel", "cuMemcpyDtoHAsync_v2",
            "cuStreamSynchronize"),
}  # fmt: skip


@pytest.mark.parametrize(("graph", "function"), [(g, f) for g, fs in IN_A_FRAME.items() for f in fs])
def test_every_call_of_a_frame_is_checked(
    device: Device, fake: FakeDriver, backbone: Backbone, graph: bool, function: str
) -> None:
    """After a code that does not stick the engine is dead, and the same device opens another."""
    made = calibrated(backbone, 1)
    before = fake.calls(function)
    with made.scorer(device, graph) as engine:
        engine.infer()
        start = fake.calls(function)
        engine.infer()
        calls = fake.calls(function) - start
    assert before < start
    for nth in range(1, calls + 1):
        with made.scorer(device, graph) as engine:
            fake.fail(function, fake_driver.LAUNCH_FAILED, nth)
            with pytest.raises(DeviceError, match=r"CUDA_ERROR_LAUNCH_FAILED"):
                engine.infer()
            with pytest.raises(DeviceError, match=r"an earlier frame failed"):
                engine.infer()
    with made.scorer(device, graph) as engine:
        np.testing.assert_allclose(engine.infer(), made.expected()[0], rtol=1e-5)


IN_THE_MAKING = (
    "cuModuleLoadDataEx", "cuModuleGetFunction", "cuMemGetInfo_v2", "cuMemAlloc_v2", "cuMemcpyHtoD_v2",
    "cuMemsetD8_v2", "cuMemHostRegister_v2", "cuStreamCreate", "cuMemcpyHtoDAsync_v2",
    "cuLaunchHostFunc", "cuLaunchKernel", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize",
    "cuStreamBeginCapture_v2", "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags", "cuGraphDestroy", "cuGraphUpload", "cuGraphLaunch",
)  # fmt: skip


@pytest.mark.parametrize("function", IN_THE_MAKING)
def test_every_call_of_the_making_is_checked(
    device: Device, fake: FakeDriver, backbone: Backbone, function: str
) -> None:
    """Each call in turn; nothing of a half-made engine is left on the device."""
    made = calibrated(backbone, 1)
    kinds = ("device memory", "page-locked", "modules", "streams", "graphs")
    before = fake.calls(function)
    with made.scorer(device):
        calls = fake.calls(function) - before
    assert calls > 0
    for nth in range(1, calls + 1):
        kernels = network = None
        fake.fail(function, fake_driver.LAUNCH_FAILED, nth)
        with pytest.raises(DeviceError, match=r"CUDA_ERROR_LAUNCH_FAILED"):
            kernels = FrameScorer(device, IMAGE, made.heads, backbone.dim, made.local)
            network = made.network(device)
            GpuScorer(device, network, kernels)
        assert network is None or network.closed == 1
        left = {kind for kind in kinds if fake.live(kind)}
        # What the driver would not take back goes with the context.
        assert left == ({"graphs"} if function == "cuGraphDestroy" else set())


def test_out_of_memory_names_what_and_leaves_the_device_usable(
    device: Device, fake: FakeDriver, backbone: Backbone
) -> None:
    made = calibrated(backbone, 3)
    fake.memory(20_000)
    with pytest.raises(
        DeviceError, match=r"allocating the pos.*OUT_OF_MEMORY, \d+ bytes .* of 20000 free"
    ):
        FrameScorer(device, IMAGE, made.heads, backbone.dim, made.local)
    assert fake.live("device memory") == 0
    fake.memory(1 << 20)
    with made.scorer(device) as engine:
        engine.infer()


def test_a_network_that_cannot_be_in_a_graph_still_runs_without(
    device: Device, fake: FakeDriver, backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    made = calibrated(backbone, 1)
    network = made.network(device)
    network.meanwhile = lambda: DeviceBuffer(device, 16, "memory within").close()
    kernels = FrameScorer(device, IMAGE, made.heads, backbone.dim, made.local)
    engine = GpuScorer(device, network, kernels)
    (told,) = caplog.messages
    assert "frames run without a graph: allocating memory within: " in told
    assert "CAPTURE_UNSUPPORTED" in told
    assert "an engine then launches a frame's parts one by one" in told
    engine.input[:] = made.pictures
    before = fake.calls("cuGraphLaunch")
    np.testing.assert_allclose(engine.infer(), made.expected()[0], rtol=1e-5)
    assert fake.calls("cuGraphLaunch") == before
    engine.close()
    assert fake.live("graphs") == 0


def test_a_network_that_fails_within_the_capture_is_no_refusal(
    device: Device, backbone: Backbone
) -> None:
    made, calls = calibrated(backbone, 1), []
    network = made.network(device)

    def fail_the_second_time() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise DeviceError("the network fails")

    network.meanwhile = fail_the_second_time
    kernels = FrameScorer(device, IMAGE, made.heads, backbone.dim, made.local)
    with pytest.raises(DeviceError, match=r"^the network fails$"):
        GpuScorer(device, network, kernels)
    assert network.closed == 1


@pytest.mark.parametrize("function", ["cuMemHostUnregister", "cuGraphExecDestroy"])
def test_an_engine_whose_memory_is_not_freed_closes_all_the_same(
    fake: FakeDriver, backbone: Backbone, function: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = calibrated(backbone, 1)
    device = Device()
    engine = gpu._Features(device, made.network(device))
    fake.fail(function, fake_driver.LAUNCH_FAILED)
    engine.close()
    assert not device.opened
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    fake.nothing_left()


def test_a_check_without_a_reference_closes_the_engine(
    device: Device, fake: FakeDriver, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = calibrated(backbone, 1).network(device, local=False)

    def no_reference(*_: object, **__: object) -> None:
        raise DeviceError("OpenVINO compiles nothing")

    monkeypatch.setattr(tensorrt, "_load", lambda *_: network)
    monkeypatch.setattr(tensorrt.openvino, "open_features", no_reference)
    entry: Any = SimpleNamespace(record=SimpleNamespace(key=SimpleNamespace(local_dim=0)))
    with pytest.raises(DeviceError, match="compiles nothing"):
        tensorrt.check_entry(entry, SimpleNamespace(), b"", backbone, device)  # type: ignore[arg-type]
    assert network.closed == 1
    assert fake.live("device memory") == fake.live("graphs") == fake.live("streams") == 0


def test_a_network_that_does_not_close_keeps_no_device_open(
    fake: FakeDriver, backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    made = calibrated(backbone, 1)
    for error in (DeviceError("it does not close"), RuntimeError("it does not close")):
        device = Device()
        engine = gpu._Features(device, made.network(device))

        def fail(error: Exception = error) -> None:
            raise error

        engine._owned.callback(fail)
        if isinstance(error, DeviceError):
            engine.close()
            assert "closing the engine: it does not close" in caplog.text
        else:
            with pytest.raises(RuntimeError, match="does not close"):
                engine.close()
        assert not device.opened
        fake.nothing_left()


def test_only_the_devices_thread_uses_and_closes_an_engine(device: Device, backbone: Backbone) -> None:
    made = calibrated(backbone, 1)
    errors: list[str] = []

    def intrude(work: Callable[[], object]) -> None:
        try:
            work()
        except DeviceError as error:
            errors.append(str(error))

    with made.scorer(device) as engine:
        for work in (engine.infer, engine.close):
            thread = threading.Thread(target=intrude, args=(work,), name="intruder")
            thread.start()
            thread.join()
        assert len(errors) == 2
        assert all("'intruder', which did not open it" in error for error in errors)
        np.testing.assert_allclose(engine.infer(), made.expected()[0], rtol=1e-5)


def test_closing_in_any_order_and_again(fake: FakeDriver, backbone: Backbone) -> None:
    made = calibrated(backbone, 1)
    with Device() as device, made.scorer(device) as engine:
        distances = engine.infer()
        before = distances.copy()
        engine.close()
        with pytest.raises(DeviceError, match=r"the engine is closed"):
            engine.infer()
        np.testing.assert_array_equal(distances, before)
        assert fake.live("device memory") == fake.live("graphs") == 0
    with Device() as device, made.scorer(device) as engine:
        device.close()
        fake.nothing_left()
        with pytest.raises(DeviceError, match=r"GPU 0 is closed"):
            engine.infer()
