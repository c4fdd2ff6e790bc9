"""What a graph of PyTorch copies between a device and the CPU: "meta" stands in for the GPU.

Whoever reads numbers of a tensor on "meta" raises; on a GPU that would be to wait for it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edge_ad.backbone.torch_graph import TorchGraph


class _Spy(TorchDispatchMode):
    """Counts what takes or gives tensors of more than one device."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed: Counter[str] = Counter()
        self.computed: Counter[str] = Counter()  # operations with results on each device

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, found)) if isinstance(x, torch.Tensor)]
        devices = {x.device.type for x in tensors}
        if len(devices) > 1:
            self.mixed[str(function)] += 1
        for device in devices:
            self.computed[device] += 1
        return found


def mixing(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Counter[str], int]:
    """How often each operation of a frame mixes devices, and how many were done on the device."""
    graph = TorchGraph(path, "meta")
    image = torch.empty(shape, dtype=dtype, device="meta")
    with torch.inference_mode(), _Spy() as spy:
        outputs = graph(image)
    assert {output.device.type for output in outputs.values()} == {"meta"}
    return spy.mixed, spy.computed["meta"]
