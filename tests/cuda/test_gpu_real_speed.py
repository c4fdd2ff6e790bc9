"""How fast the kernels are on a real GPU, and what compute-sanitizer says of them.

Run by `pytest -m gpu -s tests/cuda/test_gpu_real_speed.py` where there is a GPU, nvcc and edge_ad[cuda].
Times are for a GPU that nobody else uses.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gpu_programs import edge_ad
from made_up_gaussians import good_features, local_head, tile
from real_gpu import GRID, compile_for_this_gpu, engine_for

from edge_ad.backbone.engine import Head
from edge_ad.bench.gpu import host_times
from edge_ad.cuda.bandwidth import copy_bandwidth, floor_us
from edge_ad.cuda.device import Device
from edge_ad.cuda.sources import SOURCES
from edge_ad.gaussian.cuda.floor import EFFICIENTNET_B4
from edge_ad.gaussian.cuda.layout import Store

pytestmark = pytest.mark.gpu

FRAMES = 10_000
PROGRAM = Path(__file__).parent / "every_kernel.py"
LEAST_US = 3.0  # of any launch


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The kernels for this GPU."""
    return compile_for_this_gpu(tmp_path_factory.mktemp("kernels"))


def b4(seed: int) -> list[list[Head]]:
    return [tile(np.random.default_rng(seed), [(d, d) for d in EFFICIENTNET_B4])]


def tell(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")


@pytest.mark.parametrize("store", ["f32", "f16"])
def test_the_kernel_is_near_what_memory_allows(image: bytes, store: Store) -> None:
    with Device() as device:
        engine, network = engine_for(device, image, b4(6), None, store=store)
        network["pooled"][:] = good_features(np.random.default_rng(7), b4(6), 1)[0]
        took = 1e3 * float(np.median(engine.time_alone("distances", 20, 500)))
        floor = floor_us(engine.bytes_per_frame["distances"], copy_bandwidth(device))
        tell(f"{device.facts.name}, {store}: {took:.2f} us, floor {floor:.2f} us")
        engine.close()
    assert took <= 1.5 * max(floor, LEAST_US)


def test_the_kernel_is_ten_times_as_fast_as_eager_torch(image: bytes) -> None:
    torch = pytest.importorskip("torch")
    heads = b4(8)
    x = good_features(np.random.default_rng(9), heads, 1)[0]
    with Device() as device:
        engine, network = engine_for(device, image, heads, None)
        network["pooled"][:] = x
        ours = 1e3 * float(np.median(engine.time_alone("distances", 20, 500)))
        distances = engine.infer().copy()
        engine.close()
    features = torch.from_numpy(x[0]).cuda()
    levels = [
        (one.offset, torch.from_numpy(one.mean).cuda(), torch.from_numpy(one.whitening).cuda())
        for one in heads[0]
    ]

    def eager() -> object:
        found = [
            torch.linalg.vector_norm(w @ (features[at : at + len(mean)] - mean))
            for at, mean, w in levels
        ]
        return torch.stack(found)

    np.testing.assert_allclose(eager().cpu().numpy(), distances[0], rtol=1e-4)  # type: ignore[attr-defined]
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(500):
        before.record()
        eager()
        after.record()
        after.synchronize()
        times.append(1e3 * before.elapsed_time(after))
    theirs = float(np.median(times))
    tell(f"eager torch {theirs:.1f} us, the kernel {ours:.2f} us")
    assert theirs >= 10 * ours


def test_a_graph_beats_stream_launches_and_frames_take_the_same_time(image: bytes) -> None:
    rng = np.random.default_rng(6)
    heads, local = b4(6), [local_head(rng, GRID, 48, 48, 64)]
    medians: dict[bool, float] = {}
    with Device(blocking=False) as device:
        for graph in (True, False):
            engine, _ = engine_for(device, image, heads, local, graph)
            host_times(lambda _, one=engine: one.infer(), 200)  # until clocks are up
            times = host_times(lambda _, one=engine: one.infer(), FRAMES)
            p50, p99 = np.percentile(times, [50, 99])
            medians[graph] = float(p50)
            tell(f"{device.facts.name}, {graph=}: p50 {p50:.1f} us, p99 / p50 {p99 / p50:.3f}")
            for stage, each in engine.time_stages(FRAMES).items():
                tell(f"  {stage}: {1e3 * np.median(each):.1f} us")
            assert p99 / p50 <= 1.2
            engine.close()
    assert medians[True] < medians[False]


def test_whole_frames_with_pytorchs_network(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    to = tmp_path / "bench.json"
    done = edge_ad("bench", "--gpu", "--engine", "torch", "--frames", FRAMES, "--json", to)
    assert done.returncode == 0, done.stderr
    tell(done.stdout)
    result = json.loads(to.read_text())
    assert result["engine"] == "torch-f32"
    assert result["captured"] is False
    assert "graph" not in done.stdout


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer_finds_nothing(image: bytes, tmp_path: Path, tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("no compute-sanitizer; pip install 'cuda-toolkit[sanitizer]'")
    for source, compiled in zip(SOURCES, (image, compile_for_this_gpu(tmp_path, 1)), strict=True):
        (tmp_path / source.name).write_bytes(compiled)
    kernels = [str(tmp_path / source.name) for source in SOURCES]
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, str(PROGRAM)]
    done = subprocess.run([*command, *kernels], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "True True" in done.stdout
