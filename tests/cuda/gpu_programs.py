"""Programs of edge_ad that run on the stand-ins for NVIDIA's driver and TensorRT."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_station import ENTRY

from edge_ad.cuda.binaries import BINARIES, MANIFEST

STANDIN = Path(__file__).resolve().parent / "standin"


def stand_in_for_tensorrt() -> None:
    """`import tensorrt` finds the stand-in, here and in programs that are started."""
    if not (BINARIES / MANIFEST).exists():
        pytest.skip("no kernels in this checkout; python -m edge_ad.cuda.build makes them")
    if str(STANDIN) not in sys.path:
        sys.path.insert(0, str(STANDIN))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(STANDIN), os.environ.get("PYTHONPATH", "")])


def edge_ad(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(
        [*ENTRY, *map(str, arguments)], capture_output=True, text=True, timeout=240, check=False
    )
