"""The GPU engines on a real GPU, with kernels compiled for it. Features are given: no network is needed.

Run by `pytest -m gpu -s tests/cuda/test_gpu_real.py` where there is a GPU, nvcc and edge_ad[cuda].
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_gaussians import (
    good_features,
    good_local,
    level_reference,
    local_head,
    local_reference,
    tile,
)
from real_gpu import GRID, compile_for_this_gpu, engine_for

from edge_ad.cuda.device import Device
from edge_ad.cuda.memory import DeviceBuffer
from edge_ad.errors import DeviceError
from edge_ad.gaussian.cuda.floor import EFFICIENTNET_B4, MOBILENET_V2
from edge_ad.gaussian.cuda.layout import Store

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The kernels for this GPU."""
    return compile_for_this_gpu(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=[False, True], ids=["spin", "blocking"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The machine's first GPU."""
    with Device(blocking=request.param) as opened:
        yield opened


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "stream"])
@pytest.mark.parametrize("store", ["f32", "f16"])
@pytest.mark.parametrize(("dims", "tiles"), [(EFFICIENTNET_B4, 1), (MOBILENET_V2, 24)])
def test_distances_are_numpys(
    device: Device, image: bytes, dims: tuple[int, ...], tiles: int, store: Store, graph: bool
) -> None:
    rng = np.random.default_rng(1)
    heads = [tile(rng, [(d, d) for d in dims]) for _ in range(tiles)]
    local = [local_head(rng, GRID, 48, 48, 64)] if tiles == 1 else None
    engine, network = engine_for(device, image, heads, local, graph, store)
    tolerance = 1e-5 if store == "f32" else 1e-4
    for x in good_features(rng, heads, 3):
        network["pooled"][:] = x
        if local is not None:
            network["local"][:] = near = good_local(rng, local, 1)[0]
        np.testing.assert_allclose(engine.infer(), level_reference(heads, x[None])[0], rtol=tolerance)
        if local is not None:
            assert engine.cells is not None
            expected = local_reference(local, GRID, near[None])[0]
            np.testing.assert_allclose(engine.cells, expected, rtol=tolerance)
    engine.close()


def test_frames_are_equal_bit_by_bit_in_a_graph_and_without(device: Device, image: bytes) -> None:
    rng = np.random.default_rng(2)
    heads, local = [tile(rng, [(d, d) for d in EFFICIENTNET_B4])], [local_head(rng, GRID, 48, 48, 64)]
    results = set()
    for graph in (True, False):
        engine, network = engine_for(device, image, heads, local, graph)
        network["pooled"][:] = good_features(np.random.default_rng(3), heads, 1)[0]
        network["local"][:] = good_local(np.random.default_rng(4), local, 1)[0]
        for _ in range(1000):
            distances = engine.infer().tobytes()
            assert engine.cells is not None
            results.add(distances + engine.cells.tobytes())
        engine.close()
    assert len(results) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_not_hidden(device: Device, image: bytes, value: float) -> None:
    rng = np.random.default_rng(5)
    heads, local = [tile(rng, [(40, 40), (64, 64)])], [local_head(rng, GRID, 16, 16, 0)]
    engine, network = engine_for(device, image, heads, local)
    network["pooled"][0, 50] = network["local"][0, 7, 3] = value
    found = engine.infer()
    assert engine.cells is not None
    assert np.isfinite(found).tolist() == [[True, False]]
    assert np.flatnonzero(~np.isfinite(engine.cells)).tolist() == [7]
    engine.close()


def test_out_of_memory_leaves_the_device_usable(device: Device) -> None:
    with pytest.raises(DeviceError, match=r"OUT_OF_MEMORY, \d+ bytes asked for, \d+ of \d+ free"):
        DeviceBuffer(device, 1 << 46, "more than there is")
    buffer = DeviceBuffer(device, 4, "a little")
    buffer.write(np.full(1, 5, np.int32))
    assert buffer.read((1,), np.int32).tolist() == [5]


BREAK = """
import sys
from pathlib import Path
import numpy as np
from edge_ad.cuda.device import Device
from edge_ad.cuda.memory import DeviceBuffer
from edge_ad.cuda.stream import Module, Stream
from edge_ad.errors import DeviceError
from edge_ad.gaussian.cuda.launch import REGRESSORS
device = Device()
stream, buffer = Stream(device), DeviceBuffer(device, 4096, "a buffer")
buffer.write(np.full(1024, 1, np.int32))
kernel = Module(device, Path(sys.argv[1]).read_bytes()).kernel("regressors", REGRESSORS)
kernel.launch(stream, (1, 1), 256, (buffer.pointer, 1 << 40, buffer.pointer, 1, 4, 4, buffer.pointer))
try:
    stream.synchronize("reading where nothing is")
except DeviceError as error:
    print("ILLEGAL_ADDRESS" in str(error), device.usable())
device = device.reopen()
buffer = DeviceBuffer(device, 4096, "another buffer")
buffer.zero()
print(buffer.read((4096,), np.uint8).any())
device.close()
"""


def test_after_an_illegal_address_the_device_comes_back(image: bytes, tmp_path: Path) -> None:
    (tmp_path / "kernels").write_bytes(image)
    command: list[Any] = [sys.executable, "-c", BREAK, tmp_path / "kernels"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True False\nFalse\n"), done.stderr
