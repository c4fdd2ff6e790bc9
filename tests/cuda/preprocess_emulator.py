"""A plan of the preprocess kernels run on the CPU (see shim/shim.h)."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from emulator import HERE, ORDERS
from numpy.typing import NDArray

from edge_ad.preprocess import PartInput, Roi
from edge_ad.preprocess.cuda.plan import PreprocessPlan

SOURCES = HERE.parents[1] / "edge_ad" / "preprocess" / "cuda"
KERNELS = ("convert_pixels", "straighten", "halve_regions", "resize_tiles")
RESULTS = ("rows", "scratch", "faults")


@dataclass(frozen=True)
class View:
    """What a station says of a view."""

    name: str = "front"
    camera: str = "top"
    roi: Roi | None = None
    tiles: tuple[int, int] = (1, 1)
    overlap: int = 0


@dataclass(frozen=True)
class PreprocessEmulator:
    """A program that runs the kernels."""

    program: Path

    @staticmethod
    def barrier_after(text: str) -> int:
        """The line of the first barrier after the one line with this text."""
        lines = (SOURCES / "preprocess.cu").read_text(encoding="utf-8").splitlines()
        [at] = [i for i, line in enumerate(lines) if text in line]
        return next(i for i in range(at, len(lines)) if "__syncthreads()" in lines[i]) + 1

    def rows(
        self,
        plan: PreprocessPlan,
        frames: Sequence[NDArray[Any]],
        matrices: Sequence[NDArray[np.float64]] = (),
        orders: Sequence[str] = ORDERS,
        grid: int | None = None,
        block: int | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.uint32]]:
        """Rows [orders, rows, height, width, 3] and faults [orders, cameras] of frames and matrices."""
        raw = np.full(plan.sizes["raw"], 0xFF, np.uint8)
        for start, size, frame in zip(plan.starts, plan.frame_sizes, frames, strict=True):
            assert frame.nbytes == size
            raw[start : start + size] = np.ascontiguousarray(frame).reshape(-1).view(np.uint8)
        inputs = {"raw": raw, "matrices": np.zeros(plan.sizes["matrices"], np.uint8)}
        if matrices:
            inputs["matrices"] = np.array(matrices, np.float64)
        assert inputs["matrices"].nbytes == plan.sizes["matrices"]
        buffers = {**plan.constants, **inputs}
        buffers |= {name: np.zeros(plan.sizes[name], np.uint8) for name in RESULTS}
        places = {name: i for i, name in enumerate(buffers)}
        data = [np.int64(array.nbytes).tobytes() + array.tobytes() for array in buffers.values()]
        for launch in plan.launches:
            arguments = [places[a] if isinstance(a, str) else a for a in launch.arguments]
            head = [KERNELS.index(launch.kernel), grid or launch.grid[0], launch.grid[1]]
            head += [block or launch.block, launch.shared, len(arguments)]
            data.append(np.array(head + arguments, np.int64).tobytes())
        command = [str(self.program), ",".join(orders), str(len(buffers)), str(len(plan.launches))]
        done = subprocess.run(
            command, input=b"".join(data), capture_output=True, check=False, timeout=120
        )
        if done.returncode:
            raise AssertionError(f"ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
        out = np.frombuffer(done.stdout, np.uint8).reshape(len(orders), -1)
        rows = np.ascontiguousarray(out[:, : plan.sizes["rows"]]).view(
            np.float16 if plan.halves else np.uint8
        )
        faults = np.ascontiguousarray(out[:, plan.sizes["rows"] :]).view(np.uint32)
        return rows.reshape(len(orders), plan.rows, plan.height, plan.width, 3), faults


def on_the_cpu(
    views: Sequence[View],
    cameras: Sequence[str],
    images: Sequence[NDArray[np.uint8]],
    size: tuple[int, int],
    zones: Any = None,
) -> NDArray[np.uint8]:
    """Rows [rows, height, width, 3] as the daemon makes them."""
    count = sum(view.tiles[0] * view.tiles[1] for view in views)
    rows = np.zeros((count, *size, 3), np.uint8)
    part = PartInput(views, cameras, *size, zones=zones)
    part.fill(images, rows)
    part.close()
    return rows
