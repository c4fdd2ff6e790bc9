"""Every kernel on made-up parts, in one program: what compute-sanitizer looks at.

    python every_kernel.py MAHALANOBIS PREPROCESS

Arguments are the compiled kernels of the two sources. Prints for each whether its results can be right.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from made_up_gaussians import good_features, good_local, local_head, tile
from preprocess_emulator import View, on_the_cpu
from real_gpu import GRID, engine_for

from edge_ad.cuda.device import Device
from edge_ad.cuda.stream import Stream
from edge_ad.preprocess.cuda.cameras import CameraPixels
from edge_ad.preprocess.cuda.launch import FrameLoader
from edge_ad.preprocess.cuda.plan import plan_preprocess

SIZE = (20, 24)  # of the network's pictures
CAMERAS = [
    CameraPixels("grey", (401, 603)),
    CameraPixels("top", (151, 202, 2), "yuv422_uyvy", located=True),
    CameraPixels("left", (33, 41, 3), "rgb8", located=True),
    CameraPixels("right", (401, 350), "mono12"),
]
GREY = [View("tiles", "grey", tiles=(2, 3), overlap=5), View("whole", "grey")]
VIEWS = [*GREY, View(roi=(5, 7, 180, 120), tiles=(1, 2)), View("b", "right"), View("c", "left")]
TILES = 6 + 1  # of GREY; the others' rows come after


def distances(device: Device, image: bytes) -> bool:
    """Whether all distances of a part of two tiles are numbers."""
    rng = np.random.default_rng(1)
    heads, local = [tile(rng, [(40, 40), (30, 64)])] * 2, [local_head(rng, GRID, 16, 16, 24)] * 2
    engine, network = engine_for(device, image, heads, local, graph=False)
    network["pooled"][:] = good_features(rng, heads, 1)[0]
    network["local"][:] = good_local(rng, local, 1)[0]
    found = engine.infer()
    assert engine.cells is not None
    numbers = bool(np.isfinite(found).all() and np.isfinite(engine.cells).all())
    engine.close()
    return numbers


def pictures(device: Device, image: bytes) -> bool:
    """Whether the rows of a grey camera are those that the CPU makes, and the others' not black."""
    rng = np.random.default_rng(2)
    frames = [
        rng.integers(0, 4096, one.shape).astype(np.uint16)
        if one.pixel_format == "mono12"
        else rng.integers(0, 256, one.shape).astype(np.uint8)
        for one in CAMERAS
    ]
    moved = np.array([[1.0, 0.02, 0.5], [-0.02, 1.0, 1.5]])
    loader = FrameLoader(device, image, plan_preprocess(VIEWS, CAMERAS, *SIZE))
    stream = Stream(device)
    loader.take(frames, [moved if one.located else None for one in CAMERAS])
    loader.upload(stream)
    loader.prepare(stream)
    stream.synchronize("the pictures")
    rows = np.empty((loader.plan.rows, *SIZE, 3), np.uint8)
    device.pycuda.memcpy_dtoh(rows, loader.pointer)
    stream.close()
    loader.close()
    expected = on_the_cpu(GREY, ["grey"], frames[:1], SIZE)
    same = np.array_equal(rows[:TILES], expected)
    return bool(same and (rows[TILES:].reshape(loader.plan.rows - TILES, -1).max(axis=1) > 0).all())


def main() -> None:
    """Run them."""
    mahalanobis, preprocess = (Path(path).read_bytes() for path in sys.argv[1:])
    with Device() as device:
        sys.stdout.write(f"{distances(device, mahalanobis)} {pictures(device, preprocess)}\n")


if __name__ == "__main__":
    main()
