"""Registers, stack and spills of the CUDA kernels for every architecture.

    python calibration/studies/kernel_registers.py

Writes `calibration/cuda_kernels.txt`. Needs nvcc (`pip install 'cuda-toolkit[nvcc,cccl]'`), no GPU.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from edge_ad.gaussian.cuda.nvcc import compile_kernels, find_nvcc, report

REPORT = Path(__file__).resolve().parents[1] / "cuda_kernels.txt"


def main() -> None:
    """Compile and write."""
    nvcc = find_nvcc()
    if nvcc is None:
        sys.exit("no nvcc; pip install 'cuda-toolkit[nvcc,cccl]'")
    with tempfile.TemporaryDirectory() as directory:
        usage = compile_kernels(nvcc, Path(directory) / "mahalanobis.fatbin")
    REPORT.write_text(report(nvcc, usage), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
