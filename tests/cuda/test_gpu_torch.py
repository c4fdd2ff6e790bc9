"""Whole frames with PyTorch's network, on a stand-in for the driver: on the frame's stream, in no graph.

PyTorch computes on the CPU, in the memory that the stand-in has for the GPU's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from fake_driver import FakeDriver
from gpu_calibrated import DIM, IMAGE, Calibrated, calibrated
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone import torch_context, torch_cuda
from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.torch_cuda import TorchNetwork
from edge_ad.cuda.device import Device
from edge_ad.cuda.failure import libraries
from edge_ad.engines.gpu_engine import GpuFeatures, GpuScorer
from edge_ad.errors import DeviceError
from edge_ad.gaussian.cuda.launch import FrameScorer

pytestmark = pytest.mark.fake_driver


@contextmanager
def _on_stream(handle: int) -> Iterator[None]:
    """What was put there before is done first, as on a GPU; a stream in capture refuses."""
    (code,) = libraries()[1].cuStreamSynchronize(handle)
    if int(code):
        raise RuntimeError(f"CUDA error: {code.name}")
    yield


def _tensor_at(_: Any, pointer: int, shape: tuple[int, ...], kind: str) -> torch.Tensor:
    array = (ctypes.c_char * int(np.prod(shape) * np.dtype(kind).itemsize)).from_address(pointer)
    return torch.from_numpy(np.frombuffer(array, kind).reshape(shape))


@pytest.fixture(autouse=True)
def pytorch(fake_library: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its GPU is the stand-in's."""
    monkeypatch.setattr(torch_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(torch_cuda, "_tensor_at", _tensor_at)
    for name, stand_in in {
        "is_available": lambda: True,
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
        "ExternalStream": lambda handle: handle,
        "stream": _on_stream,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    yield
    torch_context._shared.clear()
    torch_context._kept.clear()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return write_tiny_backbone(tmp_path_factory.mktemp("tiny"))


def scorer(device: Device, made: Calibrated) -> GpuScorer:
    kernels = FrameScorer(device, IMAGE, made.heads, made.backbone.dim, made.local)
    network = TorchNetwork(device, made.backbone, made.batch, True, DIM)
    engine = GpuScorer(device, network, kernels, graph=True)
    engine.input[:] = made.pictures
    return engine


@pytest.mark.parametrize("local", [True, False])
def test_features_are_openvinos(device: Device, backbone: Backbone, local: bool) -> None:
    made = calibrated(backbone, 2)
    engine = GpuFeatures(device, TorchNetwork(device, backbone, 2, local, DIM))
    expected = open_features(backbone, 2, 1, local=local, dim=DIM)
    for pictures in (made.pictures, made.pictures[::-1]):
        engine.input[:] = expected.input[:] = pictures
        np.testing.assert_allclose(engine.infer(), expected.infer(), rtol=1e-4, atol=1e-5)
        assert (engine.local is None) == (expected.local is None)
        if local:
            np.testing.assert_allclose(engine.local, expected.local, rtol=1e-4, atol=1e-4)
    engine.close()


def test_a_frame_is_launched_and_never_captured(
    device: Device, fake: FakeDriver, backbone: Backbone
) -> None:
    made = calibrated(backbone, 2)
    captures, launches = fake.calls("cuStreamBeginCapture_v2"), fake.calls("cuLaunchKernel")
    engine = scorer(device, made)
    assert not engine.captured
    assert fake.calls("cuLaunchKernel") == launches + 4
    assert fake.calls("cuStreamBeginCapture_v2") == captures
    distances, cells, _ = made.expected()
    np.testing.assert_allclose(engine.infer(), distances, rtol=1e-3)
    np.testing.assert_allclose(engine.cells, cells, rtol=1e-3)
    assert list(engine.time_stages(2)) == ["upload", "backbone", "distances", "download"]
    assert len(engine.time_alone("distances", 2, 2)) == 2
    np.testing.assert_allclose(engine.infer(), distances, rtol=1e-3)
    engine.close()


def test_it_is_opened_again_after_a_device_was_closed_well(fake: FakeDriver, backbone: Backbone) -> None:
    made = calibrated(backbone, 1)
    found = []
    for _ in range(2):
        with Device() as device:
            engine = scorer(device, made)
            found.append(engine.infer().tobytes())
            engine.close()
    assert found[0] == found[1]


def test_after_a_broken_context_it_is_not_opened_again(fake: FakeDriver, backbone: Backbone) -> None:
    made = calibrated(backbone, 1)
    device = Device()
    engine = scorer(device, made)
    fake.break_next_kernel()
    with pytest.raises(DeviceError, match=r"running a frame .*ILLEGAL_ADDRESS"):
        engine.infer()
    engine.close()
    assert len(torch_context._kept) == 1
    with device.reopen() as again:
        with pytest.raises(DeviceError, match=r"cannot go on in a process .*; restart edge-ad"):
            TorchNetwork(again, backbone, 1, True, DIM)
        # Everything else may use it.
        with made.scorer(again) as other:
            np.testing.assert_allclose(other.infer(), made.expected()[0], rtol=1e-5)


def test_a_context_that_breaks_between_frames_is_told_as_pytorch_does(
    fake: FakeDriver, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = calibrated(backbone, 1)
    with Device() as device:
        engine = scorer(device, made)

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("CUDA error: unspecified launch failure\nmore")

        monkeypatch.setattr(torch.nn.functional, "conv2d", fail)
        with pytest.raises(DeviceError, match=r"tiny: running the network .*launch failure; open"):
            engine.infer()
        with pytest.raises(DeviceError, match=r"an earlier frame failed"):
            engine.infer()
        engine.close()
    assert not torch_context.lost()  # the context answers: it was not that
