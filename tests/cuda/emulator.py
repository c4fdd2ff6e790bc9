"""The kernels' sources compiled for the CPU, and plans run on them (see shim/shim.h)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_ad.gaussian.cuda.cells import CellsPlan, pack_cells
from edge_ad.gaussian.cuda.levels import LevelsPlan, pack_levels

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "edge_ad" / "gaussian" / "cuda"
ORDERS = ("forward", "reversed", "random:1", "random:2")
FLAGS = (
    "-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
    "-U_FORTIFY_SOURCE", "-fsanitize=alignment", "-fno-sanitize-recover=alignment",
)  # fmt: skip

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Levels:
    """Of each order and frame: distances [T, L], tickets."""

    distances: Floats
    tickets: NDArray[np.uint32]


@dataclass(frozen=True)
class Emulator:
    """A program that runs the kernels."""

    program: Path

    def levels(
        self,
        plan: LevelsPlan,
        heads: Sequence[Sequence[Any]],
        frames: NDArray[Any],
        orders: Sequence[str] = ORDERS,
        grid: int | None = None,
        block: int | None = None,
    ) -> Levels:
        """Results [orders, frames, ...] of features [frames, T, D]."""
        launch = [grid or plan.grid, block or plan.block, len(frames)]
        numbers = [len(plan.pairs), len(plan.table)]
        arrays = [plan.table, plan.pairs, *pack_levels(plan, heads), frames.astype(np.float32)]
        size = len(plan.table) + plan.tickets
        out = self._run("levels", orders, launch + numbers, arrays).reshape(
            len(orders), len(frames), size
        )
        first = len(plan.table)
        shape = (*out.shape[:2], plan.tiles, plan.levels)
        return Levels(out[..., :first].reshape(shape), out[..., first:].view("u4"))

    def cells(
        self,
        plan: CellsPlan,
        heads: Sequence[Any],
        frames: NDArray[Any],
        orders: Sequence[str] = ORDERS,
        grid: int | None = None,
        block: int | None = None,
    ) -> Floats:
        """Distances [orders, frames, T, P] of local features [frames, T, P, d]."""
        launch = [grid or plan.positions, block or plan.block, len(frames)]
        numbers = [plan.positions, plan.d, plan.view, plan.regressors, plan.tiles, plan.shared]
        arrays = [plan.table, *pack_cells(plan, heads), frames.astype(np.float32)]
        out = self._run("cells", orders, launch + numbers, arrays)
        return out.reshape(len(orders), len(frames), plan.tiles, plan.positions)

    def _run(
        self, what: str, orders: Sequence[str], numbers: Sequence[int], arrays: Sequence[NDArray[Any]]
    ) -> Floats:
        data = b"".join(np.int64(array.nbytes).tobytes() + array.tobytes() for array in arrays)
        command = [str(self.program), what, ",".join(orders), *map(str, numbers)]
        done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=120)
        if done.returncode:
            raise AssertionError(f"{what}: ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
        return np.frombuffer(done.stdout, np.float32)


def compile_for_cpu(source: Path, program: Path, kernels: Path = SOURCES) -> Emulator:
    """Compile a source against the shim. Where there is no g++: skipped, which fails under CI."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        pytest.skip("no g++: the kernels cannot be run on the CPU")
    include = [f"-I{HERE / 'shim'}", f"-I{kernels}"]
    command = [compiler, *FLAGS, *include, "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Emulator(program)
