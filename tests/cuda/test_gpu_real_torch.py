"""PyTorch's network on a real GPU. Run by `pytest -m gpu` where there is a PyTorch for CUDA."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_backbone import write_tiny_backbone

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import load_backbone
from edge_ad.config import EMBEDDED_BACKBONE
from edge_ad.cuda.device import Device
from edge_ad.engines.gpu_engine import GpuFeatures

pytestmark = pytest.mark.gpu
FRAMES = 20


def test_features_are_openvinos_and_a_frame_neither_waits_nor_allocates() -> None:
    torch = pytest.importorskip("torch")
    from edge_ad.backbone.torch_cuda import TorchNetwork

    backbone = load_backbone(EMBEDDED_BACKBONE)
    expected = open_features(backbone, 3, 1, local=True, dim=8)
    rng = np.random.default_rng(0)
    with Device() as device:
        engine = GpuFeatures(device, TorchNetwork(device, backbone, 3, True, 8))
        assert not engine.captured
        engine.infer()
        reserved = torch.cuda.memory_reserved()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(FRAMES):
                engine.input[:] = rng.integers(0, 256, engine.input.shape, np.uint8)
                found = engine.infer()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.cuda.memory_reserved() == reserved
        expected.input[:] = engine.input
        scale = np.abs(expected.infer()).max()
        np.testing.assert_allclose(found, expected.infer(), rtol=1e-3, atol=1e-4 * scale)
        assert expected.local is not None
        scale = np.abs(expected.local).max()
        np.testing.assert_allclose(engine.local, expected.local, rtol=1e-3, atol=1e-4 * scale)
        engine.close()
        assert torch.cuda.memory_reserved() < reserved


BREAK = """
import ctypes, sys
from pathlib import Path
import torch
from edge_ad.backbone.spec import load_backbone
from edge_ad.backbone.torch_cuda import TorchNetwork
from edge_ad.cuda.device import Device
from edge_ad.engines.gpu_engine import GpuFeatures
from edge_ad.errors import DeviceError
backbone = load_backbone(Path(sys.argv[1]))
device = Device()
engine = GpuFeatures(device, TorchNetwork(device, backbone, 1, True, 5))
engine.infer()
torch.zeros(4, device="cuda").index_select(0, torch.tensor([1 << 20], device="cuda"))
try:
    engine.infer()
except DeviceError as error:
    print(str(error).count("\\n"), device.usable())
engine.close()
with device.reopen() as again:
    try:
        TorchNetwork(again, backbone, 1, True, 5)
    except DeviceError as error:
        print(error)
"""


def test_a_broken_context_leaves_the_process_alive(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write_tiny_backbone(tmp_path)
    command = [sys.executable, "-c", BREAK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "0 False"
    assert second.endswith("restart edge-ad")
