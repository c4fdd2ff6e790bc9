"""PyTorch's network on a GPU, without one: what it says when PyTorch fails, or its context is lost.

PyTorch's CUDA calls are stand-ins, the CPU is the GPU; tests/cuda has whole frames of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone import torch_context, torch_cuda
from edge_ad.backbone.spec import Backbone
from edge_ad.backbone.torch_cuda import TorchNetwork
from edge_ad.errors import ArtifactError, DeviceError


class Device:
    """A `cuda.device.Device`, as far as PyTorch's network looks at it. `broken`: its context is."""

    def __init__(self) -> None:
        self.opened, self.broken = True, False
        self._held: list[tuple[Any, Any]] = []

    def usable(self) -> bool:
        return not self.broken

    def hold(self, handle: Any, free: Any = None) -> None:
        self._held.append((handle, free))

    def close(self) -> None:
        """Of a broken one nothing is freed."""
        while self._held and not self.broken:
            self._held.pop()[1]()
        self._held.clear()
        self.opened = False


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return write_tiny_backbone(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def emptied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """PyTorch sees a GPU, which is the CPU; how often its cache was emptied."""
    calls: list[str] = []
    monkeypatch.setattr(torch_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))
    yield calls
    torch_context._shared.clear()
    torch_context._kept.clear()


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def opened(device: Device, backbone: Backbone, local: bool = True) -> TorchNetwork:
    return TorchNetwork(device, backbone, 2, local, 5)


def test_shapes_are_those_of_the_backbone(backbone: Backbone) -> None:
    network = opened(Device(), backbone)
    assert network.shapes == {"image": (2, 64, 64, 3), "pooled": (2, 60), "local": (2, 16, 5)}
    assert list(opened(Device(), backbone, local=False).shapes) == ["image", "pooled"]
    assert not network.capturable


def test_nothing_is_computed_when_it_is_opened(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: set[str] = set()
    convolve = torch.nn.functional.conv2d

    def spy(x: torch.Tensor, *more: Any, **options: Any) -> torch.Tensor:
        devices.add(x.device.type)
        return convolve(x, *more, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", spy)
    opened(Device(), backbone)
    assert devices == {"meta"}


def test_a_graph_of_other_widths_is_refused(
    backbone: Backbone, tmp_path: Path, emptied: list[str]
) -> None:
    other = write_tiny_backbone(tmp_path, widths=(8, 12, 16, 25))
    (backbone.directory / "kept.onnx").write_bytes(backbone.onnx_path.read_bytes())
    backbone.onnx_path.write_bytes(other.onnx_path.read_bytes())
    try:
        with pytest.raises(ArtifactError, match=r"\[2,61\] for PyTorch, backbone.json says \[2,60\]"):
            opened(Device(), backbone)
    finally:
        (backbone.directory / "kept.onnx").rename(backbone.onnx_path)


ILLEGAL = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"
SAID = {
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has": "use fewer tiles",
    "CUDA error: no kernel image is available for execution on the device\nmore": "built for this GPU",
    "CUDA driver version is insufficient for CUDA runtime version": "update the NVIDIA driver",
    "The NVIDIA driver on your system is too old (found version 11040).": "update the NVIDIA driver",
    ILLEGAL: "restart edge-ad and see `dmesg`",
    "": "RuntimeError; open the engine again",
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("kind", [RuntimeError, torch.cuda.DeferredCudaCallError])
def test_what_pytorch_says_while_loading_is_told_with_a_remedy(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, emptied: list[str], said: str, kind: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", raising(kind(said)))
    device = Device()
    with pytest.raises(DeviceError) as found:
        opened(device, backbone)
    told = str(found.value)
    assert told.startswith(f"loading tiny onto the GPU: PyTorch {torch.__version__} says: {said[:20]}")
    assert SAID[said].replace("RuntimeError", kind.__name__) in told
    assert "\n" not in told
    assert emptied == ["emptied"]  # the weights are gone
    device.close()
    assert not torch_context.lost()


def test_every_call_to_pytorch_is_told(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError(ILLEGAL)
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", raising(error))
        with pytest.raises(DeviceError, match=r"looking for PyTorch's GPU: .*illegal.*; open"):
            opened(Device(), backbone)
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(DeviceError, match=r"sees no GPU; install"):
            opened(Device(), backbone)
    network = opened(Device(), backbone)
    monkeypatch.setattr(torch_cuda, "_tensor_at", raising(error))
    with pytest.raises(DeviceError, match=r"tiny: binding 'image' of \[2, 64, .*illegal.*; open"):
        network.bind({"image": 256, "pooled": 512, "local": 1024})
    monkeypatch.setattr(torch.cuda, "ExternalStream", raising(error))
    with pytest.raises(DeviceError, match=r"tiny: running the network on the GPU: .*illegal.*; open"):
        network.enqueue(1)


def test_memory_that_pytorch_would_copy_is_refused(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = opened(Device(), backbone)
    monkeypatch.setattr(torch_cuda, "_tensor_at", lambda *_: torch.zeros(1))
    with pytest.raises(DeviceError, match=r"copies 'image' instead of using it where it lies; install"):
        network.bind({"image": 256, "pooled": 512, "local": 1024})


def test_closing_gives_the_memory_back_once(backbone: Backbone, emptied: list[str]) -> None:
    device = Device()
    network = opened(device, backbone)
    network.close()
    network.close()
    assert emptied == ["emptied"]
    with pytest.raises(DeviceError, match="the engine is closed"):
        network.enqueue(1)
    device.close()
    assert not torch_context.lost()
    opened(Device(), backbone).close()


def test_after_a_broken_device_nothing_is_freed_and_nothing_opened(
    backbone: Backbone, emptied: list[str]
) -> None:
    device = Device()
    network, other = opened(device, backbone), opened(Device(), backbone)
    device.broken = True
    network.close()
    assert emptied == []
    (kept,) = torch_context._kept
    assert isinstance(kept, tuple)
    assert kept[0] is not None  # the weights are not destroyed
    for _ in range(2):  # while the device is there, and when it is closed
        with pytest.raises(DeviceError, match=r"cannot go on in a process .*; restart edge-ad"):
            opened(Device(), backbone)
        with pytest.raises(DeviceError, match=r"restart edge-ad"):
            other.enqueue(1)
        device.close()
    other.close()  # its own device seems well, but the context is one
    assert emptied == []


@pytest.mark.parametrize("broken", [True, False])
def test_a_device_that_is_closed_first_says_whether_it_broke(
    backbone: Backbone, emptied: list[str], broken: bool
) -> None:
    device = Device()
    network = opened(device, backbone)
    device.broken = broken
    device.close()
    network.close()
    assert torch_context.lost() == broken
    assert emptied == ([] if broken else ["emptied"])


def test_a_cache_that_cannot_be_emptied_is_a_lost_context(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = opened(Device(), backbone)
    monkeypatch.setattr(torch.cuda, "empty_cache", raising(RuntimeError(ILLEGAL)))
    network.close()
    assert torch_context.lost()
