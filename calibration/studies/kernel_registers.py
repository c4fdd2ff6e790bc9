"""Registers, stack and spills of the CUDA kernels for every architecture, by both compilers.

    python calibration/studies/kernel_registers.py

Writes `calibration/cuda_kernels.txt`. Needs what `edge_ad.cuda.build` needs, no GPU.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from edge_ad.cuda.build import build_binaries
from edge_ad.cuda.usage import report
from edge_ad.errors import DeviceError

REPORT = Path(__file__).resolve().parents[1] / "cuda_kernels.txt"


def main() -> None:
    """Compile and write."""
    try:
        with tempfile.TemporaryDirectory() as directory:
            usage = build_binaries(Path(directory))
    except DeviceError as error:
        sys.exit(str(error))
    REPORT.write_text(report(usage), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
