"""A GPU's owner, memory, streams, graphs: the real pycuda and cuda.bindings on a stand-in driver."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import fake_driver
import numpy as np
import pytest
from fake_driver import FakeDriver

from edge_ad.cuda.bandwidth import copy_bandwidth
from edge_ad.cuda.device import Device
from edge_ad.cuda.driver import read_driver
from edge_ad.cuda.graph import Graph
from edge_ad.cuda.memory import DeviceBuffer, Mirror
from edge_ad.cuda.stream import Module, Stream
from edge_ad.errors import DeviceError

pytestmark = pytest.mark.fake_driver

IMAGE = b"whatever nvcc made"


def in_a_thread(work: Callable[[], object]) -> None:
    """Run it in another thread; its DeviceError is raised here."""
    errors: list[DeviceError] = []

    def run() -> None:
        try:
            work()
        except DeviceError as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="intruder")
    thread.start()
    thread.join()
    for error in errors:
        raise error


def test_a_driver_is_found_and_what_is_wrong_with_it_is_told(fake: FakeDriver) -> None:
    assert (read_driver().version, read_driver().device.name) == (13000, "Fake GPU")
    fake.machine(init=803)
    with pytest.raises(DeviceError, match=r"cuInit returned 803 \(CUDA_ERROR_SYSTEM_DRIVER_M.*; reboot"):
        read_driver()
    fake.machine(init=77)
    with pytest.raises(
        DeviceError, match=r"driver \(.*CUDA 13\.0\) .* returned 77; see the kernel's log"
    ):
        Device()
    fake.machine(devices=0)
    with pytest.raises(DeviceError, match=r"100 \(CUDA_ERROR_NO_DEVICE\); see that nvidia-smi"):
        Device()


def test_facts_are_the_drivers(fake: FakeDriver) -> None:
    fake.attribute(fake_driver.INTEGRATED, 1)
    with Device() as device:
        facts, driver = device.facts, device.driver
        assert (facts.name, facts.compute_capability) == ("Fake GPU", (8, 9))
        assert (facts.multiprocessors, facts.l2_bytes, facts.bus_width) == (4, 6 << 20, 384)
        assert (facts.shared_per_block, facts.shared_per_block_optin) == (49152, 101376)
        assert (facts.shared_per_multiprocessor, facts.memory_mib) == (102400, 1024)
        assert (facts.integrated, facts.ecc) == (True, False)
        assert (driver.version, driver.page_locks) == (13000, True)


@pytest.mark.parametrize("blocking", [True, False])
def test_the_primary_context_is_retained_and_released(fake: FakeDriver, blocking: bool) -> None:
    for _ in range(3):
        with Device(blocking=blocking) as device:
            assert fake.live("contexts") == 1
            assert fake.flags() == (4 if blocking else 1)  # CU_CTX_SCHED_BLOCKING_SYNC, _SPIN
        device.close()
        fake.nothing_left()
    with pytest.raises(DeviceError, match=r"GPU 0 is closed"):
        device.synchronize()


@pytest.mark.parametrize("flags_change", [False, True])
def test_a_context_that_another_library_holds_is_shared(fake: FakeDriver, flags_change: bool) -> None:
    """Its threads go on waiting as they did, also where the driver would have it changed."""
    fake.contexts(flags_change=flags_change)
    with Device() as device:
        bindings = device.bindings
        bindings.cuDevicePrimaryCtxRetain(0)
    assert fake.live("contexts") == 1
    with pytest.raises(
        DeviceError, match=r"PRIMARY_CONTEXT_ACTIVE, another library .* flags 4, 1 are wan"
    ):
        Device(blocking=False)
    assert fake.flags() == 4
    with Device():
        pass
    assert fake.live("contexts") == 1
    bindings.cuDevicePrimaryCtxRelease(0)


def test_opening_that_fails_leaves_nothing(fake: FakeDriver) -> None:
    with pytest.raises(DeviceError, match=r"has 1 card, none at place 7"):
        Device(7)
    for function in ("cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2",
                     "cuDevicePrimaryCtxSetFlags_v2", "cuStreamSynchronize"):  # fmt: skip
        fake.fail(function, fake_driver.LAUNCH_FAILED)
        with pytest.raises(DeviceError, match=r"opening GPU 0.*CUDA_ERROR_LAUNCH_FAILED"):
            Device()
        fake.nothing_left()
    fake.fail("cuDeviceGetAttribute", fake_driver.LAUNCH_FAILED)
    with pytest.raises(DeviceError, match=r"cuDeviceGetAttribute returned 719 \(CUDA_ERROR_LAUNCH_FAIL"):
        Device()
    fake.nothing_left()


def test_only_the_thread_that_opened_it_may_use_it(device: Device) -> None:
    buffer, stream = DeviceBuffer(device, 4, "a buffer"), Stream(device)
    numbers = np.zeros(1, np.float32)
    for work in (
        device.synchronize, device.memory, device.close, buffer.zero, buffer.close, stream.close,
        lambda: buffer.write(numbers), lambda: Stream(device), lambda: Module(device, IMAGE),
        lambda: Mirror(device, (1,), np.float32, "x"), lambda: DeviceBuffer(device, 4, "y"),
        lambda: stream.synchronize("waiting"), lambda: Graph(device, stream, lambda: None),
    ):  # fmt: skip
        with pytest.raises(DeviceError, match=r"'intruder', which did not open it"):
            in_a_thread(work)
    with pytest.raises(DeviceError, match=r"has a GPU open already"):
        Device()
    buffer.write(numbers)


def test_a_thread_or_process_that_ends_without_closing_ends_well(fake: FakeDriver) -> None:
    """pycuda would abort the process."""
    kept: list[Device] = []
    in_a_thread(lambda: kept.append(Device()))
    assert len(kept) == 1
    kept[0].bindings.cuDevicePrimaryCtxRelease(0)
    code = "from edge_ad.cuda.device import Device; device = Device(); print(device.facts.name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Fake GPU\n", "")


def test_what_is_written_is_read(device: Device, fake: FakeDriver) -> None:
    buffer = DeviceBuffer(device, 24, "numbers")
    assert buffer.pointer % 256 == 0
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer.write(numbers[:, ::-1])
    np.testing.assert_array_equal(buffer.read((2, 3), np.float32), numbers[:, ::-1])
    buffer.zero()
    assert not buffer.read((24,), np.uint8).any()
    with pytest.raises(DeviceError, match=r"numbers: 8 bytes for a buffer of 24 bytes"):
        buffer.write(numbers[0, :2])
    buffer.close()
    buffer.close()
    assert fake.live("device memory") == 0
    with pytest.raises(DeviceError, match=r"nothing any more"):
        buffer.read((24,), np.uint8)


def test_what_is_written_is_there_for_every_stream(device: Device) -> None:
    """Streams are in no order with the legacy one, on which pycuda copies."""
    stream, nines = Stream(device), np.full(4, 9, np.uint8)
    source, target = DeviceBuffer(device, 4, "a source"), DeviceBuffer(device, 4, "a target")
    for fill, value in ((lambda: source.write(nines), 9), (source.zero, 0)):
        fill()
        device.bindings.cuMemcpyDtoDAsync(target.pointer, source.pointer, 4, stream.handle)
        stream.synchronize("copying")
        assert target.read((4,), np.uint8).tolist() == 4 * [value]


def test_out_of_memory_says_how_much(device: Device, fake: FakeDriver) -> None:
    fake.memory(1 << 20)
    DeviceBuffer(device, 600_000, "the first")
    with pytest.raises(
        DeviceError,
        match=r"allocating the second: .*OUT_OF_MEMORY, 600000 .* 448576 of 1048576 free",
    ):
        DeviceBuffer(device, 600_000, "the second")
    DeviceBuffer(device, 400_000, "one that fits")


def test_measuring_the_memory_leaves_nothing_also_without_memory_for_it(
    device: Device, fake: FakeDriver
) -> None:
    fake.memory(1 << 20)
    assert copy_bandwidth(device, 500_000) > 0.0
    with pytest.raises(DeviceError, match=r"OUT_OF_MEMORY, 600000"):
        copy_bandwidth(device, 600_000)
    assert (fake.live("device memory"), fake.live("streams"), fake.live("events")) == (0, 0, 0)


@pytest.mark.parametrize("integrated", [False, True])
def test_mirrors(fake: FakeDriver, integrated: bool) -> None:
    fake.attribute(fake_driver.INTEGRATED, int(integrated))
    with Device() as device:
        stream = Stream(device)
        mirror = Mirror(device, (3, 5), np.float32, "a mirror")
        assert (mirror.pointer == mirror.host.ctypes.data) == integrated
        assert not mirror.host.any()
        mirror.host[:] = 7.0
        mirror.upload(stream)
        stream.synchronize("uploading")
        mirror.host[:] = 0.0 if not integrated else 7.0
        mirror.download(stream)
        stream.synchronize("downloading")
        assert (mirror.host == 7.0).all()
        copied = Mirror(device, (2,), np.float32, "a copied one", copied=True)
        assert copied.pointer != copied.host.ctypes.data
        copies = fake.calls("cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2")
        mirror.upload(stream)
        assert fake.calls("cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2") == copies + (not integrated)
        mirror.close()
        mirror.close()
        assert fake.live("page-locked") == 1
    assert (mirror.host == 7.0).all()  # still there, with what was in it


def test_a_download_is_there_once_the_stream_was_waited_for(device: Device) -> None:
    stream, mirror = Stream(device), Mirror(device, (4,), np.uint8, "bytes")
    mirror.host[:] = 9
    mirror.download(stream)
    assert (mirror.host == 9).all()
    stream.synchronize("downloading")
    assert (mirror.host == 0).all()


def test_memory_that_cannot_be_page_locked_is_told(fake: FakeDriver) -> None:
    fake.attribute(fake_driver.HOST_REGISTER_SUPPORTED, 0)
    with Device() as device, pytest.raises(DeviceError, match=r"Fake GPU .* cannot page-lock"):
        Mirror(device, (4,), np.uint8, "bytes")


def test_kernels_that_do_not_fit_are_told(device: Device, fake: FakeDriver) -> None:
    fake.fail("cuModuleLoadDataEx", fake_driver.NO_BINARY)
    with pytest.raises(
        DeviceError, match=r"NO_BINARY_FOR_GPU, the GPU is Fake GPU, sm_89; install kernels"
    ):
        Module(device, IMAGE)
    fake.fail("cuModuleLoadDataEx", fake_driver.INVALID_IMAGE)
    with pytest.raises(DeviceError, match=r"INVALID_IMAGE.*damaged"):
        Module(device, IMAGE)
    module = Module(device, IMAGE)
    with pytest.raises(DeviceError, match=r"kernel nothing: .*CUDA_ERROR_NOT_FOUND.*another version"):
        module.kernel("nothing", "P")


def test_a_launch_with_other_arguments_than_the_kernels_is_refused(device: Device) -> None:
    kernel = Module(device, IMAGE).kernel("regressors", "PPPii")
    with pytest.raises(DeviceError, match=r"launching regressors: .*CUDA_ERROR_INVALID_VALUE"):
        kernel.launch(Stream(device), (1, 1), 256, (0, 0, 0, 1, 1))


def test_a_pointer_to_nowhere_breaks_the_context_until_it_is_opened_anew(
    device: Device, fake: FakeDriver, capfd: pytest.CaptureFixture[str]
) -> None:
    stream, module = Stream(device), Module(device, IMAGE)
    buffer, mirror = DeviceBuffer(device, 16, "a buffer"), Mirror(device, (4,), np.uint8, "bytes")
    kernel = module.kernel("regressors", "PPPiiiP")
    kernel.launch(
        stream, (1, 1), 256, (buffer.pointer, 1 << 40, buffer.pointer, 1, 1, 1, buffer.pointer)
    )
    with pytest.raises(
        DeviceError, match=r"running it: .*CUDA_ERROR_ILLEGAL_ADDRESS; open the device again"
    ):
        stream.synchronize("running it")
    assert not device.usable()
    with pytest.raises(DeviceError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS"):
        DeviceBuffer(device, 16, "another")
    for owned in (buffer, mirror, stream, module):
        owned.close()
    again = device.reopen()
    assert (fake.live("contexts"), fake.live("device memory"), fake.live("streams")) == (1, 0, 0)
    fresh = DeviceBuffer(again, 4, "a fresh one")
    fresh.write(np.ones(1, np.float32))
    again.close()
    assert capfd.readouterr().err == ""  # pycuda tells there what it fails to free


def test_a_broken_context_that_another_library_holds_is_reset(device: Device, fake: FakeDriver) -> None:
    device.bindings.cuDevicePrimaryCtxRetain(0)
    kernel, buffer = Module(device, IMAGE).kernel("regressors", "PPPiiiP"), DeviceBuffer(device, 4, "x")
    fake.break_next_kernel()
    kernel.launch(Stream(device), (1, 1), 256, (*3 * [buffer.pointer], 1, 1, 1, buffer.pointer))
    assert not device.usable()
    with device.reopen() as again:
        DeviceBuffer(again, 4, "a fresh one").zero()
    assert fake.live("references") == 1  # the other library's
    device.bindings.cuDevicePrimaryCtxRelease(0)


def test_a_gpu_that_does_not_come_back_is_told(device: Device, fake: FakeDriver) -> None:
    fake.fail("cuStreamSynchronize", fake_driver.LAUNCH_FAILED)
    with pytest.raises(
        DeviceError, match=r"context that answers.*CUDA_ERROR_LAUNCH_FAILED.*restart edge-ad"
    ):
        device.reopen()


def test_a_graph_replays_what_was_captured(device: Device, fake: FakeDriver) -> None:
    stream, mirror = Stream(device), Mirror(device, (4,), np.uint8, "bytes")
    graph = Graph(device, stream, lambda: mirror.upload(stream))
    for value in (1, 2):
        mirror.host[:] = value
        graph.launch(stream)
        stream.synchronize("replaying")
        mirror.host[:] = 0
        mirror.download(stream)
        stream.synchronize("downloading")
        assert (mirror.host == value).all()
    graph.close()
    graph.close()
    assert fake.live("graphs") == 0
    with pytest.raises(DeviceError, match=r"graph is closed"):
        graph.launch(stream)


@pytest.mark.parametrize("forbidden", ["wait", "allocate", "raise"])
def test_what_cannot_be_in_a_graph_is_told_and_the_stream_lives_on(
    device: Device, forbidden: str
) -> None:
    stream, mirror = Stream(device), Mirror(device, (4,), np.uint8, "bytes")

    def enqueue() -> None:
        mirror.upload(stream)
        if forbidden == "wait":
            stream.synchronize("waiting within")
        elif forbidden == "allocate":
            DeviceBuffer(device, 8, "memory within")
        else:
            raise DeviceError("the network refuses")

    with pytest.raises(
        DeviceError,
        match=r"within: .*STREAM_CAPTURE_UNS.*; something of it cannot be in a CUDA graph|refuses",
    ):
        Graph(device, stream, enqueue)
    mirror.host[:] = 3
    mirror.upload(stream)
    stream.synchronize("uploading")
    Graph(device, stream, lambda: mirror.upload(stream))
