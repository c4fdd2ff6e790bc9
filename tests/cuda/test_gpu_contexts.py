"""Threads with a Device each share one context: none spoils another's captures, memory or frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import fake_driver
import numpy as np
import pytest
from fake_driver import FakeDriver
from gpu_calibrated import calibrated
from tiny_backbone import write_tiny_backbone

from edge_ad.cuda.device import Device
from edge_ad.cuda.graph import Graph, GraphRefused
from edge_ad.cuda.memory import DeviceBuffer, Mirror
from edge_ad.cuda.primary import SETUP
from edge_ad.cuda.stream import Stream
from edge_ad.engines.owner import OwnerThread
from edge_ad.errors import DeviceError

pytestmark = pytest.mark.fake_driver

CAPTURE_UNSUPPORTED, RESET = 900, "cuDevicePrimaryCtxReset_v2"


@pytest.fixture
def other() -> Iterator[OwnerThread]:
    """A thread for a second Device."""
    owner = OwnerThread("other")
    yield owner
    owner.end()


def _wait_for_all(device: Device) -> None:
    device.synchronize()
    device.close()


def _write(device: Device) -> None:
    DeviceBuffer(device, 4, "the other's").write(np.zeros(1, np.float32))
    device.close()


def _read(device: Device) -> None:
    DeviceBuffer(device, 4, "the other's").read((1,), np.float32)
    device.close()


def _reopen(device: Device) -> None:
    device.reopen().close()


def _capture(device: Device) -> None:
    Graph(device, Stream(device), lambda: None)
    device.close()


@pytest.mark.parametrize("work", [Device.close, _wait_for_all, _write, _read, _reopen, _capture])
def test_what_waits_for_a_context_waits_for_captures_in_other_threads(
    device: Device, fake: FakeDriver, other: OwnerThread, work: Callable[[Device], None]
) -> None:
    second = other.call(Device)
    stream, mirror = Stream(device), Mirror(device, (4,), np.uint8, "bytes")
    resets = fake.calls(RESET)
    working = threading.Thread(target=other.call, args=(lambda: work(second),))

    def enqueue() -> None:
        mirror.upload(stream)
        working.start()
        working.join(0.1)
        assert working.is_alive()
        mirror.download(stream)

    graph = Graph(device, stream, enqueue)
    working.join(10)
    assert not working.is_alive()
    assert not second.opened
    mirror.host[:] = 7
    graph.launch(stream)
    stream.synchronize("replaying")
    assert (mirror.host == 7).all()
    assert fake.calls(RESET) == resets


def test_a_capture_that_another_library_spoils_is_refused(
    device: Device, fake: FakeDriver, other: OwnerThread
) -> None:
    """One that knows nothing of our lock; and the stand-in for the driver is as strict as a driver."""
    second = other.call(Device)
    for spoils, wait in ((True, "cuCtxSynchronize"), (False, "cuStreamSynchronize")):
        arguments = () if spoils else (0,)
        found: list[int] = []

        def enqueue(
            wait: str = wait, arguments: tuple[int, ...] = arguments, found: list[int] = found
        ) -> None:
            found.append(other.call(lambda: int(getattr(second.bindings, wait)(*arguments)[0])))

        if spoils:
            with pytest.raises(GraphRefused, match=r"STREAM_CAPTURE_INVALIDATED"):
                Graph(device, Stream(device), enqueue)
        else:
            Graph(device, Stream(device), enqueue)
        assert found == [CAPTURE_UNSUPPORTED if spoils else 0]
    other.call(second.close)


def test_copies_spoil_no_capture_of_another_library(device: Device, other: OwnerThread) -> None:
    second = other.call(Device)
    stream, cuda = other.call(lambda: Stream(second)), second.bindings
    mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    other.call(lambda: cuda.cuStreamBeginCapture(stream.handle, mode))
    buffer = DeviceBuffer(device, 4, "a buffer")
    buffer.write(np.ones(1, np.float32))
    buffer.zero()
    code, graph = other.call(lambda: cuda.cuStreamEndCapture(stream.handle))
    assert int(code) == 0
    other.call(lambda: cuda.cuGraphDestroy(graph))
    other.call(second.close)


@pytest.mark.parametrize("code", [CAPTURE_UNSUPPORTED, 1, 999])
def test_an_error_that_does_not_stick_resets_nothing(
    device: Device, fake: FakeDriver, other: OwnerThread, code: int
) -> None:
    """As when another library captures while a device is closed."""
    buffer, second = DeviceBuffer(device, 64, "the active engine's"), other.call(Device)
    held, resets = other.call(lambda: DeviceBuffer(second, 64, "the other's")), fake.calls(RESET)
    fake.fail("cuCtxSynchronize", code)
    other.call(held.close)
    assert fake.live("device memory") == 1
    other.call(lambda: DeviceBuffer(second, 64, "the other's"))
    fake.fail("cuCtxSynchronize", code)
    other.call(second.close)
    assert (fake.live("device memory"), fake.calls(RESET)) == (1, resets)
    assert device.usable()
    buffer.zero()


@pytest.mark.parametrize("reset_releases", [False, True])
@pytest.mark.parametrize("others", [1, 3])
def test_a_broken_context_is_reset_once_whoever_closes_later(
    device: Device, fake: FakeDriver, others: int, reset_releases: bool
) -> None:
    """What they close late is the old one, whatever has been opened since."""
    fake.contexts(reset_releases=reset_releases)
    owners = [OwnerThread(f"other {i}") for i in range(others)]
    old = [(owner, owner.call(Device)) for owner in owners]
    held = [owner.call(lambda one=one: DeviceBuffer(one, 64, "an old one")) for owner, one in old]
    fake.fail("cuCtxSynchronize", fake_driver.ILLEGAL_ADDRESS)
    resets = fake.calls(RESET)
    again = device.reopen()
    buffer = DeviceBuffer(again, 64, "the new engine's")
    for (owner, one), of_it in zip(old, held, strict=True):
        with pytest.raises(DeviceError, match=r"CONTEXT_IS_DESTROYED"):
            owner.call(one.synchronize)
        assert not owner.call(one.usable)
        owner.call(of_it.close)
        owner.call(one.close)
        assert (fake.live("references"), fake.live("device memory")) == (1, 1)
        buffer.zero()
    fresh = owners[0].call(Device)
    assert owners[0].call(fresh.usable)
    again.close()
    owners[0].call(fresh.close)
    assert fake.calls(RESET) == resets + 1
    for owner in owners:
        owner.end()


def test_an_old_device_that_is_closed_last_leaves_nothing(
    device: Device, fake: FakeDriver, other: OwnerThread
) -> None:
    second = other.call(Device)
    fake.fail("cuCtxSynchronize", fake_driver.LAUNCH_FAILED)
    device.close()
    assert (fake.live("contexts"), fake.live("references")) == (0, 0)
    other.call(second.close)
    fake.nothing_left()


def test_frames_do_not_wait_for_whoever_opens_or_closes(
    device: Device, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = calibrated(write_tiny_backbone(tmp_path_factory.mktemp("tiny")), 1)
    infer = threading.Event()
    inferred = threading.Event()

    def hold() -> bool:
        with SETUP:
            infer.set()
            return inferred.wait(5.0)

    for graph in (True, False):
        with made.scorer(device, graph) as engine:
            infer.clear()
            inferred.clear()
            held: list[bool] = []
            holder = threading.Thread(target=lambda held=held: held.append(hold()))
            holder.start()
            infer.wait()
            engine.infer()
            inferred.set()
            holder.join()
            assert held == [True]


def test_what_the_driver_does_not_free_is_logged(
    fake: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    """(What pycuda frees it tells on stderr.)"""
    with Device() as device:
        mirror, _ = (Mirror(device, (4,), np.uint8, "bytes") for _ in range(2))
        fake.fail("cuMemHostUnregister", fake_driver.OUT_OF_MEMORY)
        mirror.close()
        (told,) = caplog.messages
        assert "unlocking bytes: the GPU's driver reports CUDA_ERROR_OUT_OF_MEMORY" in told
        fake.fail("cuMemHostUnregister", fake_driver.OUT_OF_MEMORY)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
