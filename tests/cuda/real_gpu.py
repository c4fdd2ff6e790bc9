"""Engines on a real GPU whose features are given: no network is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from gpu_backbones import GivenFeatures, Shapes
from made_up_gaussians import width

from edge_ad.backbone.engine import Head, LocalHead
from edge_ad.cuda.device import Device
from edge_ad.cuda.nvcc import compile_kernels, find_nvcc
from edge_ad.cuda.sources import SOURCES
from edge_ad.engines.gpu_engine import GpuScorer
from edge_ad.gaussian.cuda.launch import FrameScorer
from edge_ad.gaussian.cuda.layout import Store

SIDE = 64  # of pictures that nobody looks at
GRID = (16, 16)


def compile_for_this_gpu(directory: Path, source: int = 0) -> bytes:
    """The kernels of one of SOURCES for the machine's first GPU; skipped without a compiler."""
    nvcc = find_nvcc()
    if nvcc is None:
        pytest.skip("no nvcc; pip install 'cuda-toolkit[nvcc,cccl]'")
    with Device() as device:
        major, minor = device.facts.compute_capability
    target = directory / f"{SOURCES[source].name}.fatbin"
    compile_kernels(nvcc, target, SOURCES[source].path, (10 * major + minor,))
    return target.read_bytes()


def engine_for(
    device: Device,
    image: bytes,
    heads: list[list[Head]],
    local: list[LocalHead] | None,
    graph: bool = True,
    store: Store = "f32",
) -> tuple[GpuScorer, GivenFeatures]:
    tiles = len(heads)
    shapes: Shapes = {"image": (tiles, SIDE, SIDE, 3), "pooled": (tiles, width(heads))}
    if local is not None:
        shapes["local"] = (tiles, *local[0].mean.shape)
    kernels = FrameScorer(device, image, heads, width(heads), local, store)
    network = GivenFeatures(device, shapes)
    return GpuScorer(device, network, kernels, graph), network
